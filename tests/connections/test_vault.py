"""The Vault resolver, against a small server that answers as Vault's documentation describes."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority, replace_file
from fake_vault import FakeVault, vault_server
from manual_clock import ManualClock
from stream_server import answering, stream_server

from waitd.connections.vault import VaultLocation, VaultResolver
from waitd.connections.vault_api import VaultApi
from waitd.connections.vault_auth import AUTH_METHODS, VaultCredentials, VaultToken
from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.outgoing import EgressGuard

FIELDS = {
    "conn_type": "http",
    "host": "api.example",
    "login": "u",
    "password": "planted",
    "extra": '{"a": 1}',
}


@pytest.fixture
async def vault(clock: ManualClock) -> AsyncIterator[FakeVault]:
    async with vault_server(clock) as running:
        running.secrets["secret/data/connections/api"] = FIELDS
        yield running


@asynccontextmanager
async def open_resolver(
    vault: FakeVault,
    auth_method: str = "approle",
    credentials: VaultCredentials | None = None,
    **location: Any,
) -> AsyncIterator[VaultResolver]:
    credentials = credentials or VaultCredentials(role_id=vault.role_id, secret_id=vault.secret_id)
    async with VaultResolver(
        VaultLocation(vault.url, **location),
        AUTH_METHODS[auth_method](credentials),
        EgressGuard(),
        now=vault.now,
    ) as resolver:
        yield resolver


async def lookup(vault: FakeVault, conn_id: str, *auth: Any, **location: Any) -> Connection:
    """Looks the connection up once, with a new resolver."""
    async with open_resolver(vault, *auth, **location) as resolver:
        return await resolver.lookup(conn_id)


async def test_a_secret_of_fields_is_a_connection(vault: FakeVault) -> None:
    api = await lookup(vault, "api")
    assert (api.host, api.login, api.password, api.extra) == ("api.example", "u", "planted", {"a": 1})


async def test_a_secret_with_a_uri_is_a_connection(vault: FakeVault) -> None:
    vault.secrets["secret/data/connections/uri"] = {"conn_uri": "http://u:p%40@h.example:81/https"}
    connection = await lookup(vault, "uri")
    assert (connection.base_url(), connection.password) == ("https://h.example:81", "p@")


@pytest.mark.parametrize(
    ("secret", "location", "conn_id"),
    [
        (
            "kv/team/data/air/flow/team/prod",
            {"mount_point": "/kv/team/", "connections_path": "air/flow/"},
            "team/prod",
        ),
        ("secret/data/api", {"connections_path": ""}, "api"),
    ],
)
async def test_mount_point_and_path_are_settings_and_a_conn_id_may_have_slashes(
    vault: FakeVault, secret: str, location: dict[str, str], conn_id: str
) -> None:
    vault.secrets[secret] = {"conn_uri": "http://h"}
    assert (await lookup(vault, conn_id, **location)).host == "h"


@pytest.mark.parametrize(
    "conn_id", ["missing", "../api", "a/../../api", "..", ".", "/api", "a//b", "a\\..\\b"]
)
async def test_a_missing_secret_or_invalid_path_is_unknown(vault: FakeVault, conn_id: str) -> None:
    with pytest.raises(UnknownConnection):
        await lookup(vault, conn_id)
    assert not any(".." in call for call in vault.calls)


async def test_a_namespace_is_sent(vault: FakeVault) -> None:
    vault.namespace = "team"
    assert (await lookup(vault, "api", namespace="team")).host == "api.example"


async def test_a_token_is_obtained_once_and_renewed_before_it_expires(
    vault: FakeVault, clock: ManualClock
) -> None:
    async with open_resolver(vault) as resolver:
        for _ in range(3):
            await resolver.lookup("api")
        assert vault.calls.count("POST auth/approle/login") == 1
        clock.at += vault.lease * 0.7
        await resolver.lookup("api")
        assert vault.calls.count("POST auth/token/renew-self") == 1
        clock.at += vault.lease * 0.5  # past the first lease's end
        await resolver.lookup("api")
    assert vault.calls.count("POST auth/approle/login") == 1


async def test_a_token_that_cannot_be_renewed_is_replaced_by_a_new_login(
    vault: FakeVault, clock: ManualClock
) -> None:
    vault.renewable = False
    async with open_resolver(vault) as resolver:
        await resolver.lookup("api")
        clock.at += vault.lease * 2
        await resolver.lookup("api")
    assert vault.calls.count("POST auth/approle/login") == 2
    assert vault.calls.count("POST auth/token/renew-self") == 0


async def test_a_refused_renewal_leads_to_a_new_login(vault: FakeVault, clock: ManualClock) -> None:
    async with open_resolver(vault) as resolver:
        await resolver.lookup("api")
        vault.revoke_all()
        clock.at += vault.lease * 0.7
        await resolver.lookup("api")
    assert vault.calls.count("POST auth/approle/login") == 2


async def test_a_revoked_token_leads_to_a_new_login_at_once(vault: FakeVault) -> None:
    async with open_resolver(vault) as resolver:
        await resolver.lookup("api")
        vault.revoke_all()
        assert (await resolver.lookup("api")).host == "api.example"
    assert vault.calls.count("POST auth/approle/login") == 2


async def test_kubernetes_reads_the_service_accounts_token_at_each_login(
    vault: FakeVault, tmp_path: Path
) -> None:
    jwt = tmp_path / "token"
    jwt.write_text("service-account-jwt\n")
    credentials = VaultCredentials(kubernetes_role="waitd", kubernetes_jwt_path=jwt)
    async with open_resolver(vault, "kubernetes", credentials) as resolver:
        assert (await resolver.lookup("api")).host == "api.example"
        vault.revoke_all()
        vault.kubernetes_jwt = "rotated"
        jwt.write_text("rotated")
        assert (await resolver.lookup("api")).host == "api.example"


async def test_a_missing_service_account_token_is_named(vault: FakeVault, tmp_path: Path) -> None:
    credentials = VaultCredentials(kubernetes_role="waitd", kubernetes_jwt_path=tmp_path / "none")
    with pytest.raises(ConnectionUnavailable, match="cannot be read: FileNotFoundError"):
        await lookup(vault, "api", "kubernetes", credentials)


async def test_a_token_is_looked_up_and_renewed(vault: FakeVault, clock: ManualClock) -> None:
    credentials = VaultCredentials(token=vault.issue())
    async with open_resolver(vault, "token", credentials) as resolver:
        await resolver.lookup("api")
        clock.at += vault.lease * 0.7
        await resolver.lookup("api")
        clock.at += vault.lease * 0.5
        await resolver.lookup("api")
    assert vault.calls.count("POST auth/token/renew-self") == 1


async def test_a_wrong_token_is_unavailable(vault: FakeVault) -> None:
    with pytest.raises(ConnectionUnavailable, match="answered 403") as raised:
        await lookup(vault, "api", "token", VaultCredentials(token="planted"))
    assert "planted" not in str(raised.value)


async def test_a_sealed_vault_is_unavailable(vault: FakeVault) -> None:
    vault.sealed = True
    with pytest.raises(ConnectionUnavailable, match="answered 503"):
        await lookup(vault, "api")


async def test_an_unreachable_vault_is_unavailable(vault: FakeVault) -> None:
    vault.url = "http://127.0.0.1:1"
    with pytest.raises(ConnectionUnavailable, match="could not connect to Vault"):
        await lookup(vault, "api")


@pytest.mark.parametrize(
    "secret", [{"host": "h", "planted": 1}, {"conn_uri": "planted"}, {"port": "planted"}]
)
async def test_an_invalid_secret_is_named_but_not_quoted(vault: FakeVault, secret: dict[str, Any]) -> None:
    vault.secrets["secret/data/connections/odd"] = secret
    with pytest.raises(ConnectionUnavailable, match="odd in Vault cannot be read") as raised:
        await lookup(vault, "odd")
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize(
    ("auth_method", "setting"),
    [("token", "vault_token"), ("approle", "vault_role_id"), ("kubernetes", "vault_kubernetes_role")],
)
def test_a_missing_setting_of_an_auth_method_is_named(auth_method: str, setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        AUTH_METHODS[auth_method](VaultCredentials())


def test_no_repr_shows_a_secret() -> None:
    shown = repr(VaultCredentials(token="planted", secret_id="planted")) + repr(
        VaultToken("planted", 1.0, True)
    )
    assert "planted" not in shown


async def test_a_private_authority_is_trusted_and_its_file_read_again(tmp_path: Path) -> None:
    authority, other = (Authority(tmp_path / name) for name in ("this", "other"))
    authority.issue()
    handler = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}")
    trusted = tmp_path / "trusted.pem"
    replace_file(trusted, other.file.read_bytes())
    async with (
        stream_server(handler, tls=authority.server_context()) as port,
        VaultApi(f"https://localhost:{port}", "", str(trusted), EgressGuard()) as api,
    ):
        with pytest.raises(ConnectionUnavailable, match="not trusted"):
            await api.request("GET", "sys/health")
        replace_file(trusted, authority.file.read_bytes())
        assert (await api.request("GET", "sys/health")).status == 200
