"""The maintenance in virtual time: sweeps, flushes, and a clock that jumps."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import anyio
from fakes import MemoryStore, ScriptedProbe, waiting
from msgspec.structs import replace
from virtual_time import VirtualClock, in_virtual_time

from waitd.core.errors import StoreUnavailable
from waitd.core.waits.verdict import Pending, Success
from waitd.core.waits.wait import Outcome, WaitId, WaitState
from waitd.engine.maintenance import PAGE_IDS, SWEEP_PAUSE, Maintenance, waiting_pages
from waitd.engine.poker import Poker
from waitd.metrics import Instruments


class Bench:
    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.store = MemoryStore()
        self.probe = ScriptedProbe(lambda name, _: Success() if name == "done" else Pending(), self.clock.now)
        self.poker = Poker(
            self.store,
            {"scripted": self.probe},
            self.clock,
            Instruments(version="test"),
            capacity=100,
            poke_concurrency=10,
            per_host_concurrency=10,
        )
        self.recounts = 0
        self.maintenance = Maintenance(
            self.store, self.poker, self.clock, retention=3600, after_sweep=self.recount
        )

    async def recount(self) -> None:
        self.recounts += 1


@asynccontextmanager
async def running() -> AsyncIterator[Bench]:
    bench = Bench()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.poker.run)
        tasks.start_soon(bench.maintenance.run)
        await asyncio.sleep(0)
        yield bench
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_a_stored_wait_that_nobody_pokes_is_taken_in_hand() -> None:
    async with running() as bench:
        bench.store.put(waiting("done", bench.clock.now()))
        await asyncio.sleep(61)
        assert bench.store.waits["done"].state is WaitState.SUCCESS  # type: ignore[index]  # a plain name is an id here


@in_virtual_time
async def test_ended_waits_are_deleted_after_the_retention_time() -> None:
    async with running() as bench:
        ended = replace(
            waiting("old", bench.clock.now()),
            state=WaitState.SUCCESS,
            outcome=Outcome(WaitState.SUCCESS),
            finished_at=bench.clock.now(),
        )
        bench.store.put(ended, waiting("young", bench.clock.now(), timeout=86400))
        await asyncio.sleep(3500)
        assert "old" in bench.store.waits
        await asyncio.sleep(200)
        assert "old" not in bench.store.waits
        assert "young" in bench.store.waits
        assert bench.recounts > 100


@in_virtual_time
async def test_the_audit_is_kept_as_long_as_ended_waits_are() -> None:
    async with running() as bench:
        bench.store.audited = [bench.clock.now(), bench.clock.now() + 10_000]
        await asyncio.sleep(3500)
        assert len(bench.store.audited) == 2
        await asyncio.sleep(200)
        assert len(bench.store.audited) == 1


@in_virtual_time
async def test_progress_is_flushed_and_a_store_that_refuses_is_asked_again() -> None:
    async with running() as bench:
        bench.poker.adopt(bench.store.put(waiting("w", bench.clock.now(), interval=1)))
        bench.store.refusing = True
        await asyncio.sleep(90)
        assert not bench.store.progress_writes
        bench.store.refusing = False
        await asyncio.sleep(5)
        assert bench.store.progress_writes == ["w"]


@in_virtual_time
async def test_a_jump_of_the_wall_clock_is_noticed_within_a_second() -> None:
    async with running() as bench:
        bench.poker.adopt(bench.store.put(waiting("w", bench.clock.now(), interval=3000, timeout=3600)))
        await asyncio.sleep(1)
        bench.clock.jump(7200)
        await asyncio.sleep(1)
        assert bench.store.waits["w"].state is WaitState.TIMEOUT  # type: ignore[index]  # as above
        assert len(bench.probe.looks["w"]) == 2


@in_virtual_time
async def test_a_pause_of_the_loop_shows_as_lag_for_a_second() -> None:
    async with running() as bench:
        await asyncio.sleep(0.1)
        assert bench.maintenance.lag == 0
        loop = asyncio.get_running_loop()
        loop._jumping.now += 2.0  # type: ignore[attr-defined]  # as if a callback had held the loop for two seconds
        await asyncio.sleep(0.3)
        assert 1.8 < bench.maintenance.lag < 2.1
        await asyncio.sleep(1.5)
        assert bench.maintenance.lag == 0


@in_virtual_time
async def test_pages_bring_every_waiting_wait_once() -> None:
    bench = Bench()
    bench.store.put(*(waiting(f"w{n:04}", bench.clock.now()) for n in range(2500)))
    names = [wait.id async for page in waiting_pages(bench.store) for wait in page]
    assert names == sorted(bench.store.waits)


@in_virtual_time
async def test_a_sweep_of_a_crowd_finds_all_of_it_and_leaves_the_loop_to_others() -> None:
    bench = Bench()
    for n in range(2 * PAGE_IDS + 1):
        bench.store.put(waiting(f"w{n}", bench.clock.now()))
    began = bench.clock.monotonic()
    await bench.maintenance.sweep()
    assert bench.clock.monotonic() - began > 1.5 * SWEEP_PAUSE  # two of them
    await bench.maintenance.sweep()
    assert bench.poker.held == 2 * PAGE_IDS + 1


@in_virtual_time
async def test_a_sweep_that_the_store_refuses_is_made_again() -> None:
    async with running() as bench:
        read, failures = bench.store.waiting_ids, [1]

        async def flaky(after: WaitId | None, limit: int) -> Sequence[WaitId]:
            if failures:
                failures.pop()
                raise StoreUnavailable("the disk is away")
            return await read(after, limit)

        bench.store.waiting_ids = flaky  # type: ignore[method-assign]  # the disk of this test
        bench.store.put(waiting("done", bench.clock.now()))
        await asyncio.sleep(91)
        assert bench.store.waits["done"].state is WaitState.SUCCESS  # type: ignore[index]  # as above
