"""Admission control: how many new waits the poker has room for."""

from collections.abc import Iterator
from contextlib import contextmanager

from waitd.ports import Poking


class Admission:
    """Reserves room for submits, so that concurrent ones do not take the same room twice."""

    def __init__(self, poking: Poking) -> None:
        self._poking = poking
        self._reserved = 0

    @contextmanager
    def seats(self, count: int) -> Iterator[int]:
        """Reserves up to `count` seats until the block ends, when the poker counts the waits."""
        granted = max(0, min(count, self._poking.capacity_left() - self._reserved))
        self._reserved += granted
        try:
            yield granted
        finally:
            self._reserved -= granted
