"""Stores the outcomes of waits, and retries until each is on disk."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import structlog

from waitd.core.errors import StoreUnavailable
from waitd.core.waits.wait import Outcome
from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait
from waitd.metrics import Instruments
from waitd.ports import PokerStore, UnstoredOutcome

log = structlog.get_logger(__name__)

#: How many outcomes are written at a time.
BATCH = 1000
#: Pauses before a write that the store refused is retried, in seconds; the last one repeats.
RETRY_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class _Item(NamedTuple):
    held: HeldWait
    outcome: Outcome
    at: float


class OutcomeWriter:
    """A queue of outcomes and the loop that writes it.

    Attributes:
        pending: how many outcomes are not on disk yet.
        refused: how many of them the store refused at the last try.
    """

    def __init__(
        self,
        store: PokerStore,
        clock: Clock,
        instruments: Instruments,
        *,
        on_stored: Callable[[HeldWait], None],
    ) -> None:
        """`on_stored` is called with each wait whose outcome is on disk."""
        self._store = store
        self._clock = clock
        self._instruments = instruments
        self._on_stored = on_stored
        self._queue: deque[_Item] = deque()
        self._added = asyncio.Event()
        self.pending = 0
        self.refused = 0

    def add(self, held: HeldWait, outcome: Outcome, now: float) -> None:
        """Marks a wait as ended and queues its outcome. `now` is Unix seconds."""
        held.ended = True
        self.pending += 1
        self._queue.append(_Item(held, outcome, now))
        self._added.set()

    async def run(self) -> None:
        """Writes until it is cancelled."""
        failures = 0
        while True:
            if not self._queue:
                await self._added.wait()
            self._added.clear()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
            refused = await self._write(batch)
            self.refused = len(refused)
            if refused:
                self._queue.extendleft(reversed(refused))
                pause = RETRY_PAUSES[min(failures, len(RETRY_PAUSES) - 1)]
                failures += 1
                log.warning("outcomes_not_stored", waits=self.pending, next_try_in=pause)
                await self._clock.sleep_until(self._clock.monotonic() + pause, asyncio.Event())
            else:
                failures = 0

    async def _write(self, batch: Sequence[_Item]) -> list[_Item]:
        """Writes a batch; returns what the store refused."""
        outcomes = [UnstoredOutcome(held.id, held.progress, outcome, at) for held, outcome, at in batch]
        answers = await asyncio.gather(*map(self._store.finish, outcomes), return_exceptions=True)
        refused = []
        for item, answer in zip(batch, answers, strict=True):
            if isinstance(answer, StoreUnavailable):
                refused.append(item)
                continue
            if isinstance(answer, BaseException):
                raise answer
            self.pending -= 1
            self._on_stored(item.held)
            if answer is not None:
                late = self._clock.monotonic() - item.held.due
                self._instruments.detection_delay.observe(max(0.0, late))
        return refused
