"""The SQLite file: its lock, connections and migrations."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from functools import partial
from pathlib import Path

import structlog
from sqlalchemy import create_engine, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.pool import StaticPool

from waitd.core.disk_room import DiskSpace
from waitd.core.errors import StoreUnavailable, StoreUnusable
from waitd.stores.database import Database, DatabaseFault
from waitd.stores.migrations import upgrade
from waitd.stores.queries import event_log
from waitd.stores.reader_slots import DAEMON, ReaderSlots
from waitd.stores.restart_clock import clock_moved
from waitd.stores.schema import EVENT_SECRET, metadata
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.disk_space import measure_disk
from waitd.stores.sqlite.errors import (
    UNUSABLE,
    beyond_repair,
    fault_of,
    first_line,
    is_damage,
    is_unavailable,
    result_code,
)
from waitd.stores.sqlite.file_lock import FileLock
from waitd.stores.sqlite.file_watch import FileWatch, find_truncation
from waitd.stores.sqlite.instance import claim
from waitd.stores.unreadable import DAMAGE_REMEDY
from waitd.stores.usage import count_usage

log = structlog.get_logger(__name__)

#: How long a statement waits while another program holds the file's lock, in seconds. Short: the
#: caller gets an error and tries again.
BUSY_TIMEOUT = 0.25
_BEGIN = "BEGIN IMMEDIATE"
#: The number of connections that only read.
READERS = 4
#: How long a read waits for one of them, in seconds.
READER_TIMEOUT = 30.0
#: The first SQLite with `UPDATE … FROM`.
MIN_SQLITE = (3, 33)
#: Result codes that reading what is no longer in a file may have.
_CUT_OFF = frozenset({sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB})
#: The write-ahead log is cut to this size after a checkpoint, in bytes.
_JOURNAL_SIZE_LIMIT = 64 * 1024 * 1024


class SqliteDatabase(Database):
    """One connection that writes, a few that read, and the file's lock.

    A database in memory has one connection for both.
    """

    def __init__(self, path: str, lock: FileLock | None) -> None:
        super().__init__()
        self._path = path
        self._lock = lock
        self._in_memory = lock is None
        self._turn = asyncio.Lock() if self._in_memory else nullcontext()
        self._writer: ConnectionThread | None = None
        self._idle_readers: list[ConnectionThread] = []
        self._reader_slots = ReaderSlots(READERS)
        self._watch: FileWatch | None = None
        self._rescued = False

    @classmethod
    async def open(cls, url: str) -> "SqliteDatabase":
        """See `waitd.stores.opening.open_database`."""
        if sqlite3.sqlite_version_info < MIN_SQLITE:
            raise StoreUnusable(f"SQLite {sqlite3.sqlite_version} is too old; waitd needs 3.33 or newer")
        path = _path_from_url(url)
        database = cls(path, None if path == ":memory:" else _lock_file(Path(path)))
        try:
            await database._migrate()
            if not database._in_memory:  # a descriptor may be hard to get later
                database._idle_readers = [await database._next_reader() for _ in range(READERS)]
            async with database.reading() as connection:
                database.finished_seq = await event_log.last_finished_seq(connection)
                database.event_secret = await event_log.watermark(connection, EVENT_SECRET)
                database.usage = await count_usage(connection)
            if not database._in_memory:
                database._watch = FileWatch(Path(path))
        except BaseException as error:
            await database.close()
            if isinstance(error, StoreUnavailable) and error.__cause__ and is_damage(error.__cause__):
                raise beyond_repair(path, error.__cause__) from error
            if isinstance(error, OSError):
                raise StoreUnusable(f"the database {path} cannot be opened: {error.strerror}") from error
            raise
        return database

    async def claim(self, *, adopt_copy: bool) -> None:
        """Records that a daemon uses the file here; one that is only read is not claimed.

        Raises:
            StoreUnusable: the file is a copy beside its original, and not `adopt_copy`.
            StoreUnavailable: the file cannot be written.
        """
        if self._in_memory:
            return
        try:
            writer = await self._open_writer()
            await writer.run(claim, self._path, adopt_copy)
            self.clock_moved = await clock_moved(writer)
            await writer.fetch_all("SELECT 1")  # runs what is deferred
        except sqlite3.Error as error:
            raise StoreUnavailable(
                f"the database {self._path} cannot be written: {first_line(error)}"
            ) from error

    async def check_files(self) -> None:
        """Looks whether the files are still there; if not, saves what still can be saved."""
        with suppress(StoreUnavailable):  # the files cannot be examined now
            await self._find_loss()
        if not self.loss or self._watch is None or self._rescued or self._watch.shrunk:
            return
        self._rescued = True
        if self._watch.is_unmoved() and await self._empty_log():  # only the log was deleted: it is still open
            log.info("database_rescued", saved="what was accepted until now is in the database's file")

    async def disk_space(self) -> DiskSpace | None:
        """The space on the disk; None if the database is in memory or the disk says nothing.

        Raises:
            StoreUnavailable: the file cannot be read now.
        """
        if self._in_memory:
            return None
        async with self.reading() as connection:
            try:
                return await connection.run(measure_disk, self._path)
            except OSError:
                return None

    def fault_of(self, error: Exception) -> DatabaseFault | None:
        """See `Database`."""
        return fault_of(error)

    async def _find_loss(self) -> None:
        if self.loss or self._watch is None:
            return
        loss = self._watch.find_loss()
        if not loss and self._watch.shrunk:
            loss = await self._find_truncation(self._watch)
        if not loss:
            return
        self.loss = loss
        log.error(
            "database_lost",
            reason=loss,
            consequence="nothing more is accepted or stored until the daemon is restarted",
            remedy="save the waits with `waitd export`, put the file back or mend the mount, restart the daemon",
        )

    async def _find_truncation(self, watch: FileWatch) -> str:
        try:
            async with self.reading() as connection:
                shrunk = [*watch.shrunk]  # another check may clear it meanwhile
                loss = await find_truncation(connection, shrunk) and await find_truncation(connection, shrunk)
        except StoreUnavailable as error:
            if error.__cause__ is None or result_code(error.__cause__) not in _CUT_OFF:
                raise  # it is examined again later
            loss = f"{', '.join(watch.shrunk)} was cut off"
        if not loss:
            watch.shrunk.clear()
        return loss

    async def _check_files(self) -> None:
        """Raises StoreUnavailable if the files were exchanged: a write would be lost."""
        await self._find_loss()
        if self.loss:
            raise StoreUnavailable(
                f"{self.loss}; an operator has to mend it and restart the daemon (see its log)"
            )

    async def _migrate(self) -> None:
        try:
            async with self._turn:
                writer = await self._open_writer()
                self.revisions = await writer.run(_migrate, self._path)
        except (SQLAlchemyError, sqlite3.Error) as error:
            message = f"the database {self._path} cannot be opened: {first_line(error)}"
            if result_code(error) == sqlite3.SQLITE_CORRUPT:
                raise beyond_repair(self._path, error) from error
            if result_code(error) in UNUSABLE:
                raise StoreUnusable(message) from error
            if is_unavailable(error):
                raise StoreUnavailable(message) from error
            raise StoreUnusable(f"{message}. It is damaged, or no database of waitd") from error

    async def _open_writer(self) -> ConnectionThread:
        if self._writer is None:
            self._writer = await ConnectionThread.open(partial(_connect, self._path))
        return self._writer

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[ConnectionThread]:
        """The writing connection, in a transaction that is committed unless the block raises.

        The transaction begins with the block's first statement.
        """
        async with self._turn:
            writer = await self._open_writer()
            try:
                writer.defer(_BEGIN)
                yield writer
                await self._check_files()
                await writer.fetch_all("COMMIT")
            except BaseException as error:
                await self._roll_back(writer)
                if result_code(error) == sqlite3.SQLITE_FULL:
                    await self._empty_log()  # the next transaction may have room in the log
                raise

    async def _empty_log(self) -> bool:
        try:
            await (await self._open_writer()).fetch_all("PRAGMA wal_checkpoint(PASSIVE)")
        except sqlite3.Error:
            return False
        return True

    async def _roll_back(self, writer: ConnectionThread) -> None:
        """Ends the transaction, which a failed COMMIT leaves open; else closes the connection."""
        try:
            await writer.roll_back()
        except sqlite3.Error:
            self._writer = None
            await writer.close()

    @asynccontextmanager
    async def reading(self, flow: str = DAEMON) -> AsyncIterator[ConnectionThread]:
        """A connection without a transaction: each statement sees what was committed before it.

        `flow`: the caller's namespace, whose reads wait for each other.

        Raises:
            StoreUnavailable: the file cannot be read now, or no reader became free in time.
        """
        try:
            async with self._turn, self._reader_slots.slot(flow, READER_TIMEOUT):
                reader = await self._next_reader()
                try:
                    yield reader
                except asyncio.CancelledError:
                    reader.interrupt()
                    raise
                finally:
                    if not self._in_memory:
                        self._idle_readers.append(reader)
        except sqlite3.Error as error:
            if is_damage(error):
                message = f"the database is damaged: {first_line(error)}. Its operator should {DAMAGE_REMEDY}"
                raise StoreUnavailable(message) from error
            if is_unavailable(error):
                raise StoreUnavailable(f"the database cannot be read now: {first_line(error)}") from error
            raise

    async def _next_reader(self) -> ConnectionThread:
        if self._in_memory:
            return await self._open_writer()
        if self._idle_readers:
            return self._idle_readers.pop()
        if self.loss:
            raise StoreUnavailable(f"{self.loss}; only what is open already can be read")
        return await ConnectionThread.open(partial(_connect, self._path))

    async def close(self) -> None:
        """Closes all connections and releases the lock; does nothing the second time."""
        connections = [*self._idle_readers, *([self._writer] if self._writer else [])]
        self._writer = None
        self._idle_readers.clear()
        for connection in connections:
            await connection.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


def _path_from_url(url: str) -> str:
    """The absolute path in a database URL, or `:memory:`. Raises StoreUnusable."""
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreUnusable(f"the database URL is not valid: {first_line(error)}") from None
    backend, path = parsed.get_backend_name(), parsed.database or ":memory:"
    if backend != "sqlite":
        raise StoreUnusable(f"the database must be SQLite (sqlite+aiosqlite:///PATH), not {backend}")
    if parsed.query or path.startswith("file:"):
        raise StoreUnusable("the database URL takes a path and no options: sqlite+aiosqlite:///PATH")
    return path if path == ":memory:" else os.path.realpath(path)  # `Path.resolve` raises at a loop


def _lock_file(path: Path) -> FileLock:
    """Creates the file and its directory, readable by their owner only, and locks the file."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        return FileLock.acquire(path)
    except OSError as error:
        raise StoreUnusable(f"the database {path} cannot be opened: {error.strerror}") from error


def _connect(path: str) -> sqlite3.Connection:
    # Without an isolation level the driver begins no transactions of its own.
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT, isolation_level=None)
    for pragma in (
        "journal_mode = WAL",
        "synchronous = FULL",
        f"journal_size_limit = {_JOURNAL_SIZE_LIMIT}",
        "temp_store = MEMORY",
    ):
        connection.execute(f"PRAGMA {pragma}")
    return connection


def _migrate(connection: sqlite3.Connection, path: str) -> tuple[str | None, str | None]:
    """Migrates in one transaction, over an SQLAlchemy connection that wraps the open one."""
    engine = create_engine("sqlite://", creator=lambda: connection, poolclass=StaticPool)
    with engine.begin() as wrapped:
        wrapped.exec_driver_sql(_BEGIN)
        revisions = upgrade(wrapped, path)
    for table in metadata.sorted_tables:
        found = {name for _, name, *_ in connection.execute(f"PRAGMA table_info({table.name})")}
        if missing := [column.name for column in table.columns if column.name not in found]:
            what = f"{', '.join(missing)} of the table" if found else "the table"
            raise StoreUnusable(
                f"the database {path} is damaged: it lacks {what} {table.name}. Restore it from a backup"
            )
    return revisions
