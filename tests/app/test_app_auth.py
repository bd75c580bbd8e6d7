"""The API's guard, built from settings, and addresses that require authentication."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from issuer_endpoint import AUDIENCE, issuer_endpoint

from waitd.app.auth import ApiGuard, check_bind, open_guard
from waitd.app.run import serve
from waitd.core.auth.api_key import format_key
from waitd.core.auth.principal import LOOPBACK_PRINCIPAL, Role
from waitd.core.errors import WaitdError
from waitd.core.waits.audit import Caller
from waitd.engine.clock import SystemClock
from waitd.outgoing import Outgoing
from waitd.ports import NewKey
from waitd.settings import Settings
from waitd.stores import Database, Store

TOKEN = format_key("first", "s" * 43)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store(await Database.open("sqlite+aiosqlite://"), destination_of=lambda _, __: "")
    yield store
    await store.close()


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"{TOKEN} admin\n")
    return file


async def opened(store: Store, **settings: Any) -> ApiGuard:
    async with open_guard(Settings(**settings), store, Outgoing()) as door:
        return door


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "waitd.example.org:0"])
def test_off_loopback_it_does_not_start_without_authentication_and_says_what_to_set(
    bind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert serve(Settings(bind=bind, state_dir=tmp_path)) == 1
    said = capfd.readouterr().err
    assert all(name in said for name in ("WAITD_API_KEYS_FILE", "WAITD_OIDC_ISSUER", "keys create --offline"))
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WaitdError):
        check_bind(Settings(bind=bind, authentication=False, api_keys_file=tmp_path / "keys"))


def test_with_authentication_it_may_listen_anywhere(keys_file: Path) -> None:
    check_bind(Settings(bind="0.0.0.0:0", api_keys_file=keys_file))
    check_bind(Settings(bind="0.0.0.0:0", oidc_issuer="https://id.example", oidc_audience="waitd"))
    for bind in ("127.0.0.1:0", "localhost:0", "[::1]:0"):
        check_bind(Settings(bind=bind))


async def test_on_loopback_nobody_is_asked_unless_that_is_set(store: Store, keys_file: Path) -> None:
    assert (await opened(store)).authenticator is None
    door = await opened(store, api_keys_file=keys_file)
    assert door.authenticator is not None
    found = door.authenticator.cached_fresh(TOKEN)
    assert found is not None
    assert (found.name, found.role) == ("key:first", Role.ADMIN)
    assert (await opened(store, api_keys_file=keys_file, authentication=False)).authenticator is None


async def test_nobody_could_come_in(store: Store, keys_file: Path) -> None:
    keys_file.write_text(f"{TOKEN} admin expires=2020-01-01T00:00:00Z\n")  # noqa: ASYNC240 - a test may
    for settings in ({"api_keys_file": keys_file}, {"authentication": True}):
        with pytest.raises(WaitdError, match="no valid API key"):
            await opened(store, **settings)


async def test_keys_of_the_store_are_enough(store: Store) -> None:
    made = await (await opened(store)).keyring.create(
        NewKey(Role.ADMIN, "default"), Caller(LOOPBACK_PRINCIPAL, "")
    )
    door = await opened(store, authentication=True)
    assert door.authenticator is not None
    assert door.authenticator.cached_fresh(made.token) == made.key.principal


async def test_the_issuer_of_the_settings_is_asked(store: Store) -> None:
    async with issuer_endpoint() as provider:
        settings = Settings(
            oidc_issuer=provider.url,
            oidc_audience=AUDIENCE,
            oidc_roles={"waitd-users": "submitter"},
            oidc_namespace_claim="team",
        )
        token = provider.token(provider.claims(SystemClock.now(), team="team_a"))
        async with open_guard(settings, store, Outgoing()) as door:
            assert door.authenticator is not None
            assert door.authenticator.cached_fresh(token) is None
            principal = await door.authenticator.principal(token)
            assert (principal.name, principal.role, principal.namespace) == (
                "oidc:u1",
                Role.SUBMITTER,
                "team_a",
            )
            assert door.authenticator.cached_fresh(token) is principal


async def test_namespaces_may_name_what_the_settings_say(store: Store) -> None:
    rules = (await opened(store, namespaces={"team_a": {"conn_ids": ["team_a_*"]}})).namespaces.rules(
        "team_a"
    )
    assert rules is not None
    assert rules.allows_connection("TEAM_A_API")
    assert not rules.allows_host("example.org")
    assert (await opened(store)).namespaces.rules("team_a") is None
