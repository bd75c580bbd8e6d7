"""News in virtual time: which waits it pokes and how often, and how long signals are kept."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from engine_harness import PokerHarness, running
from fakes import waiting
from msgspec.structs import replace
from virtual_time import in_virtual_time

from waitd.core.waits.verdict import Pending
from waitd.engine.news import NEWS_PAUSE_SECONDS
from waitd.engine.signal_dispatcher import SignalDispatcher
from waitd.ports import Signal, SignalKey


class MemorySignals:
    """The part of the store that keeps signals: by namespace and key, times and payloads."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], list[tuple[float, Any]]] = {}
        #: How often payloads were read.
        self.reads = 0

    async def signals(self, namespace: str, key: str) -> Sequence[Any]:
        self.reads += 1
        return [payload for _, payload in self.kept.get((namespace, key), ())]

    async def signal_keys(self) -> Sequence[Signal]:
        return [Signal(*key, signals[-1][0]) for key, signals in self.kept.items()]

    async def prune_signals(self, before: float, limit: int) -> Sequence[SignalKey]:
        expired = [SignalKey(*key) for key, signals in self.kept.items() if signals[0][0] < before][:limit]
        for key in expired:
            self.kept[key] = [signal for signal in self.kept[key] if signal[0] >= before]
            if not self.kept[key]:
                del self.kept[key]
        return expired


class SignalHarness(PokerHarness):
    """A poker and its signals. While `answering` is set, pokes wait for it."""

    def __init__(self) -> None:
        super().__init__(lambda *_: self._pending())
        self.answering: asyncio.Event | None = None
        self.stored = MemorySignals()
        self.signals = SignalDispatcher(self.stored, self.poker, self.clock, self.instruments, retention=3600)

    async def _pending(self) -> Pending:
        if self.answering is not None:
            await self.answering.wait()
        return Pending()

    def subscribe(self, name: str, wake_on: str | None = None, namespace: str = "default") -> None:
        wait = waiting(name, self.clock.now(), interval=1000)
        wait = replace(wait, namespace=namespace, spec=replace(wait.spec, wake_on=wake_on))
        self.poker.adopt(self.store.put(wait))

    def send(self, key: str) -> None:
        self.stored.kept.setdefault(("default", key), []).append((self.clock.now(), {"n": 1}))
        self.signals.on_signals([Signal("default", key, self.clock.now())])


@asynccontextmanager
async def running_signals() -> AsyncIterator[SignalHarness]:
    harness = SignalHarness()
    async with running(harness.poker.run):
        yield harness


@in_virtual_time
async def test_a_signal_pokes_at_once_those_that_wake_on_it_and_no_others() -> None:
    async with running_signals() as harness:
        harness.subscribe("woken", "go")
        harness.subscribe("other", "stop")
        harness.subscribe("elsewhere", "go", namespace="other")
        harness.subscribe("deaf")
        await asyncio.sleep(100)
        assert harness.signals.listening("default", "go") == 1
        harness.send("go")
        await asyncio.sleep(0.1)
        assert [harness.pokes(name) for name in ("woken", "other", "elsewhere", "deaf")] == [2, 1, 1, 1]
        assert list(await harness.signals.payloads("default", "go")) == [{"n": 1}]


@in_virtual_time
async def test_a_burst_of_signals_pokes_a_wait_once_per_pause() -> None:
    async with running_signals() as harness:
        harness.subscribe("w", "go")
        await asyncio.sleep(100)
        for _ in range(200):
            harness.send("go")
            await asyncio.sleep(NEWS_PAUSE_SECONDS / 20)
        assert 10 <= harness.pokes("w") <= 13


@in_virtual_time
async def test_signals_during_a_poke_cause_one_more() -> None:
    async with running_signals() as harness:
        harness.answering = asyncio.Event()
        harness.subscribe("w", "go")
        await asyncio.sleep(1)
        harness.send("go")
        harness.send("go")
        harness.answering.set()
        harness.answering = None
        await asyncio.sleep(2 * NEWS_PAUSE_SECONDS)
        assert harness.pokes("w") == 2


@in_virtual_time
async def test_stored_signals_are_known_after_a_restart_and_an_unknown_key_costs_no_read() -> None:
    async with running_signals() as harness:
        harness.stored.kept["default", "go"] = [(harness.clock.now(), "early")]
        await harness.signals.load()
        assert list(await harness.signals.payloads("default", "go")) == ["early"]
        assert (list(await harness.signals.payloads("default", "never")), harness.stored.reads) == ([], 1)


@in_virtual_time
async def test_signals_are_deleted_after_the_retention_time_and_newer_ones_are_kept() -> None:
    async with running_signals() as harness:
        harness.send("old")
        harness.send("both")
        await asyncio.sleep(3000)
        harness.send("both")
        await asyncio.sleep(1000)
        await harness.signals.prune()
        assert list(await harness.signals.payloads("default", "old")) == []
        assert harness.stored.reads == 0, "nothing is known under that key any more"
        assert list(await harness.signals.payloads("default", "both")) == [{"n": 1}]


@in_virtual_time
async def test_news_without_subscribers_pokes_no_wait_and_is_counted() -> None:
    async with running_signals() as harness:
        assert harness.signals.on_s3_object("s3_event", "landing", "a.csv", None) == 0
        assert harness.sample("waitd_signals_total", source="s3_event") == 1
        harness.poker.news.poke_soon("unknown")
