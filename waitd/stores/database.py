"""The SQLite file: who may open it, its connections, its migrations, and which of its errors mean "not now"."""

import asyncio
import os
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, nullcontext, suppress
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import Connection, event, make_url
from sqlalchemy.engine import URL
from sqlalchemy.exc import ArgumentError, SQLAlchemyError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import StaticPool

from waitd.core.errors import StoreUnavailable, StoreUnusable
from waitd.stores.migrations import upgrade
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.filelock import FileLock

#: How long a statement waits for a lock that another program holds on the file, seconds. Short: callers are told, and try again.
BUSY_TIMEOUT = 0.25
_BEGIN = "BEGIN IMMEDIATE"
#: Connections that only read.
READERS = 4
#: How long a read waits for one of them, in seconds.
READ_PATIENCE = 30.0
#: The first SQLite with `UPDATE … FROM`.
OLDEST_SQLITE = (3, 33)
#: To how many bytes the write-ahead log is cut back after a checkpoint.
_JOURNAL_SIZE_LIMIT = 64 * 1024 * 1024
#: SQLite's primary result codes that tell of the statement, not of the file: a defect of ours, which trying again does not mend.
_OUR_FAULT = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_TOOBIG,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
    }
)


class Database:
    """One connection that writes, a few that read, and the lock on the file while it is open.

    A database in memory has one connection for both, which takes turns.
    """

    def __init__(self, writing: AsyncEngine, reading: AsyncEngine, lock: FileLock | None) -> None:
        self._engines = (writing, reading)
        self._lock = lock
        self._turn = nullcontext() if writing is not reading else asyncio.Lock()
        self._writer: _Linked | None = None
        self._idle_readers: list[_Linked] = []
        self._places = asyncio.Semaphore(READERS)
        #: From which to which revision it was migrated when it was opened; None: there was no database.
        self.revisions: tuple[str | None, str | None] = (None, None)

    @classmethod
    async def open(cls, url: str) -> "Database":
        """Opens the file, making it and its directory where they are missing, and migrates it.

        Args:
            url: a SQLAlchemy URL, `sqlite+aiosqlite:///PATH`; without a path the database lives in memory.

        Raises:
            StoreUnusable: no database that this waitd can use alone: see the message.
            StoreUnavailable: another program holds the file, or the disk is full.
        """
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            raise StoreUnusable(f"SQLite {sqlite3.sqlite_version} is too old; 3.33 or newer is needed")
        parsed = _checked(url)
        in_memory = parsed.database in {None, "", ":memory:"}
        lock = None if in_memory else _claim(parsed)
        writing = _engine(
            parsed, begin=_BEGIN, pool={"poolclass": StaticPool} if in_memory else {"pool_size": 1}
        )
        reading = (
            writing
            if in_memory
            else _engine(parsed, begin=None, pool={"pool_size": READERS, "max_overflow": 0})
        )
        database = cls(writing, reading, lock)
        try:
            await database._migrate(parsed.database or "memory")
        except BaseException:
            await database.close()
            raise
        return database

    async def _migrate(self, name: str) -> None:
        try:
            async with self._turn, self._engines[0].begin() as connection:
                self.revisions = await connection.run_sync(upgrade, name)
        except (SQLAlchemyError, sqlite3.Error) as error:
            code = _result_code(error)
            if code in {
                sqlite3.SQLITE_NOTADB,
                sqlite3.SQLITE_CORRUPT,
                sqlite3.SQLITE_READONLY,
                sqlite3.SQLITE_CANTOPEN,
            }:
                raise StoreUnusable(f"the database {name} cannot be opened: {_first_line(error)}") from error
            if means_unavailable(error):
                raise StoreUnavailable(
                    f"the database {name} cannot be opened now: {_first_line(error)}"
                ) from error
            raise

    @asynccontextmanager
    async def writing(self) -> AsyncIterator[ConnectionThread]:
        """The writing connection in a transaction of its own (BEGIN IMMEDIATE, which goes with its first statement); on disk when the block
        is left without an exception.
        """
        async with self._turn:
            if self._writer is None:
                self._writer = await _linked(self._engines[0])
            connection, link = self._writer
            try:
                link.keep(_BEGIN)
                yield link
                await link.rows("COMMIT")
            except BaseException:
                # A COMMIT that failed may leave the transaction open. Giving the connection back rolls it back for certain.
                self._writer = None
                with suppress(SQLAlchemyError, sqlite3.Error):
                    await connection.close()
                raise

    @asynccontextmanager
    async def reading(self) -> AsyncIterator[ConnectionThread]:
        """A connection to read with, outside of any transaction: each statement sees what was committed before it.

        Raises:
            StoreUnavailable: the file cannot be read now, or every reader has been busy for long.
        """
        try:
            async with self._turn, self._place():
                reader = self._idle_readers.pop() if self._idle_readers else await _linked(self._engines[1])
                try:
                    yield reader.link
                except asyncio.CancelledError:
                    reader.link.interrupt()
                    raise
                finally:
                    self._idle_readers.append(reader)
        except (SQLAlchemyError, sqlite3.Error) as error:
            if means_unavailable(error):
                raise StoreUnavailable(f"the database cannot be read now: {_first_line(error)}") from error
            raise

    @asynccontextmanager
    async def _place(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(READ_PATIENCE if self._places.locked() else None):
                await self._places.acquire()
        except TimeoutError:
            raise StoreUnavailable("the database cannot be read now: every reader is busy") from None
        try:
            yield
        finally:
            self._places.release()

    async def close(self) -> None:
        """Closes all connections and gives the lock back."""
        for opened in (*self._idle_readers, *([self._writer] if self._writer else [])):
            await opened.connection.close()
        self._writer = None
        self._idle_readers.clear()
        for engine in self._engines:
            await engine.dispose()
        if self._lock is not None:
            self._lock.release()
            self._lock = None


class _Linked(NamedTuple):
    """A connection that is kept open, and the way over it."""

    connection: AsyncConnection
    link: ConnectionThread


async def _linked(engine: AsyncEngine) -> _Linked:
    connection = await engine.connect()
    try:
        return _Linked(connection, await ConnectionThread.over(connection))
    except BaseException:
        await connection.close()
        raise


def means_unavailable(error: Exception) -> bool:
    """Whether the file, not the statement, is the trouble: a full disk, a lock, an I/O error. The same call may go through later."""
    code = _result_code(error)
    return code is not None and code not in _OUR_FAULT


def _result_code(error: Exception) -> int | None:
    cause = getattr(error, "orig", None) or error
    code = getattr(cause, "sqlite_errorcode", None)
    if code is not None:
        return int(code) & 0xFF  # the rest are details
    # Errors of the driver itself, a closed connection above all, have no code.
    return sqlite3.SQLITE_CANTOPEN if isinstance(cause, sqlite3.OperationalError) else None


def _first_line(error: Exception) -> str:
    return str(getattr(error, "orig", None) or error).partition("\n")[0]


def _checked(url: str) -> URL:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        raise StoreUnusable(f"the database URL is none: {_first_line(error)}") from None
    if parsed.get_backend_name() != "sqlite":
        raise StoreUnusable(
            f"the database must be SQLite (sqlite+aiosqlite:///PATH), not {parsed.get_backend_name()}"
        )
    if parsed.query or (parsed.database or "").startswith("file:"):
        raise StoreUnusable("the database URL takes a path and no options: sqlite+aiosqlite:///PATH")
    return parsed.set(drivername="sqlite+aiosqlite")


def _claim(url: URL) -> FileLock:
    """Makes file and directory, for our eyes only, and locks them."""
    path = Path(url.database or "").resolve()
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock.acquire(path)
        # Before SQLite does it with wider rights; its side files get those of this one.
        os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))
    except OSError as error:
        raise StoreUnusable(f"the database {path} cannot be opened: {error.strerror}") from error
    return lock


def _engine(url: URL, *, begin: str | None, pool: dict[str, Any]) -> AsyncEngine:
    engine = create_async_engine(
        url,
        connect_args={"timeout": BUSY_TIMEOUT},
        # A connection that begins nothing has nothing to roll back when it is given back.
        pool_reset_on_return="rollback" if begin else None,
        **pool,
    )

    def set_up(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # the driver begins no transactions of its own; `start` below does
        cursor = connection.cursor()
        cursor.execute("PRAGMA journal_mode = WAL")
        cursor.execute("PRAGMA synchronous = FULL")
        cursor.execute(f"PRAGMA journal_size_limit = {_JOURNAL_SIZE_LIMIT}")
        cursor.close()

    def start(connection: Connection) -> None:
        # Past SQLAlchemy's cursor: see `statements`.
        connection.connection.run_async(lambda driver: driver.execute_fetchall(begin))

    event.listen(engine.sync_engine, "connect", set_up)
    if begin:
        event.listen(engine.sync_engine, "begin", start)
    return engine
