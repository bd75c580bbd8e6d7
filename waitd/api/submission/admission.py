"""How many waits may still come in: the poker's room, less what is already on its way into the store."""

from collections.abc import Iterator
from contextlib import contextmanager

from waitd.ports import Poking


class Admission:
    """Gives out seats, so that submits in flight at the same time do not take the same room twice."""

    def __init__(self, poking: Poking) -> None:
        self._poking = poking
        self._promised = 0

    @contextmanager
    def seats(self, wanted: int) -> Iterator[int]:
        """Up to `wanted` seats, kept until the block ends: by then the poker counts the waits itself."""
        granted = max(0, min(wanted, self._poking.capacity_left() - self._promised))
        self._promised += granted
        try:
            yield granted
        finally:
            self._promised -= granted
