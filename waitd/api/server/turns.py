"""Long work of requests, in turns: only one piece of it runs in each turn of the event loop."""

import asyncio
from time import monotonic
from weakref import WeakKeyDictionary

from waitd.waiters import Waiters

#: How long one request may hold the event loop before it yields, in seconds.
TURN_SECONDS = 0.001


class _TurnQueue:
    """The requests of one event loop that have more work to do; namespaces take turns."""

    def __init__(self) -> None:
        self._waiters = Waiters()
        self._scheduled = False

    async def wait(self, namespace: str) -> None:
        if not self._scheduled:
            self._scheduled = True
            loop = asyncio.get_running_loop()
            loop.call_soon(self._give, loop)
        await self._waiters.wait(namespace, _nothing)

    def _give(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gives the next one its turn, and calls itself again in the next turn of the loop."""
        self._waiters.admit()
        self._scheduled = bool(self._waiters)
        if self._scheduled:
            loop.call_soon(self._give, loop)


def _nothing() -> None:
    """A turn that is not used is over with the turn of the event loop."""


_queues: WeakKeyDictionary[asyncio.AbstractEventLoop, _TurnQueue] = WeakKeyDictionary()


class Turns:
    """Bounds how long a request with much work holds the event loop."""

    def __init__(self, namespace: str) -> None:
        """`namespace`: the caller's."""
        self._namespace = namespace
        self._until = monotonic() + TURN_SECONDS

    def over(self) -> bool:
        """Whether it is time to call `next_turn`."""
        return monotonic() >= self._until

    async def next_turn(self) -> None:
        """Waits until the event loop has done what else there is, and until it is its turn."""
        loop = asyncio.get_running_loop()
        queue = _queues.get(loop)
        if queue is None:
            queue = _queues[loop] = _TurnQueue()
        await queue.wait(self._namespace)
        self._until = monotonic() + TURN_SECONDS
