"""A poker in virtual time with its store, clock and probe, and how loops run in tests."""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import pairwise
from typing import Any

import anyio
from fakes import MemoryStore, Script, ScriptedProbe, waiting
from virtual_time import VirtualClock

from waitd.core.waits.wait import WaitId, WaitState
from waitd.engine.poker import Poker
from waitd.metrics import Instruments
from waitd.ports import LiveWait, StoredWait


@asynccontextmanager
async def running(*loops: Callable[[], Coroutine[Any, Any, None]]) -> AsyncIterator[None]:
    """Runs loops until the block ends."""
    async with anyio.create_task_group() as tasks:
        for loop in loops:
            tasks.start_soon(loop)
        await asyncio.sleep(0.001)
        yield
        tasks.cancel_scope.cancel()


class PokerHarness:
    """A poker of waits of kind `scripted`; `options` are arguments of `Poker`."""

    def __init__(
        self,
        script: Script,
        *,
        probe: type[ScriptedProbe] = ScriptedProbe,
        store: MemoryStore | None = None,
        **options: Any,
    ) -> None:
        self.clock = VirtualClock()
        self.store = store or MemoryStore()
        self.probe = probe(script, self.clock.now)
        self.instruments = Instruments(version="test")
        defaults: dict[str, Any] = {
            "capacity": 1000,
            "poke_concurrency": 100,
            "per_host_concurrency": 16,
            "jitter": lambda: 0.0,
        }
        self.store.on_clock_stepped = self.follow_clock
        self.poker = Poker(
            self.store, {"scripted": self.probe}, self.clock, self.instruments, **defaults | options
        )

    def add(self, name: str, **params: Any) -> None:
        self.poker.adopt(self.store.put(waiting(name, self.clock.now(), **params)))

    def follow_clock(self, moved: float) -> None:
        """What the engine does when the store has moved its schedules."""
        self.clock.follow(moved)
        self.poker.on_clock_step(moved)

    def jump(self, seconds: float) -> None:
        """Makes the wall clock jump, and moves the schedules as maintenance does."""
        self.clock.jump(seconds)
        self.follow_clock(self.clock.moved())

    def wait(self, name: str) -> StoredWait:
        return self.store.waits[WaitId(name)]

    def state(self, name: str) -> WaitState:
        return self.wait(name).state

    def live(self, name: str) -> LiveWait:
        live = self.poker.live(name)
        assert live is not None
        return live

    def pokes(self, name: str) -> int:
        return len(self.probe.poked_at.get(name, ()))

    def gaps(self, name: str) -> list[float]:
        return [round(later - earlier, 2) for earlier, later in pairwise(self.probe.poked_at[name])]

    def sample(self, name: str, **labels: str) -> float:
        value = self.instruments.registry.get_sample_value(name, labels)
        assert value is not None
        return value


@asynccontextmanager
async def running_poker(script: Script, **options: Any) -> AsyncIterator[PokerHarness]:
    harness = PokerHarness(script, **options)
    async with running(harness.poker.run):
        yield harness


#: The type of `running_poker` and of the fixture `run_poker`.
RunPoker = Callable[..., AbstractAsyncContextManager[PokerHarness]]
