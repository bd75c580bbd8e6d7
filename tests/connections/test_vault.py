"""The Vault resolver, against a small server that answers as Vault's documentation describes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from fake_vault import FakeVault, vault_server

from waitd.connections.vault import VaultLocation, VaultResolver
from waitd.connections.vault_auth import AUTH_METHODS, VaultCredentials, VaultToken
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.outgoing import Outgoing

FIELDS = {
    "conn_type": "http",
    "host": "api.example",
    "login": "u",
    "password": "planted",
    "extra": '{"a": 1}',
}


@dataclass
class Clock:
    at: float = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
async def vault(clock: Clock) -> AsyncIterator[FakeVault]:
    async with vault_server(clock) as running:
        running.secrets["secret/data/connections/api"] = FIELDS
        yield running


@asynccontextmanager
async def resolver(
    vault: FakeVault, way: str = "approle", credentials: VaultCredentials | None = None, **place: Any
) -> AsyncIterator[VaultResolver]:
    given = credentials or VaultCredentials(role_id=vault.role_id, secret_id=vault.secret_id)
    made = VaultResolver(
        VaultLocation(vault.url, **place), AUTH_METHODS[way](given), Outgoing(), now=vault.now
    )
    async with made as opened:
        yield opened


async def test_a_secret_of_fields_is_a_connection(vault: FakeVault) -> None:
    async with resolver(vault) as resolved:
        found = await resolved.lookup("api")
    assert (found.host, found.login, found.password, found.extra) == ("api.example", "u", "planted", {"a": 1})


async def test_a_secret_with_a_uri_is_a_connection(vault: FakeVault) -> None:
    vault.secrets["secret/data/connections/uri"] = {"conn_uri": "http://u:p%40@h.example:81/https"}
    async with resolver(vault) as resolved:
        found = await resolved.lookup("uri")
    assert (found.base_url(), found.password) == ("https://h.example:81", "p@")


async def test_mount_point_and_path_are_settings_and_a_conn_id_may_have_slashes(vault: FakeVault) -> None:
    vault.secrets["kv/team/data/air/flow/team/prod"] = {"conn_uri": "http://h"}
    async with resolver(vault, mount_point="/kv/team/", connections_path="air/flow/") as resolved:
        assert (await resolved.lookup("team/prod")).host == "h"


async def test_an_empty_path_means_the_mount_itself(vault: FakeVault) -> None:
    vault.secrets["secret/data/api"] = {"conn_uri": "http://direct"}
    async with resolver(vault, connections_path="") as resolved:
        assert (await resolved.lookup("api")).host == "direct"


@pytest.mark.parametrize(
    "conn_id", ["missing", "../api", "a/../../api", "..", ".", "/api", "a//b", "a\\..\\b"]
)
async def test_a_missing_secret_or_invalid_path_is_unknown(vault: FakeVault, conn_id: str) -> None:
    async with resolver(vault) as resolved:
        with pytest.raises(UnknownConnection):
            await resolved.lookup(conn_id)
    assert not any(".." in call for call in vault.calls)


async def test_a_namespace_is_sent(vault: FakeVault) -> None:
    vault.namespace = "team"
    async with resolver(vault, namespace="team") as resolved:
        assert (await resolved.lookup("api")).host == "api.example"


async def test_a_token_is_obtained_once_and_renewed_before_it_expires(vault: FakeVault, clock: Clock) -> None:
    async with resolver(vault) as resolved:
        for _ in range(3):
            await resolved.lookup("api")
        assert vault.calls.count("POST auth/approle/login") == 1
        clock.at += vault.lease * 0.7
        await resolved.lookup("api")
        assert vault.calls.count("POST auth/token/renew-self") == 1
        clock.at += vault.lease * 0.5  # past the first lease's end
        await resolved.lookup("api")
    assert vault.calls.count("POST auth/approle/login") == 1


async def test_a_token_that_cannot_be_renewed_is_replaced_by_a_new_login(
    vault: FakeVault, clock: Clock
) -> None:
    vault.renewable = False
    async with resolver(vault) as resolved:
        await resolved.lookup("api")
        clock.at += vault.lease * 2
        await resolved.lookup("api")
    assert vault.calls.count("POST auth/approle/login") == 2
    assert vault.calls.count("POST auth/token/renew-self") == 0


async def test_a_refused_renewal_leads_to_a_new_login(vault: FakeVault, clock: Clock) -> None:
    async with resolver(vault) as resolved:
        await resolved.lookup("api")
        vault.revoke_all()
        clock.at += vault.lease * 0.7
        await resolved.lookup("api")
    assert vault.calls.count("POST auth/approle/login") == 2


async def test_a_revoked_token_leads_to_a_new_login_at_once(vault: FakeVault) -> None:
    async with resolver(vault) as resolved:
        await resolved.lookup("api")
        vault.revoke_all()
        assert (await resolved.lookup("api")).host == "api.example"
    assert vault.calls.count("POST auth/approle/login") == 2


async def test_kubernetes_reads_the_service_accounts_token_at_each_login(
    vault: FakeVault, tmp_path: Path
) -> None:
    jwt = tmp_path / "token"
    jwt.write_text("service-account-jwt\n")
    credentials = VaultCredentials(kubernetes_role="waitd", kubernetes_jwt_path=jwt)
    async with resolver(vault, "kubernetes", credentials) as resolved:
        assert (await resolved.lookup("api")).host == "api.example"
        vault.revoke_all()
        vault.kubernetes_jwt = "rotated"
        jwt.write_text("rotated")
        assert (await resolved.lookup("api")).host == "api.example"


async def test_a_missing_service_account_token_is_named(vault: FakeVault, tmp_path: Path) -> None:
    credentials = VaultCredentials(kubernetes_role="waitd", kubernetes_jwt_path=tmp_path / "none")
    async with resolver(vault, "kubernetes", credentials) as resolved:
        with pytest.raises(ConnectionUnavailable, match="cannot be read: FileNotFoundError"):
            await resolved.lookup("api")


async def test_a_token_is_looked_up_and_renewed(vault: FakeVault, clock: Clock) -> None:
    credentials = VaultCredentials(token=vault.issue())
    async with resolver(vault, "token", credentials) as resolved:
        await resolved.lookup("api")
        clock.at += vault.lease * 0.7
        await resolved.lookup("api")
        clock.at += vault.lease * 0.5
        await resolved.lookup("api")
    assert vault.calls.count("POST auth/token/renew-self") == 1


async def test_a_wrong_token_is_unavailable(vault: FakeVault) -> None:
    async with resolver(vault, "token", VaultCredentials(token="planted")) as resolved:
        with pytest.raises(ConnectionUnavailable, match="answered 403") as raised:
            await resolved.lookup("api")
    assert "planted" not in str(raised.value)


async def test_a_sealed_vault_is_unavailable(vault: FakeVault) -> None:
    vault.sealed = True
    async with resolver(vault) as resolved:
        with pytest.raises(ConnectionUnavailable, match="answered 503"):
            await resolved.lookup("api")


async def test_an_unreachable_vault_is_unavailable() -> None:
    place, login = (
        VaultLocation("http://127.0.0.1:1"),
        AUTH_METHODS["token"](VaultCredentials(token="planted")),
    )
    async with VaultResolver(place, login, Outgoing(), now=Clock()) as resolved:
        with pytest.raises(ConnectionUnavailable, match="could not connect to Vault"):
            await resolved.lookup("api")


@pytest.mark.parametrize(
    "secret", [{"host": "h", "planted": 1}, {"conn_uri": "planted"}, {"port": "planted"}]
)
async def test_an_invalid_secret_is_named_but_not_quoted(vault: FakeVault, secret: dict[str, Any]) -> None:
    vault.secrets["secret/data/connections/odd"] = secret
    async with resolver(vault) as resolved:
        with pytest.raises(ConnectionUnavailable, match="odd in Vault cannot be read") as raised:
            await resolved.lookup("odd")
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize(
    ("way", "setting"),
    [("token", "vault_token"), ("approle", "vault_role_id"), ("kubernetes", "vault_kubernetes_role")],
)
def test_a_missing_setting_of_an_auth_method_is_named(way: str, setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        AUTH_METHODS[way](VaultCredentials())


def test_no_repr_shows_a_secret() -> None:
    shown = repr(VaultCredentials(token="planted", secret_id="planted")) + repr(
        VaultToken("planted", 1.0, True)
    )
    assert "planted" not in shown
