"""The token cache: one fetch for all callers, timely renewal, and failures."""

import asyncio
import errno
from dataclasses import dataclass, field

import pytest

from waitd.connections.token_cache import REFRESH_INTERVAL, RETRY_PAUSE, CachedToken, TokenCache
from waitd.core.errors import ConnectionUnavailable
from waitd.core.local_trouble import NAME_SERVERS_SILENT
from waitd.core.waits.verdict import LOCAL_ERROR
from waitd.outgoing import LookupFailed
from waitd.probes.access.http import connection_verdict


@dataclass
class Source:
    """Fetches 1, 2, 3, …, each valid for 100 seconds, or fails; waits at the gate first."""

    at: float = 1000.0
    fetched: int = 0
    forced: int = 0
    down: bool = False
    gate: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.gate.set()

    def now(self) -> float:
        return self.at

    async def fetch(self, refresh: bool) -> CachedToken[int]:
        self.fetched += 1
        self.forced += refresh
        await self.gate.wait()
        if self.down:
            raise ConnectionUnavailable("down")
        return CachedToken(self.fetched, 80.0, 100.0)


@pytest.fixture
def source() -> Source:
    return Source()


@pytest.fixture
def cache(source: Source) -> TokenCache[int]:
    return TokenCache(source.fetch, now=source.now, name="test")


async def test_concurrent_callers_share_one_fetch(source: Source, cache: TokenCache[int]) -> None:
    source.gate.clear()
    callers = [asyncio.ensure_future(cache.get()) for _ in range(50)]
    await asyncio.sleep(0)
    source.gate.set()
    assert await asyncio.gather(*callers) == [1] * 50
    assert source.fetched == 1


async def test_a_token_is_used_until_shortly_before_it_expires(
    source: Source, cache: TokenCache[int]
) -> None:
    await cache.get()
    source.at += 79.9
    assert (cache.cached_fresh(), await cache.get()) == (1, 1)
    source.at += 0.1
    assert cache.cached_fresh() is None
    assert await cache.get() == 2


async def test_the_old_token_is_used_during_a_renewal(source: Source, cache: TokenCache[int]) -> None:
    await cache.get()
    source.at += 80
    source.gate.clear()
    first = asyncio.ensure_future(cache.get())
    await asyncio.sleep(0)
    assert (cache.cached_fresh(), await cache.get()) == (1, 1)
    source.at += 20
    assert cache.cached_fresh() is None
    source.gate.set()
    assert await first == 2


async def test_the_old_token_is_kept_when_a_renewal_fails(source: Source, cache: TokenCache[int]) -> None:
    await cache.get()
    source.at += 80
    source.down = True
    with pytest.raises(ConnectionUnavailable):
        await cache.get()
    assert await cache.get() == 1  # without another fetch
    assert source.fetched == 2
    source.at += 20
    with pytest.raises(ConnectionUnavailable):
        await cache.get()


async def test_a_failed_fetch_is_retried_only_after_a_pause(source: Source, cache: TokenCache[int]) -> None:
    source.down = True
    for _ in range(5):
        with pytest.raises(ConnectionUnavailable):
            await cache.get()
    assert source.fetched == 1
    source.at += RETRY_PAUSE
    source.down = False
    assert await cache.get() == 2


@pytest.mark.parametrize(
    ("cause", "reason", "end"),
    [
        (OSError(errno.EMFILE, "x"), LOCAL_ERROR, "descriptor (ulimit -n)."),
        (MemoryError(), LOCAL_ERROR, "memory is short."),
        (LookupFailed(), "credentials_unavailable", NAME_SERVERS_SILENT.message),
        (OSError(errno.ECONNREFUSED, "x"), "credentials_unavailable", "or refuses."),
    ],
)
async def test_the_daemons_own_trouble_is_seen_by_all_callers(
    cause: Exception, reason: str, end: str
) -> None:
    async def fetch(_: bool) -> CachedToken[int]:
        error = ConnectionUnavailable("the token endpoint cannot be reached")
        error.__context__ = cause  # as after `raise … from None`
        raise error

    cache = TokenCache(fetch, now=lambda: 0.0, name="fetch")
    for _ in range(2):  # the second caller gets the remembered error
        with pytest.raises(ConnectionUnavailable) as raised:
            await cache.get()
        verdict = connection_verdict(raised.value)
        assert verdict.reason == reason
        assert verdict.message.endswith(end)


async def test_a_refused_token_is_replaced_once_for_all_callers(
    source: Source, cache: TokenCache[int]
) -> None:
    await cache.get()
    assert await asyncio.gather(*(cache.get(refused=1) for _ in range(5))) == [2] * 5
    assert (source.fetched, source.forced) == (2, 1)
    assert await cache.get(refused=1) == 2  # there is a newer one already
    assert await cache.get(refused=2) == 2  # it is too soon for another fetch
    source.at += REFRESH_INTERVAL
    assert await cache.get(refused=2) == 3


async def test_a_refused_token_is_not_returned_while_the_source_is_down(
    source: Source, cache: TokenCache[int]
) -> None:
    await cache.get()
    source.down = True
    with pytest.raises(ConnectionUnavailable):
        await cache.get(refused=1)
    assert cache.cached_fresh() == 1  # other callers still use it


async def test_cancelling_a_caller_does_not_cancel_the_fetch(source: Source, cache: TokenCache[int]) -> None:
    source.gate.clear()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(cache.get(), 0.01)
    source.gate.set()
    assert await cache.get() == 1
    assert source.fetched == 1


async def test_closing_cancels_a_fetch(source: Source, cache: TokenCache[int]) -> None:
    source.gate.clear()
    caller = asyncio.ensure_future(cache.get())
    await asyncio.sleep(0)
    await cache.aclose()
    with pytest.raises(asyncio.CancelledError):
        await caller
