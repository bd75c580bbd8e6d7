"""When progress is stored: rarely while waits are pending, at once for new state, all on drain."""

import asyncio

import pytest
from engine_harness import running_poker
from virtual_time import in_virtual_time

from waitd.core.errors import StoreUnavailable
from waitd.core.waits.verdict import Pending
from waitd.engine.progress_buffer import MAX_PER_FLUSH


@in_virtual_time
async def test_progress_is_stored_at_most_once_a_minute_and_completely_on_drain() -> None:
    async with running_poker(lambda *_: Pending()) as harness:
        harness.add("w", interval=1)
        for _ in range(300):
            await asyncio.sleep(1)
            await harness.poker.progress_buffer.flush()
        assert 4 <= len(harness.store.progress_writes) <= 5
        await harness.poker.drain(5)
        await harness.poker.progress_buffer.flush(everything=True)
        assert harness.wait("w").progress == harness.live("w").progress


@in_virtual_time
async def test_the_progress_of_many_waits_is_stored_in_several_flushes() -> None:
    async with running_poker(lambda *_: Pending(), capacity=10_000) as harness:
        for n in range(3 * MAX_PER_FLUSH):
            harness.add(f"w{n}", interval=1000)
        await asyncio.sleep(70)
        writes = harness.store.progress_writes
        await harness.poker.progress_buffer.flush()
        assert MAX_PER_FLUSH <= len(writes) < 3 * MAX_PER_FLUSH
        for _ in range(3):
            await harness.poker.progress_buffer.flush()
        assert len(set(writes)) == len(writes) == 3 * MAX_PER_FLUSH


@in_virtual_time
async def test_new_state_of_a_probe_is_stored_at_once() -> None:
    async with running_poker(lambda _, n: Pending(state=f"state {n // 3}")) as harness:
        harness.add("w", interval=1)
        await harness.poker.progress_buffer.state_changed.wait()
        await harness.poker.progress_buffer.flush()
        assert harness.wait("w").progress.state == "state 0"


@in_virtual_time
async def test_progress_that_the_store_refused_is_stored_by_the_next_flush() -> None:
    async with running_poker(lambda *_: Pending()) as harness:
        harness.add("w", interval=1)
        await asyncio.sleep(70)
        harness.store.refusing = True
        with pytest.raises(StoreUnavailable):
            await harness.poker.progress_buffer.flush()
        harness.store.refusing = False
        await harness.poker.progress_buffer.flush()
        assert harness.store.progress_writes == ["w"]
