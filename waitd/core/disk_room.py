"""How much more callers may store, given how full the database's disk is. Pure; sizes are bytes.

A reserve stays for what must be written whatever happens: the ends of the waits that are held, and
their deliveries. Requests that make the database grow are refused before it is touched.
"""

from math import inf
from typing import NamedTuple

from waitd.core.errors import DiskNearlyFull

#: A small disk has a smaller reserve, and is called low later: a tenth and a fifth of it.
RESERVE_DIVISOR, LOW_DIVISOR = 10, 5
#: An eighth of the reserve must be free beside it before requests are accepted again.
STEP_DIVISOR = 8
#: So much room the log of the database must have where the file itself has free pages. SQLite
#: empties it into the file when it has 1,000 pages of 4 KiB, and keeps its file.
LOG_BYTES = 4_000_000
#: What a request takes beside its own size, and how often it is written: to the log and the file.
OVERHEAD, WRITES = 1024, 2


class DiskSpace(NamedTuple):
    """The space on the disk of the database.

    Attributes:
        size: of the disk; 0: not known.
        free: what this process may still take.
        reusable: free pages inside the database's file, which never shrinks.
        log: the size of the log's file, which is written again from its start.
    """

    size: int
    free: int
    reusable: int
    log: int = 0


class DiskRoom:
    """Counts what was taken since the disk was measured. Without a measurement there is no limit.

    Attributes:
        full: whether requests that make the database grow are refused.
        low: whether little is left; also while `full`.
    """

    def __init__(self, reserve: int = 0, warning: int = 0) -> None:
        """`warning`: below so many bytes the disk is low; `reserve`: they are kept; 0: never."""
        self._reserve = reserve
        self._warning = warning
        self._space = DiskSpace(0, 0, 0)
        self._left = inf
        #: What was taken since the last measurement, and before it: some of that was not on disk.
        self._taken = self._taken_before = 0
        self.full = False
        self.low = False

    def measure(self, space: DiskSpace | None) -> None:
        """Notes the space of the disk. None: it is not known, and thought to be as before."""
        if space is not None and space.size:
            self._space = space
        space = self._space
        if not space.size:
            return
        reserve = min(self._reserve, space.size // RESERVE_DIVISOR)
        step = reserve // STEP_DIVISOR
        log_lacks = min(step, LOG_BYTES) - space.free - space.log
        left = min(self._available - reserve, -log_lacks if log_lacks > 0 else inf)
        self.full = reserve > 0 and left < (step if self.full else 0)
        self._taken, self._taken_before = 0, self._taken
        self._left = left - self._taken_before
        self.low = self.full or self._available < min(self._warning, space.size // LOW_DIVISOR)

    @property
    def _available(self) -> int:
        return self._space.free + self._space.reusable

    @property
    def warning(self) -> str:
        """What an operator should know, in a sentence; "" unless the disk is low."""
        if not self.low:
            return ""
        left = f"the disk of the database has {self._available >> 20:,} MiB left"
        if self.full:
            return f"{left}: submits, signals and redeliveries are refused until there is room again"
        return f"{left}: soon submits, signals and redeliveries will be refused"

    def take(self, size: int, requests: int = 1) -> None:
        """Takes room for requests that store `size` bytes together.

        Raises:
            DiskNearlyFull: none is left, apart from the reserve.
        """
        if not self._reserve:
            return
        taken = WRITES * (size + requests * OVERHEAD)
        if self.full or self._taken + taken > self._left:
            raise DiskNearlyFull(
                "the disk of the database is nearly full, and the rest is kept for the ends of waits"
            )
        self._taken += taken
