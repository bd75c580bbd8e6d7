"""How fast a target is asked once it answers again after a fault. Pure; times are monotonic.

What became due during the fault must not come all at once. So the rate from before the fault is
the limit, already while it lasts. After the first answer a few seconds of ramp lead to that rate,
it holds until the backlog should be gone, and what is still queued then is released at a rate that
grows by a quarter each time: at the rate from before, a backlog on top of it would never be gone.
"""

from collections.abc import Hashable
from math import inf

from waitd.core.bounded_dict import BoundedDict

#: How many failures in a row are a fault.
FAULT_FAILURES = 3
#: The rate is measured over windows of this many seconds.
WINDOW_SECONDS = 10.0
#: The share of the last peak that a window with fewer requests leaves.
PEAK_KEPT = 0.7
#: The ramp begins at this share of the rate, and doubles each second until it reaches the whole.
FIRST_SHARE, RAMP_SECONDS = 1 / 8, 3.0
#: How long the rate holds at least before it grows, in seconds, and its growth.
MIN_HOLD_SECONDS, GROWTH = 30.0, 1.25
#: The requests of this time may come together: no timer is set for each, in seconds.
TICK_SECONDS = 0.1
#: How many targets are remembered by a `Paces`.
REMEMBERED = 10_000


def release_rate(rate: float, hold: float, since: float) -> float:
    """The requests a second that are released `since` seconds after the return.

    Args:
        rate: the rate from before the fault.
        hold: how long it holds before it grows, in seconds.
        since: seconds since the first answer after the fault.
    """
    if since < RAMP_SECONDS:
        return rate * FIRST_SHARE * 2.0 ** int(since)
    return rate * GROWTH ** min(int((since - RAMP_SECONDS) / hold), 180)


class Pace:
    """The pace of requests to one target.

    Attributes:
        count: how many requests have started in this window.
        failures: how many there were since the last answer.
        limited: whether it limits when the next request starts.
        rate: the requests a second from before the fault, 0.0 if none were measured.
        window_ends: until then, adding to `count` is all that `on_start` does.
    """

    __slots__ = (
        "_at",
        "_hold",
        "_min_rate",
        "_returned_at",
        "_since",
        "_tokens",
        "count",
        "failures",
        "limited",
        "rate",
        "window_ends",
    )

    def __init__(self, min_rate: float = 1.0) -> None:
        """`min_rate`: the limit for a target that was asked more rarely before, a second."""
        self._min_rate = min_rate
        self.limited = False
        self.rate = 0.0
        self.failures = self.count = 0
        self._since = self._returned_at = self._at = self._tokens = 0.0
        self._hold = MIN_HOLD_SECONDS
        self.window_ends = 0.0

    @property
    def failing(self) -> bool:
        """Whether the target has a fault."""
        return self.failures >= FAULT_FAILURES

    def on_start(self, now: float) -> None:
        """Counts a request that starts."""
        self.count += 1
        if self.limited:
            self._tokens -= 1.0
        elif now >= self.window_ends:
            if self._since and not self.failures:
                self.rate = max(self.count / (now - self._since), self.rate * PEAK_KEPT)
            self._begin_window(now)

    def _begin_window(self, now: float) -> None:
        self._since, self.count = now, 0
        self.window_ends = -inf if self.limited else now + WINDOW_SECONDS

    def on_failure(self, now: float) -> None:
        """Counts a request that the target did not answer, or not usefully."""
        self.failures += 1
        if self.failures == FAULT_FAILURES:
            self.limited = True
            self.rate = max(self.rate, self._min_rate)
            self.window_ends = -inf
            self._at, self._tokens = now, 1.0

    def on_answer(self, now: float) -> None:
        """Notes an answer; the first one after a fault begins the release."""
        if not self.failures:
            return
        if self.failing:
            self._returned_at = self._at = now
            self._tokens, self._hold = 1.0, MIN_HOLD_SECONDS
        self.failures = 0
        self._begin_window(now)

    def on_backlog(self, backlog: int, rate: float) -> None:
        """Adapts the limit to what is due: how many requests, and how many a second they are."""
        self.rate = max(self.rate, rate)
        self._hold = max(self._hold, backlog / self.rate)

    def next_start(self, now: float) -> float:
        """When the next request may start: `now`, or later."""
        if not self.limited:
            return now
        rate = self.rate
        if not self.failing:
            rate = release_rate(rate, self._hold, now - self._returned_at)
        most = max(1.0, rate * TICK_SECONDS)
        self._tokens = min(most, self._tokens + max(0.0, now - self._at) * rate)
        self._at = now
        # A whole token, but for the rounding of the clock.
        missing = 1.0 - 1e-6 - self._tokens
        return now if missing <= 0 else now + max(missing / rate, TICK_SECONDS / 10)

    def on_drained(self, now: float) -> None:
        """Nothing is due any more: the release ends with the ramp."""
        if self.limited and not self.failing and now - self._returned_at >= RAMP_SECONDS:
            self.limited = False
            self._begin_window(now)


class Paces:
    """The paces of the targets that were asked last, in bounded memory."""

    def __init__(self, min_rate: float) -> None:
        self._min_rate = min_rate
        self._paces: BoundedDict[Hashable, Pace] = BoundedDict(REMEMBERED)

    def __len__(self) -> int:
        return len(self._paces)

    def get(self, target: Hashable) -> Pace:
        """The pace of a target."""
        pace = self._paces.get(target)
        if pace is None:
            pace = self._paces[target] = Pace(self._min_rate)
        else:
            self._paces.move_to_end(target)
        return pace
