"""What the poker learned, on its way to disk: outcomes at once and until they are there, progress now and then."""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from sys import getsizeof

import structlog

from waitd.core.errors import StoreUnavailable
from waitd.core.waits.wait import Outcome, Progress, WaitId
from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait
from waitd.metrics import Instruments
from waitd.ports import PokerStore, UnstoredOutcome

log = structlog.get_logger(__name__)

#: How long a change of progress may stay in memory only, in seconds.
PROGRESS_SECONDS = 60.0
#: How many rows one write takes.
CHUNK = 1000
#: How many waits' progress is written at a time, once a second, where no probe's own state changed: up to 120,000 waits are a minute behind
#: at most, a million eight. A row costs as much as a poke.
AT_A_TIME = 2000
#: Changes within so many seconds are noted together.
TOGETHER = 0.1
#: Pauses between tries of a write that the store refuses, in seconds; the last one repeats.
RETRY_PAUSES = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0)


class OutcomeWriter:
    """Writes outcomes, all that there are at a time; what the store refuses is tried again until it is on disk."""

    def __init__(
        self, store: PokerStore, clock: Clock, instruments: Instruments, *, stored: Callable[[HeldWait], None]
    ) -> None:
        """`stored` is told of each entry whose end is on disk."""
        self._store = store
        self._clock = clock
        self._instruments = instruments
        self._stored = stored
        self._queue: deque[tuple[HeldWait, Outcome, float]] = deque()
        self._added = asyncio.Event()
        #: How many waits have ended and are not yet on disk.
        self.open = 0
        #: How many of them the store refused when it was last asked.
        self.refused = 0

    def add(self, entry: HeldWait, outcome: Outcome, now: float) -> None:
        """Marks a wait as ended and puts its outcome in line. `now` is Unix seconds."""
        entry.ended = True
        self.open += 1
        self._queue.append((entry, outcome, now))
        self._added.set()

    async def run(self) -> None:
        """Writes until it is cancelled."""
        failures = 0
        while True:
            if not self._queue:
                await self._added.wait()
            self._added.clear()
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), CHUNK))]
            refused = await self._write(batch)
            self.refused = len(refused)
            if refused:
                self._queue.extendleft(reversed(refused))
                pause = RETRY_PAUSES[min(failures, len(RETRY_PAUSES) - 1)]
                failures += 1
                log.warning("outcomes_not_stored", waits=self.open, next_try_in=pause)
                await self._clock.sleep_until(self._clock.monotonic() + pause, asyncio.Event())
            else:
                failures = 0

    async def _write(
        self, batch: Sequence[tuple[HeldWait, Outcome, float]]
    ) -> list[tuple[HeldWait, Outcome, float]]:
        endings = [UnstoredOutcome(entry.id, entry.progress, outcome, now) for entry, outcome, now in batch]
        answers = await asyncio.gather(*map(self._store.finish, endings), return_exceptions=True)
        refused = []
        for item, answer in zip(batch, answers, strict=True):
            if isinstance(answer, StoreUnavailable):
                refused.append(item)
                continue
            if isinstance(answer, BaseException):
                raise answer
            self.open -= 1
            entry = item[0]
            self._stored(entry)
            if answer is not None:
                self._instruments.detection_delay.observe(max(0.0, self._clock.monotonic() - entry.due))
        return refused


class ProgressBuffer:
    """Entries whose progress on disk is behind, the longest behind first; those whose probe's own state changed before all others."""

    def __init__(self, store: PokerStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._changed: list[HeldWait] = []
        #: By when they were noted, to `TOGETHER` seconds.
        self._behind: deque[tuple[float, list[HeldWait]]] = deque()
        #: Set when a probe's own state changed and is not yet on disk.
        self.state_changed = asyncio.Event()

    def note(self, entry: HeldWait, *, state_changed: bool) -> None:
        """The entry's progress changed."""
        if state_changed:
            entry.dirty = True
            self._changed.append(entry)
            self.state_changed.set()
        elif not entry.dirty:
            entry.dirty = True
            now = self._clock.monotonic()
            since, last = self._behind[-1] if self._behind else (-inf, [])
            if now - since < TOGETHER and len(last) < CHUNK:
                last.append(entry)
            else:
                self._behind.append((now, [entry]))

    def bytes(self) -> int:
        """What it takes in memory, the entries themselves left out."""
        return sum(getsizeof(entries) for _, entries in self._behind)

    async def flush(self, *, everything: bool = False) -> None:
        """Stores what waits have learned more than a minute ago, so much of it as is good at a time, or everything there is to store.

        Raises:
            StoreUnavailable: what was not stored will be tried again.
        """
        changed, self._changed = self._changed, []
        await self._save(changed)
        before = inf if everything else self._clock.monotonic() - PROGRESS_SECONDS
        left = inf if everything else AT_A_TIME
        while left > 0 and self._behind and self._behind[0][0] <= before:
            _, entries = self._behind.popleft()
            await self._save(entries)
            left -= len(entries)

    async def _save(self, entries: Sequence[HeldWait]) -> None:
        for start in range(0, len(entries), CHUNK):
            chunk = [entry for entry in entries[start : start + CHUNK] if entry.dirty]
            rows: list[tuple[WaitId, Progress]] = []
            for entry in chunk:
                entry.dirty = False
                if not entry.ended:
                    rows.append((entry.id, entry.progress))
            try:
                if rows:
                    await self._store.save_progress(rows)
            except BaseException:  # a cancellation, too: what is not on disk by then is for the drain
                again = [*chunk, *entries[start + CHUNK :]]
                for entry in again:
                    entry.dirty = True
                self._behind.appendleft((-inf, again))
                raise
