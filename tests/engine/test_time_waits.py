"""Waits of the kind `time` end at their moment, to a tenth of a second."""

import asyncio
from datetime import UTC, datetime

from engine_harness import running
from fakes import MemoryStore, waiting
from msgspec.structs import replace
from virtual_time import VirtualClock, in_virtual_time

from waitd.core.waits.verdict import Pending
from waitd.core.waits.wait import EMPTY_PROGRESS, WaitId, WaitSpec, WaitState, record_verdict
from waitd.engine.poker import Poker
from waitd.metrics import Instruments
from waitd.ports import StoredWait
from waitd.probes.time import TimeProbe


class Scene:
    """A poker of waits of the kind `time`."""

    def __init__(self) -> None:
        self.clock, self.store = VirtualClock(), MemoryStore()
        self.poker = Poker(
            self.store,
            {"time": TimeProbe(self.clock.now)},
            self.clock,
            Instruments(version="test"),
            capacity=1000,
            poke_concurrency=100,
            per_host_concurrency=16,
            jitter=lambda: 0.0,
        )

    def wait(self, name: str, *, seconds: float, timeout: float = 3600.0) -> StoredWait:
        """A wait for the moment in so many seconds."""
        at = datetime.fromtimestamp(self.clock.now() + seconds, UTC).isoformat()
        spec = WaitSpec(kind="time", params={"at": at}, poke_interval=300.0, timeout=timeout)
        return replace(waiting(name, self.clock.now(), timeout=timeout), spec=spec)

    def add(self, wait: StoredWait) -> None:
        self.poker.adopt(self.store.put(wait))

    def jump(self, seconds: float) -> None:
        """Makes the wall clock jump, and the engine follow it."""
        self.clock.jump(seconds)
        self.clock.follow(seconds)
        self.poker.on_clock_step(seconds)

    def state(self, name: str) -> WaitState:
        return self.store.waits[WaitId(name)].state


@in_virtual_time
async def test_a_wait_succeeds_at_its_moment_and_times_out_before_a_later_one() -> None:
    scene = Scene()
    async with running(scene.poker.run):
        for seconds in (-5, 0, 1, 100, 299, 301, 1000):
            scene.add(scene.wait(f"{seconds}", seconds=seconds))
        scene.add(scene.wait("late", seconds=1000, timeout=500))
        await asyncio.sleep(0.05)
        assert scene.state("-5") is scene.state("0") is WaitState.SUCCESS
        elapsed = 0.05
        for seconds in (1, 100, 299, 301, 1000):
            await asyncio.sleep(seconds - 0.05 - elapsed)
            assert scene.state(f"{seconds}") is WaitState.WAITING
            await asyncio.sleep(0.1)
            assert scene.state(f"{seconds}") is WaitState.SUCCESS
            elapsed = seconds + 0.05
        assert scene.state("late") is WaitState.TIMEOUT


@in_virtual_time
async def test_a_restart_moves_no_moment() -> None:
    scene = Scene()
    progress = record_verdict(EMPTY_PROGRESS, Pending("not_yet"), scene.clock.now() - 1)
    async with running(scene.poker.run):
        scene.add(replace(scene.wait("w", seconds=20), progress=progress))
        await asyncio.sleep(19.95)
        assert scene.state("w") is WaitState.WAITING
        await asyncio.sleep(0.1)
        assert scene.state("w") is WaitState.SUCCESS


@in_virtual_time
async def test_a_wall_clock_that_is_set_is_noticed_at_the_next_poke() -> None:
    scene = Scene()
    async with running(scene.poker.run):
        scene.add(scene.wait("w", seconds=2000))
        await asyncio.sleep(1)
        scene.jump(3000)
        await asyncio.sleep(450)
        assert scene.state("w") is WaitState.SUCCESS
        scene.add(scene.wait("again", seconds=100))
        await asyncio.sleep(1)
        scene.jump(-50)
        await asyncio.sleep(120)
        assert scene.state("again") is WaitState.WAITING
        await asyncio.sleep(30)
        assert scene.state("again") is WaitState.SUCCESS
