import asyncio
from collections.abc import Callable

import pytest

from waitd.connections import cache as cache_module
from waitd.connections.cache import CachedConnections, Resolver
from waitd.core.connections.connection import Connection
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.metrics import Instruments
from waitd.ports import Connections


class Scripted:
    """A resolver with scripted results that counts lookups and can be paused."""

    def __init__(self, backend: str = "scripted", **known: str) -> None:
        self.backend = backend
        self.known = known
        self.down = False
        self.asked: list[str] = []
        self.gate: asyncio.Event | None = None

    async def lookup(self, conn_id: str) -> Connection:
        self.asked.append(conn_id)
        if self.gate is not None:
            await self.gate.wait()
        if self.down:
            raise ConnectionUnavailable("the backend is down")
        if conn_id not in self.known:
            raise UnknownConnection("not here")
        return Connection(conn_id, host=self.known[conn_id])


class Now:
    def __init__(self) -> None:
        self.at = 1000.0

    def __call__(self) -> float:
        return self.at


@pytest.fixture
def now() -> Now:
    return Now()


@pytest.fixture
def instruments() -> Instruments:
    return Instruments(version="test")


@pytest.fixture
def cached(now: Now, instruments: Instruments) -> Callable[..., CachedConnections]:
    def make(*resolvers: Resolver, ttl: float = 60.0) -> CachedConnections:
        return CachedConnections(resolvers, ttl=ttl, now=now, instruments=instruments)

    return make


Make = Callable[..., CachedConnections]


def lookups(instruments: Instruments, backend: str, result: str) -> float:
    labels = {"backend": backend, "result": result}
    return instruments.registry.get_sample_value("waitd_secret_lookups_total", labels) or 0.0


def test_it_implements_the_port(cached: Make) -> None:
    connections: Connections = cached()
    assert connections.cached_any("a") is None


async def test_a_connection_is_looked_up_once_per_ttl(
    cached: Make, now: Now, instruments: Instruments
) -> None:
    resolver = Scripted(a="one")
    connections = cached(resolver)
    assert connections.cached_any("a") is None
    assert (await connections.get("a")).host == "one"
    resolver.known["a"] = "two"
    now.at += 59.9
    assert (await connections.get("a")).host == "one"
    now.at += 0.1
    assert (await connections.get("a")).host == "two"
    assert resolver.asked == ["a", "a"]
    assert lookups(instruments, "scripted", "found") == 2


async def test_resolvers_are_tried_in_order(cached: Make, instruments: Instruments) -> None:
    first, second = Scripted("first", a="1"), Scripted("second", a="2", b="2")
    connections = cached(first, second)
    assert (await connections.get("a")).host == "1"
    assert (await connections.get("b")).host == "2"
    assert second.asked == ["b"]
    assert lookups(instruments, "first", "unknown") == 1
    with pytest.raises(UnknownConnection, match="'c'"):
        await connections.get("c")


async def test_an_unavailable_resolver_is_not_skipped(cached: Make, instruments: Instruments) -> None:
    first, second = Scripted("first"), Scripted("second", a="another account")
    first.down = True
    with pytest.raises(ConnectionUnavailable, match="the backend is down"):
        await cached(first, second).get("a")
    assert second.asked == []
    assert lookups(instruments, "first", "unavailable") == 1


async def test_concurrent_gets_share_one_lookup(cached: Make) -> None:
    resolver = Scripted(a="one", b="two")
    resolver.gate = asyncio.Event()
    connections = cached(resolver)
    gets = [asyncio.ensure_future(connections.get(conn_id)) for conn_id in "aaabb" * 5]
    await asyncio.sleep(0)
    resolver.gate.set()
    assert {connection.host for connection in await asyncio.gather(*gets)} == {"one", "two"}
    assert sorted(resolver.asked) == ["a", "b"]


async def test_another_caller_takes_over_a_cancelled_lookup(cached: Make) -> None:
    resolver = Scripted(a="one")
    resolver.gate = asyncio.Event()
    connections = cached(resolver)
    first, second, third = [asyncio.ensure_future(connections.get("a")) for _ in range(3)]
    await asyncio.sleep(0)
    third.cancel()  # one who only waits
    first.cancel()
    await asyncio.wait([first, third])
    resolver.gate.set()
    assert (await second).host == "one"
    assert resolver.asked == ["a", "a"]


async def test_a_shared_failure_reaches_every_caller(cached: Make) -> None:
    resolver = Scripted()
    resolver.down = True
    resolver.gate = asyncio.Event()
    connections = cached(resolver)
    gets = [asyncio.ensure_future(connections.get("a")) for _ in range(3)]
    await asyncio.sleep(0)
    resolver.gate.set()
    answers = await asyncio.gather(*gets, return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionUnavailable] * 3
    assert len({id(answer) for answer in answers}) == 3
    assert resolver.asked == ["a"]


async def test_a_stale_connection_is_used_while_the_resolver_is_down(
    cached: Make, now: Now, instruments: Instruments
) -> None:
    resolver = Scripted(a="one")
    connections = cached(resolver)
    await connections.get("a")
    resolver.down = True
    now.at += 3600
    assert (await connections.get("a")).host == "one"
    assert (await connections.get("a")).host == "one"
    assert len(resolver.asked) == 2  # the pause keeps a backend that is down from being asked at every poke
    assert lookups(instruments, "cache", "stale") == 1
    resolver.down, resolver.known["a"] = False, "two"
    now.at += cache_module.STALE_PAUSE
    assert (await connections.get("a")).host == "two"


async def test_a_deleted_connection_is_unknown(cached: Make, now: Now) -> None:
    resolver = Scripted(a="one")
    connections = cached(resolver)
    await connections.get("a")
    del resolver.known["a"]
    now.at += 60
    with pytest.raises(UnknownConnection):
        await connections.get("a")
    assert connections.cached_any("a") is None


async def test_cached_any_returns_a_stale_connection_without_a_lookup(cached: Make, now: Now) -> None:
    resolver = Scripted(a="one")
    connections = cached(resolver)
    await connections.get("a")
    now.at += 3600
    peeked = connections.cached_any("a")
    assert peeked is not None
    assert peeked.host == "one"
    assert resolver.asked == ["a"]


async def test_refresh_looks_up_once_in_thirty_seconds(cached: Make, now: Now) -> None:
    resolver = Scripted(a="one")
    connections = cached(resolver, ttl=10.0)
    await connections.get("a")
    resolver.known["a"] = "two"
    assert (await connections.refresh("a")).host == "two"
    assert (await connections.get("a")).host == "two"
    resolver.known["a"] = "three"
    now.at += 29.9
    assert (await connections.refresh("a")).host == "two"
    now.at += 0.1
    assert (await connections.refresh("a")).host == "three"
    assert len(resolver.asked) == 3


async def test_a_get_does_not_shorten_the_thirty_seconds(cached: Make, now: Now) -> None:
    resolver = Scripted(a="one")
    connections = cached(resolver, ttl=10.0)
    await connections.refresh("a")
    now.at += 15
    await connections.get("a")
    await connections.refresh("a")
    assert len(resolver.asked) == 2
    with pytest.raises(UnknownConnection):
        await connections.refresh("b")
    assert connections.cached_any("b") is None


async def test_concurrent_refreshes_share_one_lookup(cached: Make) -> None:
    resolver = Scripted(a="one")
    connections = cached(resolver)
    resolver.gate = asyncio.Event()
    refreshes = [asyncio.ensure_future(connections.refresh("a")) for _ in range(5)]
    await asyncio.sleep(0)
    resolver.gate.set()
    await asyncio.gather(*refreshes)
    await connections.refresh("a")
    assert resolver.asked == ["a"]


async def test_refresh_raises_while_the_backend_is_down_but_get_does_not(cached: Make, now: Now) -> None:
    resolver = Scripted(a="one")
    connections = cached(resolver)
    await connections.get("a")
    resolver.down = True
    for _ in range(3):  # the old credentials must not count as fresh
        with pytest.raises(ConnectionUnavailable):
            await connections.refresh("a")
    assert len(resolver.asked) == 2
    assert (await connections.get("a")).host == "one"
    resolver.down, resolver.known["a"] = False, "two"
    now.at += cache_module.STALE_PAUSE
    assert (await connections.get("a")).host == "two"
    assert (await connections.refresh("a")).host == "two"


@pytest.mark.parametrize("conn_id", ["", "a b", "a\n", "x" * 251, "a\x00"])
async def test_an_invalid_conn_id_is_unknown_without_a_lookup(cached: Make, conn_id: str) -> None:
    resolver = Scripted()
    with pytest.raises(UnknownConnection):
        await cached(resolver).get(conn_id)
    assert resolver.asked == []


async def test_the_cache_is_bounded(cached: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "MAX_CONNECTIONS", 2)
    connections = cached(Scripted(a="1", b="2", c="3"))
    for conn_id in "abc":
        await connections.get(conn_id)
    assert [connections.cached_any(conn_id) is not None for conn_id in "abc"] == [False, True, True]


async def test_an_unexpected_error_does_not_block_the_next_lookup(cached: Make) -> None:
    class Broken(Scripted):
        async def lookup(self, conn_id: str) -> Connection:
            await super().lookup(conn_id)
            raise RuntimeError("bug")

    connections = cached(Broken(a="1"))
    for _ in range(2):
        with pytest.raises(RuntimeError):
            await connections.get("a")
