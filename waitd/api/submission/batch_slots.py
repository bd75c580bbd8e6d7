"""How many batches run at the same time, and whose is next."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from waitd.api.problems import refusal
from waitd.waiters import wait_for_turn

#: How many batches are read and stored at the same time: each may take some hundred MiB.
MAX_RUNNING = 8
#: How many more batches may wait for that.
MAX_QUEUED = 64


class BatchSlots:
    """The slots of running batches. A free one goes to the namespace that has the fewest."""

    def __init__(self) -> None:
        self._free = MAX_RUNNING
        self._running: Counter[str] = Counter()
        #: The namespaces of the batches that wait, in the order in which they came.
        self._queue: dict[asyncio.Future[None], str] = {}

    @asynccontextmanager
    async def slot(self, namespace: str) -> AsyncIterator[None]:
        """Holds a slot while the block runs, and waits for one before.

        Raises:
            ProblemError: 429, too many batches are running and queued.
        """
        if self._free:
            self._take(namespace)
        else:
            await self._wait(namespace)
        try:
            yield
        finally:
            self._release(namespace)

    async def _wait(self, namespace: str) -> None:
        if len(self._queue) >= MAX_QUEUED:
            raise refusal("too-many-batches", "nothing was stored; send it again")
        turn = asyncio.get_running_loop().create_future()
        self._queue[turn] = namespace
        try:
            await wait_for_turn(turn, lambda: self._release(namespace))
        finally:
            self._queue.pop(turn, None)

    def _take(self, namespace: str) -> None:
        self._free -= 1
        self._running[namespace] += 1

    def _release(self, namespace: str) -> None:
        self._free += 1
        self._running[namespace] -= 1
        if not self._running[namespace]:
            del self._running[namespace]
        waiting = [turn for turn in self._queue if not turn.done()]
        if waiting:
            turn = min(waiting, key=lambda turn: self._running[self._queue[turn]])
            self._take(self._queue.pop(turn))
            turn.set_result(None)
