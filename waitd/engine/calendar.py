"""Due times in buckets of 10 ms. Putting an entry in costs the same at a hundred and at a million."""

from collections.abc import Iterator, Sequence
from heapq import heappop, heappush
from itertools import islice
from sys import getsizeof

from waitd.engine.held_wait import HeldWait

#: Buckets per second: an entry comes up to one bucket late and never early.
BUCKETS = 100
#: How many buckets are weighed in place of all, and what a bucket's number takes.
SAMPLED, NUMBER_BYTES = 64, 32


class Calendar:
    """Which entry is due when, in monotonic seconds. An entry stands in one bucket; putting it in again moves it."""

    def __init__(self) -> None:
        self._buckets: dict[int, list[HeldWait]] = {}
        self._order: list[int] = []

    def put(self, entry: HeldWait, due: float) -> bool:
        """Makes `entry` come up at `due`; where it stood before is forgotten. True where nothing came up before that so far."""
        bucket = int(due * BUCKETS) + 1
        entries = self._buckets.get(bucket)
        if entries is not None:
            entries.append(entry)
            entry.bucket = entries
            return False
        self._buckets[bucket] = entry.bucket = [entry]
        heappush(self._order, bucket)
        return self._order[0] == bucket

    def put_together(self, entries: Sequence[HeldWait], due: float) -> bool:
        """As `put`, for many that come up at the same time."""
        if not entries:
            return False
        bucket = int(due * BUCKETS) + 1
        there = self._buckets.get(bucket)
        if there is None:
            there = self._buckets[bucket] = []
            heappush(self._order, bucket)
        there.extend(entries)
        for entry in entries:
            entry.bucket = there
        return self._order[0] == bucket

    def take_due(self, now: float) -> Iterator[HeldWait]:
        """The entries that are due at `now`, earliest first; each is in no bucket afterwards."""
        limit = int(now * BUCKETS + 1e-6)  # a bucket's own start, as `next_due` gives it, counts as reached
        while self._order and self._order[0] <= limit:
            entries = self._buckets.pop(heappop(self._order))
            for entry in entries:
                if entry.bucket is entries:  # else it was moved
                    entry.bucket = None
                    yield entry

    def bytes(self) -> float:
        """About what it takes in memory, from a few of its buckets."""
        some = list(islice(self._buckets.values(), SAMPLED))
        each = sum(getsizeof(entries) + NUMBER_BYTES for entries in some) / max(1, len(some))
        return getsizeof(self._buckets) + getsizeof(self._order) + each * len(self._buckets)

    def next_due(self) -> float | None:
        """When the earliest bucket comes up, or None while there is none."""
        return self._order[0] / BUCKETS if self._order else None
