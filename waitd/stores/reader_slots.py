"""Who may read the database next: each namespace queues behind itself."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from waitd.core.errors import StoreUnavailable
from waitd.core.fair_shares import FairShares
from waitd.waiters import Waiters

#: The flow of the daemon's own reads, and its weight among the namespaces, which have 1.
DAEMON, DAEMON_WEIGHT = "", 4.0


class ReaderSlots:
    """A number of slots. When all are taken, the namespaces that wait take turns."""

    def __init__(self, slots: int) -> None:
        self._free = slots
        self._waiters = Waiters(FairShares(lambda flow: DAEMON_WEIGHT if flow == DAEMON else 1.0))

    @asynccontextmanager
    async def slot(self, flow: str, patience: float) -> AsyncIterator[None]:
        """Holds a slot while the block runs.

        Raises:
            StoreUnavailable: none became free within `patience` seconds.
        """
        if self._free:
            self._free -= 1
        else:
            await self._wait(flow, patience)
        try:
            yield
        finally:
            self._release()

    async def _wait(self, flow: str, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                await self._waiters.wait(flow, self._release)
        except TimeoutError:
            raise StoreUnavailable("the database cannot be read now: every reader is busy") from None

    def _release(self) -> None:
        """Gives the slot to the next who still waits."""
        if not self._waiters.admit():
            self._free += 1
