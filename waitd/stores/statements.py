"""Constant statements of SQLAlchemy Core, compiled once and run with one hop to the driver's thread.

SQLAlchemy's own cursor over aiosqlite makes four hops a query (cursor, execute, fetch, close) of about 0.1 ms each, more beside a busy
loop. What is written in Core stays in Core; only the way to the driver is shorter, and it is this file's secret.
"""

import sqlite3
from collections.abc import Iterable, Sequence
from typing import Any

import aiosqlite
import orjson
from sqlalchemy import ClauseElement, ColumnElement, Text, bindparam, func, select
from sqlalchemy.dialects.sqlite.aiosqlite import dialect
from sqlalchemy.ext.asyncio import AsyncConnection
from sqlalchemy.sql.compiler import SQLCompiler

_DIALECT = dialect()


class Statement:
    """A statement whose values are given by name when it runs."""

    def __init__(self, core: ClauseElement) -> None:
        compiled = core.compile(dialect=_DIALECT)
        if not isinstance(compiled, SQLCompiler):
            raise TypeError(f"no statement with values: {core}")
        self._compiled = compiled
        self._names: Sequence[str] = compiled.positiontup or ()
        #: As SQLite gets it.
        self.sql = str(compiled)

    async def run(self, connection: AsyncConnection, **values: Any) -> list[tuple[Any, ...]]:
        """The rows that it gives, in the order of its columns; raises the driver's own errors (`sqlite3.Error`)."""
        given = self._compiled.construct_params(values)
        return await run_sql(connection, self.sql, [given[name] for name in self._names])


async def run_sql(connection: AsyncConnection, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
    """The rows that a statement in SQLite's own words gives; raises the driver's own errors (`sqlite3.Error`)."""
    raw = await connection.get_raw_connection()
    driver = raw.driver_connection
    if not isinstance(driver, aiosqlite.Connection):
        raise sqlite3.OperationalError("the connection to the database is gone")
    return [tuple(row) for row in await driver.execute_fetchall(sql, values)]


def one_of(column: ColumnElement[str], name: str) -> ColumnElement[bool]:
    """The condition that `column` is one of the texts given as `name`, however many (encode them by `texts`)."""
    given = func.json_each(bindparam(name, type_=Text)).table_valued("value")
    return column.in_(select(given.c.value))


def texts(values: Iterable[str]) -> str:
    """The value for `one_of`."""
    return orjson.dumps(list(values)).decode()
