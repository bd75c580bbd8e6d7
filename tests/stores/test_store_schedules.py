"""Stored times move with a wall clock that steps, and are clamped after it was set back."""

from dataclasses import dataclass
from pathlib import Path

import pytest
from store_values import HOOK, START, WallClock, add_one, due, ended, opened

from waitd.core.waits.delivery import AfterAttempt, DeliveryId, DeliveryState
from waitd.ports import StoreListener
from waitd.stores import Store

DAY = 86_400.0


@dataclass
class SteppingListener(StoreListener):
    """Steps the store's clock with the commit, as the engine does."""

    clock: WallClock

    def on_clock_stepped(self, moved: float) -> None:
        self.clock.at += moved


async def retried(store: Store, *, at: float, pause: float) -> DeliveryId:
    """A delivery that was attempted once at `at` and is due after `pause` seconds."""
    [delivery] = (await ended(store, at=at)).deliveries
    after = AfterAttempt(DeliveryState.QUEUED, 1, at + pause, "503")
    await store.save_attempt(delivery.id, after, at)
    return delivery.id


@pytest.mark.parametrize("moved", [7200.0, -7200.0, 30 * DAY, -30 * DAY])
async def test_retries_and_deadlines_keep_their_distance_when_the_clock_steps(
    database: Path, clock: WallClock, moved: float
) -> None:
    async with opened(database, clock, SteppingListener(clock)) as store:
        waiting = await add_one(store)
        clock.at = START + 60
        delivery = await retried(store, at=START + 60, pause=30)
        for step in (moved, -moved, moved):
            before = clock.at
            await store.shift_schedules(step)
            assert clock.at == before + step
            assert await due(store, now=clock.at + 29) == []
            assert [item.id for item in await due(store, now=clock.at + 31)] == [delivery]
            assert (await store.get(waiting.id)).deadline - clock.at == waiting.deadline - (START + 60)


async def test_a_retry_that_was_decided_before_the_clock_was_set_back_keeps_its_pause(
    database: Path, clock: WallClock
) -> None:
    async with opened(database, clock, SteppingListener(clock)) as store:
        clock.at = START - 7200
        delivery = await retried(store, at=START, pause=30)
        assert [item.id for item in await due(store, now=clock.at + 31)] == [delivery]
        assert await store.next_attempt_at() == clock.at + 30


@pytest.mark.parametrize("back", [7200.0, 30 * DAY])
async def test_a_clock_that_was_set_back_over_a_restart_delays_no_retry(
    database: Path, clock: WallClock, back: float
) -> None:
    clock.at = START + 60
    async with opened(database, clock) as store:
        delivery = await retried(store, at=START + 60, pause=30)
    clock.at -= back
    async with opened(database, clock) as store:
        assert await due(store, now=clock.at + 31) == []
        await store.clamp_attempts()
        await store.clamp_attempts()
        assert await due(store, now=clock.at + 29) == []
        assert [item.id for item in await due(store, now=clock.at + 31)] == [delivery]


async def test_a_retry_that_no_delay_explains_is_due_after_the_largest_delay(
    store: Store, clock: WallClock
) -> None:
    clock.at = START
    delivery = await retried(store, at=START, pause=30 * DAY)
    asked = await retried(store, at=START, pause=30_000)  # a sink may ask for as much
    await store.clamp_attempts()
    assert {item.id for item in await due(store, HOOK, START + 36.1)} == {delivery}
    assert {item.id for item in await due(store, HOOK, START + 30_001)} == {delivery, asked}
