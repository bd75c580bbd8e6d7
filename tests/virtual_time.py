"""An event loop with virtual time: it jumps to the next timer when no task is ready.

Tests of the engine run on it without waiting, exact to the microsecond, with asyncio's timeouts. It
serves code without sockets and threads. A loop without timers is an error instead of a hang.
"""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

from waitd.engine.clock import Clock, WallTime


class _JumpingSelector(selectors.DefaultSelector):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.sleeps = 0

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("the test waits for an event that no task will cause")
        ready = super().select(0)
        if not ready:
            self.now += max(timeout, 0.0)
            self.sleeps += timeout > 0
        return ready


class VirtualTimeLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now

    @property
    def sleeps(self) -> int:
        """How often it had nothing to do, and was woken by a timer."""
        return self._jumping.sleeps


class VirtualClock(WallTime, Clock):
    """A `Clock` on virtual time; `jump` moves the wall clock against the monotonic one."""

    def __init__(self, wall: float = 1_800_000_000.0) -> None:
        self._jumped = wall - self.monotonic()
        super().__init__(lambda: self._jumped + self.monotonic(), self.monotonic)

    def monotonic(self) -> float:
        return asyncio.get_running_loop().time()

    def jump(self, seconds: float) -> None:
        self._jumped += seconds

    async def sleep_until(self, when: float, wakeup: asyncio.Event) -> None:
        # Like SystemClock, without an exception: coverage on Python 3.11 loses track after one is
        # thrown into a coroutine.
        if when > self.monotonic() and not wakeup.is_set():
            loop = asyncio.get_running_loop()
            timer = None if when == float("inf") else loop.call_at(when, wakeup.set)
            try:
                await wakeup.wait()
            finally:
                if timer is not None:
                    timer.cancel()
        wakeup.clear()


def in_virtual_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs an async test on a `VirtualTimeLoop`."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=VirtualTimeLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run
