"""One SQLite connection with a thread of its own.

Each call to the thread and back is a hop of about 0.1 ms beside a busy event loop. So statements
whose rows are not needed are deferred: they run in the same hop as the next statement that is
fetched.
"""

import asyncio
import re
import sqlite3
import threading
from collections.abc import Callable, Sequence
from contextlib import closing, suppress
from functools import cache, partial
from itertools import chain
from queue import SimpleQueue
from typing import Any, Self, TypeVar

import structlog
from sqlalchemy import Dialect

from waitd.ports import ListPart
from waitd.stores.bulk import BulkStatement
from waitd.stores.sqlite.bulk import MustChange, chunks, texts
from waitd.stores.sqlite.dialect import DIALECT
from waitd.stores.sqlite.errors import is_damage
from waitd.stores.unreadable import DAMAGE_REMEDY

log = structlog.get_logger(__name__)

T = TypeVar("T")
_Call = tuple[asyncio.Future[Any], Callable[[], Any]]
#: A table in a SELECT, with its alias; no function.
_TABLE = re.compile(r"\b(FROM [a-z_]+\b(?!\()(?: AS [a-z_0-9]+)?)(?: INDEXED BY [a-z_]+)?")


_Statement = tuple[str, Sequence[Any], MustChange | None]


class ConnectionThread:
    """An open connection.

    All statements run in its thread, in the order in which they are queued.
    """

    dialect: Dialect = DIALECT
    is_damage = staticmethod(is_damage)

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._calls: SimpleQueue[_Call | None] = SimpleQueue()
        self._thread = threading.Thread(target=self._work, name="sqlite", daemon=True)
        self._connection: sqlite3.Connection | None = None
        self._deferred: list[_Statement] = []
        #: Tables that cannot be read as a whole, so that it is not tried for each of their rows.
        self._torn_tables: set[str] = set()

    @classmethod
    async def open(cls, connect: Callable[[], sqlite3.Connection]) -> Self:
        """Starts the thread and opens the connection in it. Raises sqlite3.Error."""
        thread = cls()
        thread._thread.start()
        try:
            thread._connection = await thread._call(connect)
        except BaseException:
            await thread.close()
            raise
        return thread

    def defer(self, sql: str, values: Sequence[Any] = (), must_change: int = 0) -> None:
        """Queues a statement without a hop; `fetch_all` runs it, and raises its error."""
        self._deferred.append((sql, values, MustChange(must_change) if must_change else None))

    def defer_rows(self, statement: BulkStatement, rows: Sequence[Sequence[Any]]) -> None:
        """Queues a statement for each few hundred rows."""
        for chunk in chunks(rows):
            sql, left_out = texts(statement, len(chunk))
            values = list(chain.from_iterable(chunk))
            must_change = None if left_out is None else MustChange(len(chunk), left_out, values)
            self._deferred.append((sql, values, must_change))

    async def fetch_all(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Runs the deferred statements, then this one, in one hop, and returns its rows.

        Raises:
            sqlite3.Error: from the first statement that fails, or that leaves out a row that it has
                to change; those after it have not run.
        """
        statements, self._deferred = [*self._deferred, (sql, values, None)], []
        return await self.run(execute, statements, self._torn_tables)

    async def fetch_part(
        self, sql: str, values: Sequence[Any], most_bytes: float
    ) -> ListPart[tuple[Any, ...]]:
        """The rows of a query, until they have `most_bytes`; they are never more in memory.

        Raises:
            sqlite3.Error: the query fails.
        """
        return await self.run(_read_part, sql, values, most_bytes, self._torn_tables)

    def run(self, function: Callable[..., T], *args: Any) -> asyncio.Future[T]:
        """Calls `function(connection, *args)` in the thread.

        Raises:
            sqlite3.OperationalError: the connection is closed.
        """
        connection = self._connection
        if connection is None:
            raise sqlite3.OperationalError("the connection to the database is closed")
        return self._call(lambda: function(connection, *args))

    async def roll_back(self) -> None:
        """Drops the deferred statements and ends an open transaction without its changes."""
        self._deferred.clear()
        await self.run(sqlite3.Connection.rollback)

    def interrupt(self) -> None:
        """Ends the running statement: its caller is gone, and the next one waits for it."""
        if self._connection is not None:
            self._connection.interrupt()

    async def close(self) -> None:
        """Closes the connection, which rolls back an open transaction, and ends the thread."""
        if self._connection is not None:
            closed = self.run(sqlite3.Connection.close)
            self._connection = None
            await closed
        self._calls.put(None)
        self._thread.join()  # it has nothing left to do

    def _call(self, call: Callable[[], T]) -> asyncio.Future[T]:
        future: asyncio.Future[T] = self._loop.create_future()
        self._calls.put((future, call))
        return future

    def _work(self) -> None:
        """The thread: makes the calls one by one until it reads None."""
        while (item := self._calls.get()) is not None:
            future, call = item
            try:
                answer = partial(future.set_result, call())
            except BaseException as error:  # noqa: BLE001 - the caller gets it
                answer = partial(future.set_exception, error)
            with suppress(RuntimeError):  # the loop is closed, so no task waits for the answer
                self._loop.call_soon_threadsafe(_answer, future, answer)


def execute(
    connection: sqlite3.Connection, statements: Sequence[_Statement], torn_tables: set[str]
) -> list[tuple[Any, ...]]:
    """Runs statements in order; returns the rows of the last one."""
    rows: list[tuple[Any, ...]] = []
    for sql, values, must_change in statements:
        try:
            cursor = connection.execute(sql, values)
            rows = cursor.fetchall()
        except sqlite3.DatabaseError as error:
            if not is_damage(error) or not sql.startswith("SELECT"):
                raise
            if "decode to UTF-8" in str(error):
                rows = _read_damaged(connection, sql, values)
            elif (table := _TABLE.search(sql)) is None or table[1] in torn_tables or " JOIN " in sql:
                raise  # a join without an index would take minutes
            else:
                torn_tables.add(table[1])
                rows = _read_without_index(connection, sql, values)
                torn_tables.discard(table[1])
        else:
            if must_change is not None and cursor.rowcount < must_change.rows:
                _check_left_out(connection, sql, must_change)
    return rows


def _check_left_out(connection: sqlite3.Connection, sql: str, must_change: MustChange) -> None:
    """Raises sqlite3.IntegrityError if the statement left out a row, as a trigger can make it."""
    if connection.execute(must_change.left_out, must_change.values).fetchone() is not None:
        raise sqlite3.IntegrityError(
            f"a row was left out without an error by {sql[:30]!r}…; look for triggers that someone added"
        )


def _read_part(
    connection: sqlite3.Connection,
    sql: str,
    values: Sequence[Any],
    most_bytes: float,
    torn_tables: set[str],
) -> ListPart[tuple[Any, ...]]:
    part: ListPart[tuple[Any, ...]] = ListPart()
    size = 0
    try:
        with closing(connection.execute(sql, values)) as cursor:
            for row in cursor:
                part.append(row)
                size += sum(len(value) for value in row if isinstance(value, (str, bytes)))
                if size >= most_bytes:
                    part.cut = True
                    break
    except sqlite3.DatabaseError as error:
        if not is_damage(error):
            raise
        return ListPart(execute(connection, [(sql, values, None)], torn_tables))
    return part


def _read_without_index(
    connection: sqlite3.Connection, sql: str, values: Sequence[Any]
) -> list[tuple[Any, ...]]:
    """Reads the whole table: the torn page may be one of an index, which has only copies."""
    rows = connection.execute(_TABLE.sub(r"\1 NOT INDEXED", sql), values).fetchall()
    _report_damaged_index()
    return rows


@cache
def _report_damaged_index() -> None:
    """Logs it once a process: each later read meets it again."""
    log.error(
        "index_damaged",
        consequence="whole tables are read instead, which is slow, and some waits cannot end",
        remedy=DAMAGE_REMEDY,
    )


def _read_damaged(connection: sqlite3.Connection, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """Reads texts that are not UTF-8 as bytes: decoding sets those rows aside, and no others."""
    connection.text_factory = _text_or_bytes
    try:
        return connection.execute(sql, values).fetchall()
    finally:
        connection.text_factory = str


def _text_or_bytes(stored: bytes) -> str | bytes:
    try:
        return stored.decode()
    except UnicodeDecodeError:
        return stored


def _answer(future: asyncio.Future[Any], answer: Callable[[], None]) -> None:
    if not future.done():  # else its caller was cancelled
        answer()
