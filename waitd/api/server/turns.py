"""Long work of requests, in turns: only one piece of it runs in each turn of the event loop."""

import asyncio
from time import monotonic
from weakref import WeakKeyDictionary

from waitd.core.fair_shares import FairBacklog, FairShares

#: How long one request may hold the event loop before it yields, in seconds.
TURN_SECONDS = 0.001


class _TurnQueue:
    """The requests of one event loop that have more work to do; namespaces take turns."""

    def __init__(self) -> None:
        self._waiting: FairBacklog[asyncio.Future[None]] = FairBacklog(FairShares())
        self._scheduled = False

    async def wait(self, namespace: str) -> None:
        loop = asyncio.get_running_loop()
        turn = loop.create_future()
        self._waiting.append(namespace, turn)
        if not self._scheduled:
            self._scheduled = True
            loop.call_soon(self._give, loop)
        await turn

    def _give(self, loop: asyncio.AbstractEventLoop) -> None:
        """Gives the next one its turn, and calls itself again in the next turn of the loop."""
        while self._waiting:
            turn = self._waiting.pop()
            if not turn.done():  # else its caller is gone
                turn.set_result(None)
                break
        self._scheduled = bool(self._waiting)
        if self._scheduled:
            loop.call_soon(self._give, loop)


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
