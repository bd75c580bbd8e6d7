"""Time, injected: the only place in the engine that reads a clock or sleeps.

While the daemon runs, only the monotonic clock counts how much time has passed. The wall clock
names the time, for people and over a restart. When it steps, every schedule moves with it, at one
moment: until then, `SteadyClock.now` goes on as if nothing had happened.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Protocol

#: A wall clock that moves by more than this against the monotonic one has stepped, in seconds. It
#: follows smaller corrections as they come.
MAX_DRIFT = 1.0
#: Both clocks are read within this time, in seconds; else the process was stopped in between.
_READ_SECONDS = 0.1


class Clock(Protocol):
    """Wall time for what is stored, monotonic time for what is scheduled; in seconds."""

    def now(self) -> float:
        """Unix seconds. It steps only when the schedules move with it."""

    def monotonic(self) -> float:
        """Seconds that never step."""

    async def sleep_until(self, when: float, wakeup: asyncio.Event) -> None:
        """Sleeps until the monotonic time `when` or until `wakeup` is set, and clears it."""

    async def sleep(self, seconds: float) -> None:
        """Sleeps for that long."""
        await self.sleep_until(self.monotonic() + seconds, asyncio.Event())


class FollowingClock(Clock, Protocol):
    """A clock whose wall time follows the machine's by a call of `follow`."""

    def moved(self) -> float:
        """How far the machine's wall clock has stepped from `now`, in seconds; mostly 0."""

    def follow(self, moved: float) -> None:
        """Makes `now` step by `moved` seconds."""


class SystemClock(Clock):
    """The machine's clocks."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)

    async def sleep_until(self, when: float, wakeup: asyncio.Event) -> None:
        """See `Clock`."""
        pause = when - time.monotonic()
        if pause > 0 and not wakeup.is_set():
            timer = asyncio.get_running_loop().call_later(pause, wakeup.set)
            try:
                await wakeup.wait()
            finally:
                timer.cancel()
        wakeup.clear()


class WallTime:
    """A wall time that steps only by `follow`: its start plus the monotonic time since."""

    def __init__(self, wall: Callable[[], float], monotonic: Callable[[], float]) -> None:
        self._wall = wall
        self._monotonic = monotonic
        self._offset = wall() - monotonic()

    def now(self) -> float:
        """See `Clock`."""
        return self._monotonic() + self._offset

    def moved(self) -> float:
        """See `FollowingClock`. Follows a smaller correction of the wall clock by itself."""
        before = self._monotonic()
        wall, after = self._wall(), self._monotonic()
        moved = wall - before - self._offset
        if after - before > _READ_SECONDS:
            return 0.0
        if abs(moved) > MAX_DRIFT:
            return moved
        self._offset += moved
        return 0.0

    def follow(self, moved: float) -> None:
        """See `FollowingClock`."""
        self._offset += moved


class SteadyClock(WallTime, SystemClock):
    """The clock of a daemon: the machine's, with a wall time that steps only with the schedules."""

    def __init__(self) -> None:
        super().__init__(time.time, time.monotonic)
