"""How long ended waits, signals and audit entries are kept, and how many bytes of ended waits.

Pure; times are seconds.
"""

from collections.abc import Mapping
from math import inf


class RetentionHorizon:
    """The time before which records are deleted, by the wall clock that stamped them.

    A wall clock that steps forward would make every record look old at once. So records are kept
    for the retention again after such a step, counted by the monotonic clock.
    """

    def __init__(self, retention: float) -> None:
        self._retention = retention
        #: How far the clock stepped forward.
        self._stepped = 0.0
        #: When no record from before the step is left, monotonic.
        self._step_expires_at = -inf

    def before(self, now: float, monotonic: float) -> float:
        """Unix seconds; `now` and `monotonic` are the same moment on both clocks."""
        if monotonic >= self._step_expires_at:
            self._stepped = 0.0
        return now - self._stepped - self._retention

    def on_clock_step(self, moved: float, monotonic: float) -> None:
        """The wall clock stepped by `moved` seconds at `monotonic`."""
        self._stepped = max(0.0, self._stepped + moved)
        self._step_expires_at = monotonic + self._retention if self._stepped else -inf


def excess_bytes(kept: Mapping[str, int], most: int) -> dict[str, int]:
    """How many bytes each namespace has to lose, so that together they keep at most `most`.

    `kept` has the bytes of each namespace. The shares are max-min fair: who has most loses first,
    so no namespace loses anything because of others while it keeps less than an equal share.
    """
    level, left = inf, most
    for number, size in enumerate(sorted(kept.values())):
        share = left / (len(kept) - number)
        if size > share:
            level = share
            break
        left -= size
    return {name: int(size - level) for name, size in kept.items() if size > level}
