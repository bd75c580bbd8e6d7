"""News in virtual time: who is poked for it, how often at most, and what is kept of signals."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from fakes import MemoryStore, ScriptedProbe, waiting
from msgspec.structs import replace
from virtual_time import VirtualClock, in_virtual_time

from waitd.core.waits.verdict import Pending
from waitd.engine.poker import NEWS_PAUSE_SECONDS, Poker
from waitd.engine.signal_dispatcher import SignalDispatcher
from waitd.metrics import Instruments
from waitd.ports import Signal, SignalKey


class KeptSignals:
    """The part of the store that keeps signals: (namespace, key) → when, and what."""

    def __init__(self) -> None:
        self.kept: dict[tuple[str, str], list[tuple[float, Any]]] = {}
        self.asked = 0

    async def signals(self, namespace: str, key: str) -> Sequence[Any]:
        self.asked += 1
        return [payload for _, payload in self.kept.get((namespace, key), ())]

    async def signal_keys(self) -> Sequence[Signal]:
        return [Signal(*at, received[-1][0]) for at, received in self.kept.items()]

    async def prune_signals(self, before: float, limit: int) -> Sequence[SignalKey]:
        gone = [SignalKey(*at) for at, received in self.kept.items() if received[0][0] < before][:limit]
        for at in gone:
            self.kept[at] = [one for one in self.kept[at] if one[0] >= before]
            if not self.kept[at]:
                del self.kept[at]
        return gone


class Bench:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store, self.kept = MemoryStore(), KeptSignals()
        self.looking: asyncio.Event | None = None
        self.probe = ScriptedProbe(lambda *_: self._pending(), self.clock.now)
        self.instruments = Instruments(version="test")
        self.poker = Poker(
            self.store,
            {"scripted": self.probe},
            self.clock,
            self.instruments,
            capacity=100,
            poke_concurrency=10,
            per_host_concurrency=10,
        )
        self.signals = SignalDispatcher(self.kept, self.poker, self.clock, self.instruments, retention=3600)

    async def _pending(self) -> Pending:
        if self.looking is not None:
            await self.looking.wait()
        return Pending()

    def add(self, name: str, wake_on: str | None = None, namespace: str = "default") -> None:
        wait = waiting(name, self.clock.now(), interval=1000)
        wait = replace(wait, namespace=namespace, spec=replace(wait.spec, wake_on=wake_on))
        self.poker.adopt(self.store.put(wait))

    def hear(self, key: str, namespace: str = "default") -> None:
        self.kept.kept.setdefault((namespace, key), []).append((self.clock.now(), {"n": 1}))
        self.signals.on_signals([Signal(namespace, key, self.clock.now())])

    def looks(self, name: str) -> int:
        return len(self.probe.looks.get(name, ()))


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    bench = Bench()
    poking = asyncio.create_task(bench.poker.run())
    await asyncio.sleep(0.001)
    try:
        yield bench
    finally:
        poking.cancel()
        await asyncio.gather(poking, return_exceptions=True)


@in_virtual_time
async def test_a_signal_pokes_those_that_wake_on_it_at_once_and_nobody_else() -> None:
    async with running() as bench:
        bench.add("woken", "go")
        bench.add("other", "stop")
        bench.add("elsewhere", "go", namespace="other")
        bench.add("deaf")
        await asyncio.sleep(100)
        assert bench.signals.listening("default", "go") == 1
        bench.hear("go")
        await asyncio.sleep(0.1)
        assert [bench.looks(name) for name in ("woken", "other", "elsewhere", "deaf")] == [2, 1, 1, 1]
        assert list(await bench.signals.payloads("default", "go")) == [{"n": 1}]


@in_virtual_time
async def test_many_signals_poke_a_wait_no_more_often_than_is_good() -> None:
    async with running() as bench:
        bench.add("w", "go")
        await asyncio.sleep(100)
        for _ in range(200):
            bench.hear("go")
            await asyncio.sleep(NEWS_PAUSE_SECONDS / 20)
        assert 10 <= bench.looks("w") <= 13


@in_virtual_time
async def test_a_signal_that_comes_while_a_wait_is_poked_pokes_it_once_more() -> None:
    async with running() as bench:
        bench.looking = asyncio.Event()
        bench.add("w", "go")
        await asyncio.sleep(1)
        bench.hear("go")
        bench.hear("go")
        bench.looking.set()
        bench.looking = None
        await asyncio.sleep(2 * NEWS_PAUSE_SECONDS)
        assert bench.looks("w") == 2


@in_virtual_time
async def test_what_came_before_a_restart_is_known_and_what_never_came_costs_no_query() -> None:
    async with running() as bench:
        bench.kept.kept["default", "go"] = [(bench.clock.now(), "early")]
        await bench.signals.load()
        assert list(await bench.signals.payloads("default", "go")) == ["early"]
        assert (list(await bench.signals.payloads("default", "never")), bench.kept.asked) == ([], 1)


@in_virtual_time
async def test_signals_are_forgotten_after_the_retention_and_a_newer_one_is_not() -> None:
    async with running() as bench:
        bench.hear("old")
        bench.hear("both")
        await asyncio.sleep(3000)
        bench.hear("both")
        await asyncio.sleep(1000)
        await bench.signals.prune()
        assert list(await bench.signals.payloads("default", "old")) == []
        assert bench.kept.asked == 0, "nothing is known under that key any more"
        assert list(await bench.signals.payloads("default", "both")) == [{"n": 1}]


@in_virtual_time
async def test_news_of_a_place_where_nobody_listens_pokes_nobody_and_is_counted() -> None:
    async with running() as bench:
        assert bench.signals.on_s3_object("s3_event", "landing", "a.csv", None) == 0
        labels = {"source": "s3_event"}
        assert bench.instruments.registry.get_sample_value("waitd_signals_total", labels) == 1
        bench.poker.poke_soon("nobody")
