"""Stores the outcomes of waits, and retries until each is on disk."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import chain, repeat

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


def retry_pauses() -> Iterator[float]:
    """The pauses before a write that the store refused is retried, in seconds, without end."""
    return chain((0.1, 0.2, 0.5, 1.0, 2.0), repeat(5.0))


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
        self._queue: deque[tuple[HeldWait, UnstoredOutcome]] = deque()
        self._added = asyncio.Event()
        self.pending = 0
        self.refused = 0

    def add(self, held: HeldWait, outcome: Outcome, now: float) -> None:
        """Marks a wait as ended and queues its outcome. `now` is Unix seconds."""
        held.ended = True
        self.pending += 1
        self._queue.append((held, UnstoredOutcome(held.id, held.progress, outcome, now)))
        self._added.set()

    async def run(self) -> None:
        """Writes until it is cancelled."""
        pauses = retry_pauses()
        while True:
            if not self._queue:
                await self._added.wait()
            self._added.clear()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
            refused = await self._write(batch)
            self.refused = len(refused)
            if refused:
                self._queue.extendleft(reversed(refused))
                pause = next(pauses)
                log.warning("outcomes_not_stored", waits=self.pending, next_try_in=pause)
                await self._clock.sleep(pause)
            else:
                pauses = retry_pauses()

    async def _write(
        self, batch: Sequence[tuple[HeldWait, UnstoredOutcome]]
    ) -> list[tuple[HeldWait, UnstoredOutcome]]:
        """Writes a batch; returns what the store refused."""
        answers = await asyncio.gather(
            *(self._store.finish(outcome) for _, outcome in batch), return_exceptions=True
        )
        refused = []
        for (held, outcome), answer in zip(batch, answers, strict=True):
            if isinstance(answer, StoreUnavailable):
                refused.append((held, outcome))
                continue
            if isinstance(answer, BaseException):
                raise answer
            self.pending -= 1
            self._on_stored(held)
            if answer is not None:
                late = self._clock.monotonic() - held.due
                self._instruments.detection_delay.observe(max(0.0, late))
        return refused
