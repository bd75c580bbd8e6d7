"""Rate limits: one token bucket for each of any number of keys, in bounded memory."""

import math
from collections import OrderedDict
from collections.abc import Hashable
from itertools import islice

#: The most buckets that are kept. Beyond it, the least recently used one is dropped, as if it were
#: full.
MAX_BUCKETS = 10_000


class RateLimiter:
    """Token buckets of one size. Each is stored as the time at which it is full.

    That is the generic cell rate algorithm (GCRA).

    A call may consume any number of tokens while its bucket holds at least one. A call that takes
    more leaves a debt, and the next call waits until it is paid. So the cost of a call may be known
    only after it was served.
    """

    def __init__(self, rate: float, burst: int, *, max_buckets: int = MAX_BUCKETS) -> None:
        """Sets the size of all buckets.

        Args:
            rate: tokens added per second.
            burst: tokens in a full bucket, at least 1.
            max_buckets: the most buckets that are kept.
        """
        self._per_token = 1.0 / rate
        self._tolerance = (burst - 1) / rate
        self._max_buckets = max_buckets
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def delay(self, key: Hashable, now: float) -> float:
        """Seconds until the key's bucket holds a whole token, 0.0 if it does. Consumes nothing.

        `now` is the monotonic time in seconds.
        """
        return max(0.0, self._full_at.get(key, now) - now - self._tolerance)

    def take(self, key: Hashable, now: float) -> float:
        """Takes a token if the key's bucket holds one; else returns the seconds until it does."""
        full_at = self._full_at.get(key, now)
        delay = full_at - now - self._tolerance
        if delay > 0.0:
            return delay
        self._store(key, (max(now, full_at)) + self._per_token, now)
        return 0.0

    def consume(self, key: Hashable, now: float, tokens: int = 1) -> None:
        """Takes `tokens` out of the key's bucket, whatever it holds."""
        self._store(key, max(self._full_at.get(key, now), now) + tokens * self._per_token, now)

    def available(self, key: Hashable, now: float) -> int:
        """How many whole tokens the key's bucket holds."""
        debt = max(0.0, self._full_at.get(key, now) - now)
        return max(0, 1 + math.floor((self._tolerance - debt) / self._per_token + 1e-6))

    def _store(self, key: Hashable, full_at: float, now: float) -> None:
        """Stores a bucket as the newest one, and drops up to two of the oldest that are full."""
        buckets = self._full_at
        buckets[key] = full_at
        if len(buckets) == 1:
            return
        buckets.move_to_end(key)
        if len(buckets) > self._max_buckets:
            buckets.popitem(last=False)
        if buckets[next(iter(buckets))] > now:
            return
        for old, old_full_at in tuple(islice(buckets.items(), 2)):
            if old_full_at > now:
                break
            del buckets[old]
