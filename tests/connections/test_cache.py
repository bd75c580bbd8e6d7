"""The cache in front of the resolvers: when it looks up, and what it returns meanwhile."""

import asyncio
from collections.abc import Callable

import pytest
from lookup_metrics import count_lookups
from manual_clock import ManualClock
from structlog.testing import capture_logs

from waitd.connections import cache as cache_module
from waitd.connections.airflow_formats import parse_connection
from waitd.connections.cache import CachedConnections, Resolver
from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.metrics import Instruments
from waitd.ports import Connections


class ScriptedResolver:
    """A resolver with scripted results that records lookups and can be paused."""

    def __init__(self, backend: str = "scripted", **known: str) -> None:
        self.backend = backend
        self.known = known
        self.down = False
        self.lookups: list[str] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def lookup(self, conn_id: str) -> Connection:
        self.lookups.append(conn_id)
        await self.gate.wait()
        if self.down:
            raise ConnectionUnavailable("the backend is down")
        if conn_id not in self.known:
            raise UnknownConnection("not here")
        return Connection(conn_id, host=self.known[conn_id])


Cached = Callable[..., CachedConnections]


@pytest.fixture
def cached(clock: ManualClock, instruments: Instruments) -> Cached:
    def build(*resolvers: Resolver, ttl: float = 60.0) -> CachedConnections:
        return CachedConnections(resolvers, ttl=ttl, now=clock, instruments=instruments)

    return build


@pytest.fixture
def resolver() -> ScriptedResolver:
    return ScriptedResolver(a="one", b="two")


@pytest.fixture
def connections(cached: Cached, resolver: ScriptedResolver) -> CachedConnections:
    return cached(resolver)


def test_it_implements_the_port(cached: Cached) -> None:
    connections: Connections = cached()
    assert connections.cached_any("a") is None


async def test_a_connection_is_looked_up_once_per_ttl(
    connections: CachedConnections, resolver: ScriptedResolver, clock: ManualClock, instruments: Instruments
) -> None:
    assert connections.cached_any("a") is None
    assert (await connections.get("a")).host == "one"
    resolver.known["a"] = "two"
    clock.at += 59.9
    assert (await connections.get("a")).host == "one"
    clock.at += 0.1
    assert (await connections.get("a")).host == "two"
    assert resolver.lookups == ["a", "a"]
    assert count_lookups(instruments, "scripted", "found") == 2


async def test_resolvers_are_tried_in_order(cached: Cached, instruments: Instruments) -> None:
    second = ScriptedResolver("second", a="2", b="2")
    connections = cached(ScriptedResolver("first", a="1"), second)
    assert (await connections.get("a")).host == "1"
    assert (await connections.get("b")).host == "2"
    assert second.lookups == ["b"]
    assert count_lookups(instruments, "first", "unknown") == 1
    with pytest.raises(UnknownConnection, match="'c'"):
        await connections.get("c")


async def test_an_unavailable_resolver_is_not_skipped(cached: Cached, instruments: Instruments) -> None:
    first, second = ScriptedResolver("first"), ScriptedResolver("second", a="another account")
    first.down = True
    with pytest.raises(ConnectionUnavailable, match="the backend is down"):
        await cached(first, second).get("a")
    assert second.lookups == []
    assert count_lookups(instruments, "first", "unavailable") == 1


async def test_concurrent_gets_share_one_lookup(
    connections: CachedConnections, resolver: ScriptedResolver
) -> None:
    resolver.gate.clear()
    gets = [asyncio.ensure_future(connections.get(conn_id)) for conn_id in "aaabb" * 5]
    await asyncio.sleep(0)
    resolver.gate.set()
    assert {connection.host for connection in await asyncio.gather(*gets)} == {"one", "two"}
    assert sorted(resolver.lookups) == ["a", "b"]


async def test_another_caller_takes_over_a_cancelled_lookup(
    connections: CachedConnections, resolver: ScriptedResolver
) -> None:
    resolver.gate.clear()
    first, second, third = [asyncio.ensure_future(connections.get("a")) for _ in range(3)]
    await asyncio.sleep(0)
    third.cancel()  # it only waits for the first one's lookup
    first.cancel()
    await asyncio.wait([first, third])
    resolver.gate.set()
    assert (await second).host == "one"
    assert resolver.lookups == ["a", "a"]


async def test_a_shared_failure_reaches_every_caller(
    connections: CachedConnections, resolver: ScriptedResolver
) -> None:
    resolver.down = True
    resolver.gate.clear()
    gets = [asyncio.ensure_future(connections.get("a")) for _ in range(3)]
    await asyncio.sleep(0)
    resolver.gate.set()
    errors = await asyncio.gather(*gets, return_exceptions=True)
    assert [type(error) for error in errors] == [ConnectionUnavailable] * 3
    assert len({id(error) for error in errors}) == 3
    assert resolver.lookups == ["a"]


async def test_a_stale_connection_is_used_while_the_resolver_is_down(
    connections: CachedConnections, resolver: ScriptedResolver, clock: ManualClock, instruments: Instruments
) -> None:
    await connections.get("a")
    resolver.down = True
    clock.at += 3600
    assert (await connections.get("a")).host == "one"
    assert (await connections.get("a")).host == "one"
    assert len(resolver.lookups) == 2  # during the pause, a poke does not look up again
    assert count_lookups(instruments, "cache", "stale") == 1
    resolver.down, resolver.known["a"] = False, "two"
    clock.at += cache_module.STALE_PAUSE
    assert (await connections.get("a")).host == "two"


async def test_a_deleted_connection_is_unknown(
    connections: CachedConnections, resolver: ScriptedResolver, clock: ManualClock
) -> None:
    await connections.get("a")
    del resolver.known["a"]
    clock.at += 60
    with pytest.raises(UnknownConnection):
        await connections.get("a")
    assert connections.cached_any("a") is None


async def test_cached_any_returns_a_stale_connection_without_a_lookup(
    connections: CachedConnections, resolver: ScriptedResolver, clock: ManualClock
) -> None:
    connection = await connections.get("a")
    clock.at += 3600
    assert connections.cached_any("a") is connection
    assert connection.host == "one"
    assert resolver.lookups == ["a"]


async def test_refresh_looks_up_once_in_thirty_seconds(
    cached: Cached, resolver: ScriptedResolver, clock: ManualClock
) -> None:
    connections = cached(resolver, ttl=10.0)
    await connections.get("a")
    resolver.known["a"] = "two"
    assert (await connections.refresh("a")).host == "two"
    assert (await connections.get("a")).host == "two"
    resolver.known["a"] = "three"
    clock.at += 29.9
    assert (await connections.refresh("a")).host == "two"
    clock.at += 0.1
    assert (await connections.refresh("a")).host == "three"
    assert len(resolver.lookups) == 3


async def test_a_get_does_not_shorten_the_thirty_seconds(
    cached: Cached, resolver: ScriptedResolver, clock: ManualClock
) -> None:
    connections = cached(resolver, ttl=10.0)
    await connections.refresh("a")
    clock.at += 15
    await connections.get("a")
    await connections.refresh("a")
    assert len(resolver.lookups) == 2
    with pytest.raises(UnknownConnection):
        await connections.refresh("unknown")
    assert connections.cached_any("unknown") is None


async def test_concurrent_refreshes_share_one_lookup(
    connections: CachedConnections, resolver: ScriptedResolver
) -> None:
    resolver.gate.clear()
    refreshes = [asyncio.ensure_future(connections.refresh("a")) for _ in range(5)]
    await asyncio.sleep(0)
    resolver.gate.set()
    await asyncio.gather(*refreshes)
    await connections.refresh("a")
    assert resolver.lookups == ["a"]


async def test_refresh_raises_while_the_backend_is_down_but_get_does_not(
    connections: CachedConnections, resolver: ScriptedResolver, clock: ManualClock
) -> None:
    await connections.get("a")
    resolver.down = True
    for _ in range(3):  # the old credentials must not count as fresh
        with pytest.raises(ConnectionUnavailable):
            await connections.refresh("a")
    assert len(resolver.lookups) == 2
    assert (await connections.get("a")).host == "one"
    resolver.down, resolver.known["a"] = False, "two"
    clock.at += cache_module.STALE_PAUSE
    assert (await connections.get("a")).host == "two"
    assert (await connections.refresh("a")).host == "two"


@pytest.mark.parametrize("conn_id", ["", "a b", "a\n", "x" * 251, "a\x00"])
async def test_an_invalid_conn_id_is_unknown_without_a_lookup(
    connections: CachedConnections, resolver: ScriptedResolver, conn_id: str
) -> None:
    with pytest.raises(UnknownConnection):
        await connections.get(conn_id)
    assert resolver.lookups == []


async def test_the_cache_is_bounded(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_CONNECTIONS", 2)
    connections = cached(ScriptedResolver(a="one", b="two", c="three"))
    for conn_id in "abc":
        await connections.get(conn_id)
    assert [connections.cached_any(conn_id) is not None for conn_id in "abc"] == [False, True, True]


async def test_the_log_does_not_name_unknown_extras(cached: Cached, monkeypatch: pytest.MonkeyPatch) -> None:
    async def lookup(conn_id: str) -> Connection:
        return parse_connection(conn_id, "github://:half@h/?token=half&planted==&stream=true")

    resolver = ScriptedResolver(c="h")
    monkeypatch.setattr(resolver, "lookup", lookup)
    with capture_logs() as logs:
        await cached(resolver).get("c")
    assert [([*line["extras"]], line["unknown"]) for line in logs] == [(["stream"], 1)]
    assert "planted" not in str(logs)


async def test_an_unexpected_error_does_not_block_the_next_lookup(cached: Cached) -> None:
    class BrokenResolver(ScriptedResolver):
        async def lookup(self, conn_id: str) -> Connection:
            await super().lookup(conn_id)
            raise RuntimeError("bug")

    connections = cached(BrokenResolver(a="1"))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await connections.get("a")


async def test_ignored_extras_are_logged_once_for_each_version(
    cached: Cached, clock: ManualClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolver = ScriptedResolver(c="h")
    extra = {"stream": True, "apikey": "planted"}

    async def lookup(conn_id: str) -> Connection:
        return Connection(conn_id, host="h", extra=dict(extra))

    monkeypatch.setattr(resolver, "lookup", lookup)
    connections = cached(resolver)
    with capture_logs() as logs:
        for _ in range(3):
            await connections.get("c")
            clock.at += 61
        extra["apikey"] = "other"
        await connections.get("c")
    assert [[*line["extras"]] for line in logs] == [["stream"], ["stream"]]
    assert "planted" not in str(logs)
