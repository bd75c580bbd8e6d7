"""Maintenance in virtual time: sweeps, flushes, lag, and a clock that jumps."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from unittest.mock import AsyncMock

import pytest
from engine_harness import PokerHarness, running
from fakes import fail_first, waiting
from msgspec.structs import replace
from virtual_time import in_virtual_time

from waitd.core.waits.verdict import Pending, Success
from waitd.core.waits.wait import Outcome, WaitState
from waitd.engine.maintenance import FRUITLESS_READS, PAGE_IDS, SWEEP_PAUSE, Maintenance, waiting_pages
from waitd.ports import PrunedBytes


class MaintenanceHarness(PokerHarness):
    """A poker and its maintenance; the wait `done` succeeds."""

    def __init__(self) -> None:
        super().__init__(lambda name, _: Success() if name == "done" else Pending())
        self.sweeps = 0
        self.store.on_clock_stepped = self.follow_everywhere
        self.maintenance = Maintenance(
            self.store,
            self.poker,
            self.clock,
            retention=3600,
            retention_bytes=10_000,
            after_sweep=self.count_sweep,
        )

    def follow_everywhere(self, moved: float) -> None:
        self.follow_clock(moved)
        self.maintenance.on_clock_step(moved)

    async def count_sweep(self) -> None:
        self.sweeps += 1


@asynccontextmanager
async def running_maintenance() -> AsyncIterator[MaintenanceHarness]:
    harness = MaintenanceHarness()
    async with running(harness.poker.run, harness.maintenance.run):
        yield harness


@in_virtual_time
async def test_a_stored_wait_that_is_not_held_is_adopted_by_a_sweep() -> None:
    async with running_maintenance() as harness:
        harness.store.put(waiting("done", harness.clock.now()))
        await asyncio.sleep(61)
        assert harness.state("done") is WaitState.SUCCESS


@in_virtual_time
async def test_ended_waits_are_deleted_after_the_retention_time() -> None:
    async with running_maintenance() as harness:
        now = harness.clock.now()
        ended = replace(
            waiting("old", now),
            state=WaitState.SUCCESS,
            outcome=Outcome(WaitState.SUCCESS),
            finished_at=now,
        )
        harness.store.put(ended, waiting("young", now, timeout=86400))
        await asyncio.sleep(3500)
        assert "old" in harness.store.waits
        await asyncio.sleep(200)
        assert harness.store.waits.keys() == {"young"}
        assert harness.sweeps > 100


@in_virtual_time
async def test_audit_entries_are_deleted_after_the_retention_time() -> None:
    async with running_maintenance() as harness:
        harness.store.audited = [harness.clock.now(), harness.clock.now() + 10_000]
        await asyncio.sleep(3500)
        assert len(harness.store.audited) == 2
        await asyncio.sleep(200)
        assert len(harness.store.audited) == 1


@in_virtual_time
async def test_a_search_that_deletes_nothing_continues_with_the_next_sweep() -> None:
    async with running_maintenance() as harness:
        pruned = [PrunedBytes(0, float(at)) for at in range(2, 2 + FRUITLESS_READS)]
        prune_bytes = AsyncMock(side_effect=[PrunedBytes(1000, 1.0), *pruned, *3 * [PrunedBytes(5, None)]])
        harness.store.prune_bytes = prune_bytes  # type: ignore[method-assign] # scripted
        await asyncio.sleep(91)
        since = [call.args[1] for call in prune_bytes.await_args_list]
        assert since == [0.0, 1.0, 2.0, 3.0, 4.0, 0.0]


@in_virtual_time
async def test_progress_is_flushed_once_the_store_accepts_it() -> None:
    async with running_maintenance() as harness:
        harness.add("w", interval=1)
        harness.store.refusing = True
        await asyncio.sleep(90)
        assert not harness.store.progress_writes
        harness.store.refusing = False
        await asyncio.sleep(5)
        assert harness.store.progress_writes == ["w"]


@pytest.mark.parametrize("jump", [7200.0, -7200.0])
@in_virtual_time
async def test_a_step_of_the_wall_clock_is_followed_within_a_second_everywhere_at_once(jump: float) -> None:
    async with running_maintenance() as harness:
        harness.add("w", interval=3000, timeout=3600)
        before, deadline = harness.clock.now(), harness.wait("w").deadline
        await asyncio.sleep(1)
        harness.clock.jump(jump)
        assert harness.clock.now() == pytest.approx(before + 1)
        await asyncio.sleep(1)
        assert harness.clock.now() == pytest.approx(before + 2 + jump)
        assert harness.wait("w").deadline == pytest.approx(deadline + jump)
        assert harness.state("w") is WaitState.WAITING


@in_virtual_time
async def test_a_step_of_the_wall_clock_is_followed_once_the_store_accepts_it() -> None:
    async with running_maintenance() as harness:
        harness.store.refusing = True
        before = harness.clock.now()
        harness.clock.jump(-7200)
        await asyncio.sleep(10)
        assert harness.clock.now() == pytest.approx(before + 10)
        harness.store.refusing = False
        await asyncio.sleep(3)
        assert harness.clock.now() == pytest.approx(before + 13 - 7200)


@in_virtual_time
async def test_small_corrections_of_the_wall_clock_are_followed_without_a_step() -> None:
    async with running_maintenance() as harness:
        before = harness.clock.now()
        for _ in range(10):
            harness.clock.jump(0.9)
            await asyncio.sleep(1)
        assert harness.clock.now() == pytest.approx(before + 19)


@pytest.mark.parametrize("days", [30, -30])
@in_virtual_time
async def test_a_step_of_the_wall_clock_deletes_nothing_before_its_retention(days: int) -> None:
    async with running_maintenance() as harness:
        now = harness.clock.now()
        ended = replace(
            waiting("old", now), state=WaitState.SUCCESS, outcome=Outcome(WaitState.SUCCESS), finished_at=now
        )
        harness.store.put(ended)
        harness.store.audited = [now]
        await asyncio.sleep(600)
        harness.clock.jump(days * 86_400)
        await asyncio.sleep(2900)
        assert "old" in harness.store.waits
        assert harness.store.audited
        if days > 0:
            await asyncio.sleep(800)
            assert not harness.store.waits
            assert not harness.store.audited


@in_virtual_time
async def test_a_pause_of_the_event_loop_shows_as_lag_for_a_second() -> None:
    async with running_maintenance() as harness:
        await asyncio.sleep(0.1)
        assert harness.maintenance.lag == 0
        loop = asyncio.get_running_loop()
        loop._jumping.now += 2.0  # type: ignore[attr-defined]  # as if a callback had held the loop for two seconds
        await asyncio.sleep(0.3)
        assert 1.8 < harness.maintenance.lag < 2.1
        await asyncio.sleep(1.5)
        assert harness.maintenance.lag == 0


@in_virtual_time
async def test_waiting_pages_contain_every_waiting_wait_once() -> None:
    harness = MaintenanceHarness()
    harness.store.put(*(waiting(f"w{n:04}", harness.clock.now()) for n in range(2500)))
    names = [wait.id async for page in waiting_pages(harness.store) for wait in page]
    assert names == sorted(harness.store.waits)


@in_virtual_time
async def test_a_sweep_of_many_waits_finds_all_and_pauses_between_pages() -> None:
    harness = MaintenanceHarness()
    harness.store.put(*(waiting(f"w{n}", harness.clock.now()) for n in range(2 * PAGE_IDS + 1)))
    start = harness.clock.monotonic()
    await harness.maintenance.sweep()
    assert harness.clock.monotonic() - start > 1.5 * SWEEP_PAUSE  # two of them
    await harness.maintenance.sweep()
    assert harness.poker.held == 2 * PAGE_IDS + 1


@in_virtual_time
async def test_a_sweep_that_cannot_read_the_store_is_repeated() -> None:
    async with running_maintenance() as harness:
        fail_first(harness.store, "waiting_ids")
        harness.store.put(waiting("done", harness.clock.now()))
        await asyncio.sleep(91)
        assert harness.state("done") is WaitState.SUCCESS
