"""How often somebody may do something: a token bucket for each of any number of keys, in bounded memory."""

from collections import OrderedDict
from collections.abc import Hashable
from itertools import islice

#: How many buckets are kept. Beyond it the one that was drawn on longest ago is forgotten, as if it were full.
MAX_BUCKETS = 10_000


class RateLimiter:
    """Token buckets by key, all of one size. Each is one number: when it will be full again (the generic cell rate algorithm).

    A bucket may be drawn on while it holds a whole token, and then by any number: what is drawn beyond its content is a debt that is
    refilled before the next draw. So the cost of a call may be found out while it is served.
    """

    def __init__(self, rate: float, burst: int, *, most: int = MAX_BUCKETS) -> None:
        """`rate`: tokens a second that come in; `burst`: tokens in a full bucket, at least 1; `most`: how many buckets are kept."""
        self._per_token = 1.0 / rate
        self._tolerance = (burst - 1) / rate
        self._most = most
        self._full_at: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._full_at)

    def wait(self, key: Hashable, now: float) -> float:
        """Seconds until the key's bucket holds a whole token; 0.0 where it does. `now`: monotonic, seconds. Draws nothing."""
        return max(0.0, self._full_at.get(key, now) - now - self._tolerance)

    def draw(self, key: Hashable, now: float, tokens: int = 1) -> None:
        """Takes `tokens` out of the key's bucket, whatever it holds."""
        self._full_at[key] = max(self._full_at.get(key, now), now) + tokens * self._per_token
        self._full_at.move_to_end(key)
        self._forget(now)

    def _forget(self, now: float) -> None:
        """Two of the oldest where they are full, which loses nothing; and one where there are too many."""
        for key, full_at in tuple(islice(self._full_at.items(), 2)):
            if full_at > now:
                break
            del self._full_at[key]
        if len(self._full_at) > self._most:
            self._full_at.popitem(last=False)
