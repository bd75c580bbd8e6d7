"""A few connections to each database, shared by all waits; and one SELECT over one of them, which cannot write.

That a statement is one, and a SELECT, the database itself says, never a look at its text: PostgreSQL declares a cursor for it, MySQL takes
it as a subquery first, SQLite asks an authorizer of every step. A connection on which anything went wrong is thrown away.
"""

from base64 import b64encode
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from time import monotonic
from typing import Any, NamedTuple

import orjson
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Unreachable
from waitd.probes.sql.endpoints import SqlEndpoint
from waitd.probes.sql.errors import TOO_LARGE
from waitd.probes.sql.evaluation import SelectedRows
from waitd.probes.sql.params import Query
from waitd.probes.sql.read_limit import limit_reads

#: The most rows that conditions see, and the most bytes of them as JSON.
MAX_ROWS = 100
MAX_BYTES = 256 * 1024
#: Seconds after which a connection is made anew: what lies between may have forgotten an older one.
_RECYCLED = 300
#: Of SQLite's machine, between two looks at the clock.
_STEPS = 10_000
_DRIVERS = {"postgresql": "asyncpg", "mysql": "aiomysql", "sqlite": "aiosqlite"}


class _Held(NamedTuple):
    connection: Connection
    place: SqlEndpoint
    engine: AsyncEngine


class QueryResult(NamedTuple):
    """What a database answered: columns and rows."""

    columns: Sequence[str]
    rows: Sequence[Sequence[Any]]


class DatabasePools:
    """The databases by conn_id."""

    def __init__(self, connections_per_database: int) -> None:
        self._most = connections_per_database
        self._held: dict[str, _Held] = {}

    async def close(self) -> None:
        """Closes every connection."""
        held, self._held = self._held, {}
        for each in held.values():
            await each.engine.dispose()

    async def ask(
        self, connection: Connection, place: SqlEndpoint, query: Query, most: int
    ) -> SelectedRows | Unreachable:
        """The first rows of a query, up to `most`.

        Raises:
            Exception: whatever a driver raises, see `sql_errors`.
        """
        engine = await self._engine(connection, place)
        conn = await engine.connect()
        raw, bound, whole = None, None, False
        try:
            raw = (await conn.get_raw_connection()).driver_connection
            bound = limit_reads(raw)
            answer, whole = await _ASK[place.dialect](conn, query, most)
            if whole:
                await conn.rollback()
        except BaseException as error:
            whole = False
            if bound is not None and bound.spent and isinstance(error, Exception):
                return TOO_LARGE
            raise
        finally:
            if not whole:
                await _throw_away(conn, raw)
            await conn.close()
        return _seen(answer, most)

    async def _engine(self, connection: Connection, place: SqlEndpoint) -> AsyncEngine:
        held = self._held.get(connection.conn_id)
        if held is not None and held.connection == connection:
            return held.engine
        engine = create_async_engine(
            f"{place.dialect}+{_DRIVERS[place.dialect]}://",
            async_creator=place.connect,
            poolclass=AsyncAdaptedQueuePool,
            pool_size=self._most,
            max_overflow=0,
            pool_timeout=86_400.0,  # the caller's patience bounds it
            pool_recycle=_RECYCLED,
            pool_use_lifo=True,
            hide_parameters=True,
        )
        self._held[connection.conn_id] = _Held(connection, place, engine)
        if held is not None:
            await held.engine.dispose()
        return engine


async def _throw_away(conn: AsyncConnection, raw: Any) -> None:
    """Cuts a connection off at once, without a word to whoever may not answer."""
    if hasattr(raw, "terminate"):  # asyncpg's
        raw.terminate()
    elif hasattr(raw, "interrupt"):  # aiosqlite's: ends the statement in its thread
        with suppress(ValueError):  # it is closed already
            await raw.interrupt()
            await raw.close()
    elif raw is not None:
        raw.close()
    await conn.invalidate()


async def _ask_postgres(conn: AsyncConnection, query: Query, most: int) -> tuple[QueryResult, bool]:
    await conn.execution_options(postgresql_readonly=True)
    limit = text("SELECT set_config('statement_timeout', :milliseconds, true)")
    await conn.execute(limit, {"milliseconds": str(max(int(query.request_timeout * 1000), 1))})
    declared = text(f"DECLARE waitd NO SCROLL CURSOR FOR {_statement(query)}")
    await conn.execute(declared, dict(query.parameters))
    result = await conn.exec_driver_sql(f"FETCH FORWARD {most + 1} FROM waitd")
    answer = QueryResult(list(result.keys()), [tuple(row) for row in result.fetchall()])
    await conn.exec_driver_sql("SELECT pg_advisory_unlock_all()")  # such locks outlive a transaction
    return answer, True


async def _ask_mysql(conn: AsyncConnection, query: Query, most: int) -> tuple[QueryResult, bool]:
    seconds = query.request_timeout
    limit = (
        f"max_statement_time = {seconds:.3f}"
        if getattr(conn.dialect, "is_mariadb", False)
        else f"max_execution_time = {max(int(seconds * 1000), 1)}"
    )
    await conn.exec_driver_sql(f"SET SESSION {limit}, SESSION sql_select_limit = {most + 1}")
    await conn.exec_driver_sql("START TRANSACTION READ ONLY")
    statement, parameters = _statement(query), dict(query.parameters)
    # Only a SELECT that writes nowhere, INTO OUTFILE neither, can stand here.
    proof = text(f"SELECT 1 FROM DUAL WHERE EXISTS ({statement}\n) LIMIT 0")  # noqa: S608 - running it is the point
    await conn.execute(proof, parameters)
    answer, whole = await _streamed(conn, statement, parameters, most)
    if whole:
        await conn.exec_driver_sql("DO RELEASE_ALL_LOCKS()")  # such locks outlive a transaction
    return answer, whole


async def _ask_sqlite(conn: AsyncConnection, query: Query, most: int) -> tuple[QueryResult, bool]:
    raw: Any = (await conn.get_raw_connection()).driver_connection
    end = monotonic() + query.request_timeout
    # Also where the statement begins only after its caller has gone.
    await raw.set_progress_handler(lambda: monotonic() > end, _STEPS)
    answer, _ = await _streamed(conn, _statement(query), dict(query.parameters), most)
    return answer, True


async def _streamed(
    conn: AsyncConnection, statement: str, parameters: Mapping[str, Any], most: int
) -> tuple[QueryResult, bool]:
    """The first rows, and whether there were no more."""
    result = await conn.stream(text(statement), parameters)
    columns = list(result.keys())
    rows = [tuple(row) for row in await result.fetchmany(most + 1)]
    whole = len(rows) <= most or not await result.fetchmany(1)
    if whole or conn.dialect.name == "sqlite":
        await result.close()
    return QueryResult(columns, rows), whole


_ASK: Mapping[str, Callable[[AsyncConnection, Query, int], Awaitable[tuple[QueryResult, bool]]]] = {
    "postgresql": _ask_postgres,
    "mysql": _ask_mysql,
    "sqlite": _ask_sqlite,
}


def _statement(query: Query) -> str:
    """Without a semicolon at its end, which is no second statement."""
    return query.sql.rstrip().removesuffix(";")


def _seen(answer: QueryResult, most: int) -> SelectedRows | Unreachable:
    kept = answer.rows[:most]
    rows = [dict(zip(answer.columns, map(plain, row), strict=True)) for row in kept]
    size = len(orjson.dumps(rows))
    if size > MAX_BYTES:
        return TOO_LARGE
    return SelectedRows(rows, size, bool(kept and kept[0] and kept[0][0]), len(answer.rows) > most)


def plain(value: Any) -> Any:  # noqa: PLR0911 - a type each
    """A cell as JSON and CEL have it: numbers as numbers, times as text, bytes in base64."""
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return value if -(1 << 63) <= value < 1 << 63 else str(value)
    if isinstance(value, float | Decimal):
        number = int(value) if isinstance(value, Decimal) and value.is_finite() and value == value.to_integral() else float(value)  # fmt: skip
        return plain(number) if isinstance(number, int) else number
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, bytes | bytearray | memoryview):
        return b64encode(bytes(value)).decode()
    if isinstance(value, Mapping):
        return {str(name): plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(each) for each in value]
    return str(value)
