"""`SystemClock` sleeps until a time or until it is woken."""

import asyncio
import time
from math import inf

from waitd.engine.clock import SystemClock


async def test_a_sleep_ends_at_its_time_or_when_it_is_woken() -> None:
    clock, wakeup = SystemClock(), asyncio.Event()
    start = time.monotonic()
    await clock.sleep_until(start + 0.02, wakeup)
    assert time.monotonic() >= start + 0.019
    sleeping = asyncio.create_task(clock.sleep_until(inf, wakeup))
    await asyncio.sleep(0)
    assert not sleeping.done()
    wakeup.set()
    await sleeping
    assert not wakeup.is_set(), "it is cleared for the next sleep"


async def test_there_is_no_sleep_if_it_is_woken_already_or_the_time_is_past() -> None:
    clock, wakeup = SystemClock(), asyncio.Event()
    wakeup.set()
    async with asyncio.timeout(60):
        await clock.sleep_until(inf, wakeup)
        await clock.sleep_until(0.0, wakeup)
    assert not wakeup.is_set()


async def test_a_cancelled_sleep_leaves_no_timer() -> None:
    clock, wakeup = SystemClock(), asyncio.Event()
    sleeping = asyncio.create_task(clock.sleep_until(clock.monotonic() + 0.01, wakeup))
    await asyncio.sleep(0)
    sleeping.cancel()
    await asyncio.gather(sleeping, return_exceptions=True)
    await asyncio.sleep(0.03)
    assert not wakeup.is_set()
