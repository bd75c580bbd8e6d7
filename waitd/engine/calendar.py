"""A calendar queue: due times in buckets of 10 ms.

Inserting costs the same at a hundred entries and at a million.
"""

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from sys import getsizeof

from waitd.engine.held_wait import HeldWait

#: Buckets per second: a wait is due up to one bucket late, and never early.
BUCKETS = 100
#: How many buckets are measured for the memory estimate, and the bytes of a bucket's number.
SAMPLED, NUMBER_BYTES = 64, 32


class Calendar:
    """Held waits by due time in monotonic seconds.

    A wait is in one bucket; putting it again moves it.
    """

    def __init__(self) -> None:
        self._buckets: dict[int, list[HeldWait]] = {}
        self._order: list[int] = []

    def put(self, held: HeldWait, due: float) -> bool:
        """Makes a wait due at `due` only; True when it is the earliest now."""
        bucket = int(due * BUCKETS) + 1
        waits = self._buckets.get(bucket)
        if waits is not None:
            waits.append(held)
            held.bucket = waits
            return False
        self._buckets[bucket] = held.bucket = [held]
        heappush(self._order, bucket)
        return self._order[0] == bucket

    def put_all(self, waits: Sequence[HeldWait], due: float) -> bool:
        """Like `put`, for many waits that are due at the same time."""
        if not waits:
            return False
        bucket = int(due * BUCKETS) + 1
        existing = self._buckets.get(bucket)
        if existing is None:
            existing = self._buckets[bucket] = []
            heappush(self._order, bucket)
        existing.extend(waits)
        for held in waits:
            held.bucket = existing
        return self._order[0] == bucket

    def take_due(self, now: float) -> Iterator[HeldWait]:
        """Removes and returns the waits that are due at `now`, the earliest bucket first."""
        limit = int(now * BUCKETS + 1e-6)  # a bucket's own start, which `next_due` returns, is due
        while self._order and self._order[0] <= limit:
            waits = self._buckets.pop(heappop(self._order))
            for held in waits:
                if held.bucket is waits:  # else it was moved
                    held.bucket = None
                    yield held

    def bytes(self) -> float:
        """Estimates the memory of the calendar from some of its buckets."""
        some = list(islice(self._buckets.values(), SAMPLED))
        each = sum(getsizeof(waits) + NUMBER_BYTES for waits in some) / max(1, len(some))
        return getsizeof(self._buckets) + getsizeof(self._order) + each * len(self._buckets)

    def next_due(self) -> float | None:
        """Returns the start of the earliest bucket; None when the calendar is empty."""
        return self._order[0] / BUCKETS if self._order else None
