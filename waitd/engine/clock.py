"""Time, injected: the only place in the engine that reads a clock or sleeps."""

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Wall time for what is stored, monotonic time for what is scheduled; in seconds."""

    def now(self) -> float:
        """Unix seconds."""

    def monotonic(self) -> float:
        """Seconds that never jump."""

    async def sleep_until(self, when: float, wakeup: asyncio.Event) -> None:
        """Sleeps until the monotonic time `when` or until `wakeup` is set, and clears it."""

    async def sleep(self, seconds: float) -> None:
        """Sleeps for that long."""
        await self.sleep_until(self.monotonic() + seconds, asyncio.Event())


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
