"""One wait in this process: the same probe and the same decisions as the daemon's, without calendar, queue or store."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from waitd.core.waits.schedule import FINAL_POKE_TIMEOUT, Pacing, grid_phase
from waitd.core.waits.step import Finish, step
from waitd.core.waits.verdict import Failure, Success, Unreachable, Verdict
from waitd.core.waits.wait import Progress
from waitd.engine.clock import Clock
from waitd.ports import Probe, Target

TIMED_OUT = Unreachable("timeout", "No complete answer in time.")


@dataclass(slots=True)
class OneWait:
    """The wait in hand. `deadline` is Unix seconds; `due`, when it is poked next, too, and None while it is being poked."""

    target: Target
    pacing: Pacing
    deadline: float
    silent_fail: bool = False
    progress: Progress = field(default_factory=Progress)
    due: float | None = None

    @property
    def phase(self) -> float:
        """Its place on the grid of due times; see `waitd.core.waits.schedule`."""
        return grid_phase(self.target.key)


async def wait_for(wait: OneWait, probe: Probe, clock: Clock, seen: Callable[[], Any]) -> Finish:
    """Pokes until the wait ends. `seen` is called after each poke that did not end it, when `wait` shows what it learned.

    One poke always starts at the deadline; its answer, or that of a poke in flight then, counts until a second later.
    """
    never = asyncio.Event()
    while True:
        wait.due = None
        started_at = clock.now()
        verdict, last = await _look(wait, probe, clock, started_at)
        judged_from = max(started_at, wait.deadline) if last else started_at
        after = step(wait, verdict, judged_from, clock.now(), random.random())  # noqa: S311 - spreads load, guards nothing
        wait.progress = after.progress
        if isinstance(after, Finish):
            return after
        wait.due = after.due
        seen()
        await clock.sleep_until(clock.monotonic() + after.due - clock.now(), never)


async def _look(wait: OneWait, probe: Probe, clock: Clock, started_at: float) -> tuple[Verdict, bool]:
    """One verdict, and whether it is the last one."""
    left = wait.deadline - started_at
    if left <= 0:
        return await _poke(wait, probe, FINAL_POKE_TIMEOUT), True
    if left >= wait.target.request_timeout:
        return await _poke(wait, probe, wait.target.request_timeout), False
    # The deadline may come while this poke is in flight: then one more starts, and either answer counts for a second.
    pokes = [
        asyncio.create_task(_poke(wait, probe, min(wait.target.request_timeout, left + FINAL_POKE_TIMEOUT)))
    ]
    answered = asyncio.Event()
    pokes[0].add_done_callback(lambda _: answered.set())
    try:
        await clock.sleep_until(clock.monotonic() + left, answered)
        if pokes[0].done():
            return pokes[0].result(), False
        pokes.append(asyncio.create_task(_poke(wait, probe, FINAL_POKE_TIMEOUT)))
        for first in asyncio.as_completed(pokes):
            verdict = await first
            if isinstance(verdict, Success | Failure):
                break
        return verdict, True
    finally:
        for poke in pokes:
            poke.cancel()
        await asyncio.gather(*pokes, return_exceptions=True)


async def _poke(wait: OneWait, probe: Probe, limit: float) -> Verdict:
    try:
        async with asyncio.timeout(limit):
            [verdict] = await probe.poke([wait])
    except TimeoutError:
        return TIMED_OUT
    return verdict
