"""Holds back changes of progress, so that a row is written once a minute, not at each poke."""

import asyncio
from collections import deque
from collections.abc import Sequence
from math import inf
from sys import getsizeof

from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait
from waitd.ports import PokerStore

#: How long a change may stay in memory only, in seconds.
MAX_AGE = 60.0
#: How many rows one write takes.
BATCH = 1000
#: How many waits a flush writes, once a second. Up to 120,000 waits are at most a minute behind,
#: and a million at most eight; a row costs as much as a poke. Changes of a probe's own state are
#: not limited.
MAX_PER_FLUSH = 2000
#: Changes within this time, in seconds, share an entry of the buffer.
GROUP_SECONDS = 0.1


class ProgressBuffer:
    """The waits whose progress on disk is out of date, the oldest change first.

    Waits whose probe's own state changed come before all others.
    """

    def __init__(self, store: PokerStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._with_new_state: list[HeldWait] = []
        #: Each group with the time of its first change, monotonic seconds.
        self._groups: deque[tuple[float, list[HeldWait]]] = deque()
        #: Set while a probe's own state has changed and is not on disk.
        self.state_changed = asyncio.Event()

    def add(self, held: HeldWait, *, state_changed: bool) -> None:
        """Adds a wait whose progress changed."""
        if state_changed:
            self._with_new_state.append(held)
            self.state_changed.set()
        elif not held.dirty:
            now = self._clock.monotonic()
            since, group = self._groups[-1] if self._groups else (-inf, [])
            if now - since < GROUP_SECONDS and len(group) < BATCH:
                group.append(held)
            else:
                self._groups.append((now, [held]))
        held.dirty = True

    def bytes(self) -> int:
        """Its size in memory, without the waits themselves."""
        return sum(getsizeof(group) for _, group in self._groups)

    async def flush(self, *, everything: bool = False) -> None:
        """Stores what is older than `MAX_AGE`, up to `MAX_PER_FLUSH` waits; or everything.

        Raises:
            StoreUnavailable: what was not stored stays in the buffer.
        """
        with_new_state, self._with_new_state = self._with_new_state, []
        await self._save(with_new_state)
        before = inf if everything else self._clock.monotonic() - MAX_AGE
        left = inf if everything else MAX_PER_FLUSH
        while left > 0 and self._groups and self._groups[0][0] <= before:
            _, group = self._groups.popleft()
            await self._save(group)
            left -= len(group)

    async def _save(self, waits: Sequence[HeldWait]) -> None:
        for start in range(0, len(waits), BATCH):
            batch = [held for held in waits[start : start + BATCH] if held.dirty]
            for held in batch:
                held.dirty = False
            rows = [(held.id, held.progress) for held in batch if not held.ended]
            try:
                if rows:
                    await self._store.save_progress(rows)
            except BaseException:  # a cancellation, too: the drain stores the rest
                unsaved = [*batch, *waits[start + BATCH :]]
                for held in unsaved:
                    held.dirty = True
                self._groups.appendleft((-inf, unsaved))
                raise
