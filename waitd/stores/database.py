"""What the store needs of a database, SQLite or another."""

from abc import ABC, abstractmethod
from contextlib import AbstractAsyncContextManager
from enum import Enum

from waitd.core.disk_room import DiskSpace
from waitd.stores.connection import StoreConnection
from waitd.stores.reader_slots import DAEMON
from waitd.stores.unreadable import UnreadableRows
from waitd.stores.usage import Usage


class DatabaseFault(Enum):
    """What an error of the database blames."""

    #: The database for now (lock, I/O error, lost connection): a retry may succeed.
    UNAVAILABLE = "unavailable"
    #: The disk, which is full: a smaller transaction may succeed.
    FULL = "full"
    #: What is stored: it cannot be read.
    DAMAGE = "damage"
    #: The statement: no retry mends it.
    STATEMENT = "statement"


class Database(ABC):
    """An open and migrated database: one connection that writes, and a few that read.

    Attributes:
        revisions: the schema's revision before and after opening; None where there was no schema.
        finished_seq: the number of the last event when the database was opened.
        event_secret: the secret drawn when the database was created.
        usage: how much each namespace and each principal had when the database was opened.
        unreadable: the rows that could not be read.
        loss: what happened to the database under the daemon, in a sentence; "" if nothing. Once it
            is set, nothing is written any more.
        clock_moved: how far the wall clock has stepped since the schedules last moved with it.
    """

    def __init__(self) -> None:
        self.revisions: tuple[str | None, str | None] = (None, None)
        self.finished_seq = 0
        self.event_secret = 0
        self.usage = Usage()
        self.unreadable = UnreadableRows()
        self.loss = ""
        self.clock_moved = 0.0

    @abstractmethod
    async def claim(self, *, adopt_copy: bool) -> None:
        """Records that a daemon uses the database; one that is only read is not claimed.

        Raises:
            StoreUnusable: it is a copy beside its original, and not `adopt_copy`.
            StoreUnavailable: it cannot be written.
        """

    @abstractmethod
    async def check_files(self) -> None:
        """Looks whether the database is still there; if not, saves what still can be saved."""

    @abstractmethod
    async def disk_space(self) -> DiskSpace | None:
        """The space on the disk; None if it is not known.

        Raises:
            StoreUnavailable: the database cannot be read now.
        """

    @abstractmethod
    def writing(self) -> AbstractAsyncContextManager[StoreConnection]:
        """The writing connection, in a transaction that is committed unless the block raises."""

    @abstractmethod
    def reading(self, flow: str = DAEMON) -> AbstractAsyncContextManager[StoreConnection]:
        """A connection without a transaction: each statement sees what was committed before it.

        `flow`: the caller's namespace, whose reads wait for each other.

        Raises:
            StoreUnavailable: the database cannot be read now, or no reader became free in time.
        """

    @abstractmethod
    def fault_of(self, error: Exception) -> DatabaseFault | None:
        """What an error blames; None: it is not one of the database."""

    @abstractmethod
    async def close(self) -> None:
        """Closes all connections; does nothing the second time."""
