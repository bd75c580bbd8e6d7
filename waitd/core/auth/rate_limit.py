"""Rate limits: one token bucket for each of any number of keys, in bounded memory."""

import math
from collections.abc import Hashable
from itertools import islice

from waitd.core.bounded_dict import BoundedDict

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
        self._full_at: BoundedDict[Hashable, float] = BoundedDict(max_buckets)

    def __len__(self) -> int:
        return len(self._full_at)

    def delay(self, key: Hashable, now: float) -> float:
        """Seconds until the key's bucket holds a whole token, 0.0 if it does. Consumes nothing.

        `now` is the monotonic time in seconds.
        """
        return max(0.0, self._full_at.get(key, now) - now - self._tolerance)

    def consume(self, key: Hashable, now: float, tokens: int = 1) -> None:
        """Takes `tokens` out of the key's bucket, whatever it holds."""
        self._full_at[key] = max(self._full_at.get(key, now), now) + tokens * self._per_token
        self._drop_full(now)

    def available(self, key: Hashable, now: float) -> int:
        """How many whole tokens the key's bucket holds."""
        debt = max(0.0, self._full_at.get(key, now) - now)
        return max(0, 1 + math.floor((self._tolerance - debt) / self._per_token + 1e-6))

    def _drop_full(self, now: float) -> None:
        """Drops up to two of the oldest buckets if they are full."""
        for key, full_at in tuple(islice(self._full_at.items(), 2)):
            if full_at > now:
                break
            del self._full_at[key]
