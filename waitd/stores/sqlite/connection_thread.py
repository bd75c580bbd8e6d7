"""The way from a statement to SQLite: one hop to the driver's thread for as many statements as can be.

SQLAlchemy's own cursor over aiosqlite makes four hops a query (cursor, execute, fetch, close) of about 0.1 ms each, more beside a busy
loop. What is written in Core stays in Core; only the way to the driver is shorter, and it is this file's secret.
"""

import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, Self

import aiosqlite
from sqlalchemy.ext.asyncio import AsyncConnection

_Call = tuple[str, Sequence[Any]]


class ConnectionThread:
    """A connection. Statements whose rows nobody wants may be kept back: they go with the next whose rows somebody wants."""

    def __init__(self, driver: aiosqlite.Connection) -> None:
        self._driver = driver
        self._kept: list[_Call] = []

    @classmethod
    async def over(cls, connection: AsyncConnection) -> Self:
        """The shorter way over SQLAlchemy's connection. Raises sqlite3.OperationalError: it has none any more."""
        driver = (await connection.get_raw_connection()).driver_connection
        if not isinstance(driver, aiosqlite.Connection):
            raise sqlite3.OperationalError("the connection to the database is gone")
        return cls(driver)

    def keep(self, sql: str, values: Sequence[Any] = ()) -> None:
        """Keeps a statement back. What is wrong with it is raised when it goes."""
        self._kept.append((sql, values))

    async def rows(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """The rows that a statement in SQLite's own words gives, after those that were kept back.

        Raises:
            sqlite3.Error: what the driver says of the first of them that fails; those after it have not run.
        """
        calls, self._kept = [*self._kept, (sql, values)], []
        hop: Any = self._driver._execute  # noqa: SLF001 - aiosqlite's own methods make one hop each; this is what they are made of
        found: list[tuple[Any, ...]] = await hop(_run, self._driver, calls)
        return found

    def interrupt(self) -> None:
        """Ends the statement that runs, for which nobody waits any more: those behind it would wait for it."""
        with suppress(ValueError):  # it is closed
            self._driver._conn.interrupt()  # noqa: SLF001 - aiosqlite's own is a coroutine, which a cancelled task had better not await


def _run(driver: aiosqlite.Connection, calls: Sequence[_Call]) -> list[tuple[Any, ...]]:
    """In the driver's thread: the rows of the last."""
    connection = driver._conn  # noqa: SLF001 - as in those
    rows: list[tuple[Any, ...]] = []
    for sql, values in calls:
        rows = connection.execute(sql, values).fetchall()
    return rows
