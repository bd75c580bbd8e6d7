"""How long ended waits, signals and audit entries are kept. Pure; times are seconds."""

from math import inf


class RetentionHorizon:
    """The time before which records are deleted, by the wall clock that stamped them.

    A wall clock that steps forward would make every record look old at once. So records are kept
    for the retention again after such a step, counted by the monotonic clock.
    """

    def __init__(self, retention: float) -> None:
        self._retention = retention
        #: How far the clock stepped forward, and from when on the records from before the step are
        #: old, monotonic.
        self._stepped, self._forgotten_at = 0.0, -inf

    def before(self, now: float, monotonic: float) -> float:
        """Unix seconds; `now` and `monotonic` are the same moment on both clocks."""
        if monotonic >= self._forgotten_at:
            self._stepped = 0.0
        return now - self._stepped - self._retention

    def reanchor(self, moved: float, monotonic: float) -> None:
        """The wall clock stepped by `moved` seconds at `monotonic`."""
        self._stepped = max(0.0, self._stepped + moved)
        self._forgotten_at = monotonic + self._retention if self._stepped else -inf
