"""Runs one wait in this process, without a daemon.

It uses the daemon's probes and its decisions (`waitd.core.waits.step`), but no calendar, queue or
store.
"""

import asyncio
import random
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from waitd.core.connections.proxies import noted_proxy, through_proxy
from waitd.core.waits.schedule import FINAL_POKE_TIMEOUT, Pacing, grid_phase
from waitd.core.waits.step import Finish, step
from waitd.core.waits.verdict import Failure, Success, Unreachable, Verdict
from waitd.core.waits.wait import Progress
from waitd.engine.clock import Clock
from waitd.ports import Probe, Target

TIMED_OUT = Unreachable("timeout", "No complete answer in time.")


@dataclass(slots=True)
class StandaloneWait:
    """The wait and its progress.

    Attributes:
        deadline: Unix seconds.
        due: when the next poke starts, Unix seconds; None during a poke.
    """

    target: Target
    pacing: Pacing
    deadline: float
    silent_fail: bool = False
    progress: Progress = field(default_factory=Progress)
    due: float | None = None

    @property
    def phase(self) -> float:
        """Its offset on the grid of due times; see `waitd.core.waits.schedule`."""
        return grid_phase(self.target.key, self.pacing.poke_interval)


async def run_wait(
    wait: StandaloneWait, probe: Probe, clock: Clock, on_progress: Callable[[], Any]
) -> Finish:
    """Pokes until the wait ends.

    The last poke starts at the deadline. Its answer, or that of a poke already in flight, counts if
    it comes within FINAL_POKE_TIMEOUT. `on_progress` is called after each poke that did not end the
    wait, once `wait` is up to date.
    """
    never = asyncio.Event()
    while True:
        wait.due = None
        started_at = clock.now()
        verdict, is_last = await _next_verdict(wait, probe, clock, started_at)
        counted_from = max(started_at, wait.deadline) if is_last else started_at
        after = step(wait, verdict, counted_from, clock.now(), random.random())  # noqa: S311 - spreads load, protects nothing
        wait.progress = after.progress
        if isinstance(after, Finish):
            return after
        wait.due = after.due
        on_progress()
        await clock.sleep_until(clock.monotonic() + after.due - clock.now(), never)


async def _next_verdict(
    wait: StandaloneWait, probe: Probe, clock: Clock, started_at: float
) -> tuple[Verdict, bool]:
    """The next verdict, and whether it is the last one."""
    left = wait.deadline - started_at
    if left <= 0:
        return await poke_once(wait, probe, FINAL_POKE_TIMEOUT), True
    if left >= wait.target.request_timeout:
        return await poke_once(wait, probe, wait.target.request_timeout), False
    # The deadline may pass during this poke. Then a second poke starts, and the first decisive
    # answer of the two counts.
    timeout = min(wait.target.request_timeout, left + FINAL_POKE_TIMEOUT)
    pokes = [asyncio.create_task(poke_once(wait, probe, timeout))]
    answered = asyncio.Event()
    pokes[0].add_done_callback(lambda _: answered.set())
    try:
        await clock.sleep_until(clock.monotonic() + left, answered)
        if pokes[0].done():
            return pokes[0].result(), False
        pokes.append(asyncio.create_task(poke_once(wait, probe, FINAL_POKE_TIMEOUT)))
        for first in asyncio.as_completed(pokes):
            verdict = await first
            if isinstance(verdict, Success | Failure):
                break
        return verdict, True
    finally:
        for poke in pokes:
            poke.cancel()
        await asyncio.gather(*pokes, return_exceptions=True)


async def poke_once(wait: StandaloneWait, probe: Probe, seconds: float) -> Verdict:
    """Pokes once. The verdict is `TIMED_OUT` if there is none within this many seconds."""
    try:
        async with asyncio.timeout(seconds):
            [verdict] = await probe.poke([wait])
    except TimeoutError as error:
        return replace(TIMED_OUT, message=through_proxy(TIMED_OUT.message, noted_proxy(error)))
    return verdict
