"""A machine whose clocks a test moves and steps: no schedule of a daemon sees another time."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from waitd.engine.clock import SystemClock

#: How far time moves at once, in seconds.
MOVE = 0.25


class Machine:
    """Both clocks of a machine, which stand still until a test moves them.

    Sockets and threads go on in real time.
    """

    def __init__(self) -> None:
        self.wall, self.passed = 1_900_000_000.0, 1000.0

    def time(self) -> float:
        return self.wall

    def monotonic(self) -> float:
        return self.passed

    def move(self, seconds: float) -> None:
        """Both clocks move on at once."""
        self.wall += seconds
        self.passed += seconds

    def step(self, clock: str, seconds: float) -> None:
        """One clock steps against the other: `wall` or `monotonic`."""
        if clock == "wall":
            self.wall += seconds
        else:
            self.passed += seconds

    async def passes(self, seconds: float) -> None:
        """Time passes on the running loop, so slowly that timers are seen in their order."""
        for _ in range(round(seconds / MOVE)):
            self.move(MOVE)
            await self.rest()

    async def rest(self) -> None:
        """Lets the loop and the threads go on while the clocks stand still."""
        await asyncio.to_thread(time.sleep, 0.005)

    async def reached(self, condition: Callable[[], Awaitable[bool]]) -> None:
        """Waits until `condition()` holds while the clocks stand still."""
        limit = time.monotonic() + 60
        while not await condition():
            assert time.monotonic() < limit, "the condition needs more than the time that passed"
            await self.rest()


def install(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Makes a daemon, and the running loop, use the machine's clocks."""
    loop: Any = asyncio.get_running_loop()
    monkeypatch.setattr(loop, "time", machine.monotonic, raising=False)
    monkeypatch.setattr("waitd.engine.clock.time", machine)
    monkeypatch.setattr("waitd.api.server.throttle.monotonic", machine.monotonic)
    monkeypatch.setattr(SystemClock, "now", staticmethod(machine.time))
    monkeypatch.setattr(SystemClock, "monotonic", staticmethod(machine.monotonic))
    return machine
