"""A clock steps: what is remembered or kept holds for its time, neither longer nor shorter."""

import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from clock_machine import Machine
from issuer_endpoint import AUDIENCE, issuer_endpoint
from test_app_connections import connections
from throttled import served
from token_endpoint import CLIENT, SECRET, token_endpoint

from waitd.api.problems import ProblemError
from waitd.api.server.throttle import Throttle
from waitd.app import open_daemon
from waitd.app.auth import open_guard
from waitd.auth.issuer import MAX_AGE
from waitd.auth.oidc import CACHE_SECONDS
from waitd.core.auth.principal import Principal, Role
from waitd.core.costs.model import MeasuredUsage
from waitd.core.waits.audit import AuditEntry, Caller
from waitd.outgoing import CachingResolver, EgressGuard
from waitd.outgoing.tls_sessions import ResumingContext
from waitd.ports import AuditFilter, CostFilter, NewKey
from waitd.settings import Settings
from waitd.sinks.airflow.sink import AirflowSink
from waitd.stores import Store, open_database

DAY = 86_400.0
STEPS = [7200.0, -7200.0, 30 * DAY, -30 * DAY]


class Cache(NamedTuple):
    """Something that is fetched and remembered.

    `use` uses it, `fetches` says how often it was fetched, and `lifetime` how long it is remembered
    in seconds.
    """

    use: Callable[[], Awaitable[Any]]
    fetches: Callable[[], int]
    lifetime: float


@asynccontextmanager
async def oidc_cache(machine: Machine, path: Path, *, tokens: bool) -> AsyncIterator[Cache]:
    """The verified tokens of an issuer, or its keys."""
    verified = 0
    async with issuer_endpoint() as provider:
        settings = Settings(
            oidc_issuer=provider.url, oidc_audience=AUDIENCE, oidc_roles={"waitd-users": "submitter"}
        )
        store = Store(await open_database(f"sqlite+aiosqlite:///{path}/x.db"), destination_of=lambda *_: "")
        async with open_guard(settings, store, EgressGuard(), lambda: 0.0) as guard:
            authenticator = guard.authenticator
            assert authenticator is not None
            token = provider.token(provider.claims(machine.time() + 100 * DAY))

            async def use() -> None:
                nonlocal verified
                if not tokens or authenticator.cached_fresh(token) is None:
                    verified += 1
                    await authenticator.principal(token)

            if tokens:
                yield Cache(use, lambda: verified, CACHE_SECONDS)
            else:
                yield Cache(use, lambda: provider.requests.count("/jwks"), MAX_AGE + 0.5)
        await store.close()


def oidc_tokens(machine: Machine, path: Path, _: pytest.MonkeyPatch) -> AbstractAsyncContextManager[Cache]:
    return oidc_cache(machine, path, tokens=True)


def oidc_keys(machine: Machine, path: Path, _: pytest.MonkeyPatch) -> AbstractAsyncContextManager[Cache]:
    return oidc_cache(machine, path, tokens=False)


@asynccontextmanager
async def access_tokens(_: Machine, __: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Cache]:
    async with token_endpoint() as endpoint:
        extra = {"auth_type": "oauth2_client_credentials", "token_url": f"{endpoint.url}/token"}
        connection = {"conn_type": "http", "host": "h", "login": CLIENT, "password": SECRET, "extra": extra}
        monkeypatch.setenv("AIRFLOW_CONN_API", orjson.dumps(connection).decode())
        async with connections() as resolved:

            async def use() -> None:
                await resolved.authorize(await resolved.get("api"))

            yield Cache(use, lambda: endpoint.issued, 3600.0 - 60.0)


@asynccontextmanager
async def looked_up_connections(
    _: Machine, path: Path, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Cache]:
    from waitd.connections.environment import EnvironmentResolver

    fetches, resolve = 0, EnvironmentResolver.lookup

    async def counted(self: EnvironmentResolver, conn_id: str) -> Any:
        nonlocal fetches
        fetches += 1
        return await resolve(self, conn_id)

    monkeypatch.setattr(EnvironmentResolver, "lookup", counted)
    monkeypatch.setenv("AIRFLOW_CONN_API", "http://h")
    async with connections(connection_cache=100.0) as resolved:
        yield Cache(lambda: resolved.get("api"), lambda: fetches, 100.0)


@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("opened", [oidc_tokens, oidc_keys, access_tokens, looked_up_connections])
async def test_what_is_fetched_is_remembered_for_its_lifetime(
    opened: Callable[[Machine, Path, pytest.MonkeyPatch], AbstractAsyncContextManager[Cache]],
    step: float,
    tmp_path: Path,
    machine: Machine,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with opened(machine, tmp_path, monkeypatch) as cache:

        async def is_fetched(times: int) -> None:
            async def has_fetched() -> bool:
                await cache.use()
                return cache.fetches() == times

            await machine.reached(has_fetched)

        await is_fetched(1)
        machine.step("wall", step)
        machine.move(cache.lifetime - 1.0)
        for _ in range(3):
            await cache.use()
            await machine.rest()
        assert cache.fetches() == 1
        machine.move(2.0)
        await is_fetched(2)
        machine.step("monotonic", cache.lifetime + 1.0)
        await is_fetched(3)


@pytest.mark.parametrize("step", STEPS)
async def test_what_is_kept_is_kept_for_its_retention(step: float, tmp_path: Path, machine: Machine) -> None:
    """Signals, audit entries, costs and API keys."""
    settings = Settings(
        state_dir=tmp_path,
        bind="127.0.0.1:0",
        retention=DAY,
        signal_retention=DAY,
        cost={"enabled": True, "retention": 2 * DAY},
    )
    async with open_daemon(settings) as daemon:
        store, keyring = daemon.engine.store, daemon._keyring
        caller = Caller(Principal("key:1", Role.ADMIN, "*"), "::1")
        created = await keyring.create(NewKey(Role.VIEWER, "default", 10 * DAY), caller)
        await store.save_signal("default", "key", 1)
        await store.save_audit_entry(
            AuditEntry(machine.time(), "key:1", "admin", "*", "::1", "poke", "w", 1, "done")
        )
        await store.save_overhead(MeasuredUsage(1.0, 1.0), 0.0)

        async def kept() -> list[bool]:
            await daemon.engine.maintenance.sweep()
            daemon.engine._saved_overhead = MeasuredUsage(-1.0, -1.0)
            await daemon.engine._save_overhead()
            await keyring.refresh()
            costs = await store.find_costs(CostFilter(None, "2000-01-01", "kind", 10))
            return [
                await store.signals("default", "key") == [1],
                any(entry.entry.subject == "w" for entry in await store.find_audit(AuditFilter())),
                costs.overhead.cpu_seconds > 1.0,
                any(key.id == created.key.id for key in keyring.every()),
            ]

        assert all(await kept())
        machine.step("wall", step)
        assert all(await kept()), "the step is not followed yet"
        await store.shift_schedules(step)
        machine.move(DAY / 2)
        assert all(await kept())


@pytest.mark.parametrize("step", STEPS)
async def test_a_rate_limit_refills_by_the_time_that_passes(step: float, machine: Machine) -> None:
    limits, caller = (
        Throttle(requests_per_second=2.0, request_burst=3),
        Principal("key:1", Role.VIEWER, "default"),
    )

    def allowed() -> int:
        count = 0
        try:
            while True:
                with served(limits, caller):
                    count += 1
        except ProblemError:
            return count

    assert allowed() == 3
    machine.step("wall", step)
    assert allowed() == 0
    machine.move(1.0)
    assert allowed() == 2
    machine.step("monotonic", 3600.0)
    assert allowed() == 3


@pytest.mark.parametrize(
    ("function", "clock"),
    [(CachingResolver, "now"), (AirflowSink, "monotonic"), (ResumingContext.__init__, "monotonic")],
)
def test_what_is_remembered_is_timed_by_the_monotonic_clock(function: Any, clock: str) -> None:
    assert inspect.signature(function).parameters[clock].default is time.monotonic
