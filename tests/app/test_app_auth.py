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
from waitd.outgoing import EgressGuard
from waitd.ports import NewKey
from waitd.settings import Settings
from waitd.stores import Store, open_database

TOKEN = format_key("first", "s" * 43)


@pytest.fixture
async def store() -> AsyncIterator[Store]:
    store = Store(await open_database("sqlite+aiosqlite://"), destination_of=lambda _, __: "")
    yield store
    await store.close()


@pytest.fixture
def keys_file(tmp_path: Path) -> Path:
    file = tmp_path / "keys"
    file.write_text(f"{TOKEN} admin\n")
    return file


async def opened(store: Store, **settings: Any) -> ApiGuard:
    async with open_guard(Settings(**settings), store, EgressGuard(), lambda: 0.0) as guard:
        return guard


@pytest.mark.parametrize("bind", ["0.0.0.0:0", "[::]:0", "10.0.0.1:0", "waitd.example.org:0"])
def test_a_daemon_off_loopback_does_not_start_without_authentication_and_says_what_to_set(
    bind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert serve(Settings(bind=bind, state_dir=tmp_path)) == 1
    error = capfd.readouterr().err
    assert all(
        name in error for name in ("WAITD_API_KEYS_FILE", "WAITD_OIDC_ISSUER", "keys create --offline")
    )
    assert list(tmp_path.iterdir()) == []
    with pytest.raises(WaitdError):
        check_bind(Settings(bind=bind, authentication=False, api_keys_file=tmp_path / "keys"))


def test_a_daemon_with_authentication_may_listen_anywhere(keys_file: Path) -> None:
    check_bind(Settings(bind="0.0.0.0:0", api_keys_file=keys_file))
    check_bind(Settings(bind="0.0.0.0:0", oidc_issuer="https://id.example", oidc_audience="waitd"))
    for bind in ("127.0.0.1:0", "localhost:0", "[::1]:0"):
        check_bind(Settings(bind=bind))


async def test_callers_on_loopback_need_not_authenticate_unless_that_is_set(
    store: Store, keys_file: Path
) -> None:
    assert (await opened(store)).authenticator is None
    guard = await opened(store, api_keys_file=keys_file)
    assert guard.authenticator is not None
    principal = guard.authenticator.cached_fresh(TOKEN)
    assert principal is not None
    assert (principal.name, principal.role) == ("key:first", Role.ADMIN)
    assert (await opened(store, api_keys_file=keys_file, authentication=False)).authenticator is None


async def test_a_daemon_without_a_valid_key_does_not_start(store: Store, keys_file: Path) -> None:
    keys_file.write_text(f"{TOKEN} admin expires=2020-01-01T00:00:00Z\n")  # noqa: ASYNC240 - blocks only this test
    for settings in ({"api_keys_file": keys_file}, {"authentication": True}):
        with pytest.raises(WaitdError, match="no valid API key"):
            await opened(store, **settings)


async def test_keys_of_the_store_are_sufficient(store: Store) -> None:
    created = await (await opened(store)).keyring.create(
        NewKey(Role.ADMIN, "default"), Caller(LOOPBACK_PRINCIPAL, "")
    )
    guard = await opened(store, authentication=True)
    assert guard.authenticator is not None
    assert guard.authenticator.cached_fresh(created.token) == created.key.principal


async def test_tokens_of_the_issuer_in_the_settings_are_accepted(store: Store) -> None:
    async with issuer_endpoint() as provider:
        settings = Settings(
            oidc_issuer=provider.url,
            oidc_audience=AUDIENCE,
            oidc_roles={"waitd-users": "submitter"},
            oidc_namespace_claim="team",
        )
        token = provider.token(provider.claims(SystemClock.now(), team="team_a"))
        async with open_guard(settings, store, EgressGuard(), lambda: 0.0) as guard:
            assert guard.authenticator is not None
            assert guard.authenticator.cached_fresh(token) is None
            principal = await guard.authenticator.principal(token)
            assert (principal.name, principal.role, principal.namespace) == (
                "oidc:u1",
                Role.SUBMITTER,
                "team_a",
            )
            assert guard.authenticator.cached_fresh(token) is principal


async def test_namespaces_have_the_rules_of_the_settings(store: Store) -> None:
    rules = (await opened(store, namespaces={"team_a": {"conn_ids": ["team_a_*"]}})).namespaces.rules(
        "team_a"
    )
    assert rules is not None
    assert rules.allows_connection("TEAM_A_API")
    assert not rules.allows_host("example.org")
    assert (await opened(store)).namespaces.rules("team_a") is None


async def test_an_entry_with_only_limits_says_nothing_about_what_waits_may_use(store: Store) -> None:
    limited: Any = {"limits": {"reads_per_namespace": 8}}
    assert (await opened(store, namespaces={"team_a": limited})).namespaces.rules("team_a") is None
    rules = {"team_a": limited, "*": {"conn_ids": ["all"]}}
    allowed = (await opened(store, namespaces=rules)).namespaces.rules("team_a")
    assert allowed is not None
    assert allowed.allows_connection("all")
