"""Pools a few connections to each server, and runs one SELECT on one of them, which cannot write.

The database itself checks that the statement is a single SELECT; its text is never parsed here.
PostgreSQL declares a cursor for it by its extended protocol, and MySQL first takes it as a subquery
on a connection without `CLIENT_MULTI_STATEMENTS`. A session is reset after each query, because the
next may be another caller's. A connection on which anything went wrong is closed.
"""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, NamedTuple

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine
from sqlalchemy.pool import AsyncAdaptedQueuePool

from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Unreachable
from waitd.outgoing import TlsContexts
from waitd.probes.sql.endpoints import SqlEndpoint
from waitd.probes.sql.errors import TOO_LARGE
from waitd.probes.sql.params import Query
from waitd.probes.sql.read_limit import limit_reads
from waitd.probes.sql.rows import QueryResult, SelectedRows, row_limit, selected_rows

#: Seconds after which a connection is replaced: a firewall may have dropped an older one silently.
_RECYCLE_SECONDS = 300
#: Seconds in which a server may answer to the end of its connections.
_CLOSE_SECONDS = 1.0
#: The rows of a longer answer are converted in a thread, in bytes.
_INLINE_BYTES = 64 * 1024
_DRIVERS = {"postgresql": "asyncpg", "mysql": "aiomysql"}


class _Pool(NamedTuple):
    connection: Connection
    engine: AsyncEngine


class DatabasePools:
    """The connection pools, by conn_id."""

    def __init__(self, connections_per_database: int, tls: TlsContexts) -> None:
        self._size = connections_per_database
        self._tls = tls
        self._pools: dict[str, _Pool] = {}

    async def close(self) -> None:
        """Closes every connection."""
        pools, self._pools = self._pools, {}
        await asyncio.gather(*(_close(pool.engine) for pool in pools.values()))

    async def select(
        self, connection: Connection, endpoint: SqlEndpoint, query: Query, max_rows: int
    ) -> SelectedRows | Unreachable:
        """Returns the first rows of a query, up to `max_rows`.

        Raises:
            Exception: any error of a driver, see `sql_verdict`.
        """
        engine = await self._engine(connection, endpoint)
        conn = await engine.connect()
        driver_connection, limit, clean = None, None, False
        try:
            driver_connection = (await conn.get_raw_connection()).driver_connection
            limit = limit_reads(driver_connection)
            result, clean = await _SELECT[endpoint.dialect](conn, query, max_rows)
            if clean:
                await conn.rollback()
                clean = await _reset(driver_connection)
        except BaseException as error:
            clean = False
            if limit is not None and limit.exceeded and isinstance(error, Exception):
                return TOO_LARGE
            raise
        finally:
            if not clean:
                await _discard(conn, driver_connection)
            await conn.close()
        if limit is not None and limit.received > _INLINE_BYTES:
            return await asyncio.to_thread(selected_rows, result, max_rows)
        return selected_rows(result, max_rows)

    async def _engine(self, connection: Connection, endpoint: SqlEndpoint) -> AsyncEngine:
        pool = self._pools.get(connection.conn_id)
        if pool is not None and pool.connection == connection:
            return pool.engine
        engine = create_async_engine(
            f"{endpoint.dialect}+{_DRIVERS[endpoint.dialect]}://",
            async_creator=partial(endpoint.connect, self._tls),
            poolclass=AsyncAdaptedQueuePool,
            pool_size=self._size,
            max_overflow=0,
            pool_timeout=86_400.0,  # the caller sets the time limit
            pool_recycle=_RECYCLE_SECONDS,
            pool_use_lifo=True,
            hide_parameters=True,
        )
        self._pools[connection.conn_id] = _Pool(connection, engine)
        if pool is not None:
            await _close(pool.engine)
        return engine


async def _close(engine: AsyncEngine) -> None:
    """Closes the idle connections, in a limited time: a server that hangs never says goodbye."""
    with suppress(TimeoutError):
        async with asyncio.timeout(_CLOSE_SECONDS):
            await engine.dispose()


async def _discard(conn: AsyncConnection, driver_connection: Any) -> None:
    """Closes a connection at once, without waiting for a server that may not answer."""
    if hasattr(driver_connection, "terminate"):  # asyncpg
        driver_connection.terminate()
    elif driver_connection is not None:
        driver_connection.close()
    await conn.invalidate()


async def _reset(driver_connection: Any) -> bool:
    """Resets a session, whose variables and locks outlive a transaction. Whether it could."""
    try:
        await driver_connection.reset()
    except Exception:  # noqa: BLE001 - an old server or a proxy cannot; the connection is not used again
        return False
    return True


async def _select_postgres(conn: AsyncConnection, query: Query, max_rows: int) -> tuple[QueryResult, bool]:
    await conn.execution_options(postgresql_readonly=True)
    limit = text("SELECT set_config('statement_timeout', :milliseconds, true)")
    await conn.execute(limit, {"milliseconds": str(max(int(query.request_timeout * 1000), 1))})
    declared = text(f"DECLARE waitd NO SCROLL CURSOR FOR {_statement(query)}")
    await conn.execute(declared, dict(query.parameters))
    # Every FETCH has this text, but rows of another shape: SQLAlchemy's cache of prepared
    # statements would decode them as those of an earlier query.
    driver_connection: Any = (await conn.get_raw_connection()).driver_connection
    records = await driver_connection.fetch(f"FETCH FORWARD {max_rows + 1} FROM waitd")
    columns = list(records[0].keys()) if records else []
    rows = QueryResult(columns, [tuple(record) for record in records])
    return rows, True


async def _select_mysql(conn: AsyncConnection, query: Query, max_rows: int) -> tuple[QueryResult, bool]:
    seconds = query.request_timeout
    limit = (
        f"max_statement_time = {seconds:.3f}"
        if getattr(conn.dialect, "is_mariadb", False)
        else f"max_execution_time = {max(int(seconds * 1000), 1)}"
    )
    # After a reset, a session has the server's character set and collation, not those of the login.
    names = "NAMES utf8mb4 COLLATE utf8mb4_general_ci"
    await conn.exec_driver_sql(f"SET {names}, SESSION {limit}, SESSION sql_select_limit = {max_rows + 1}")
    await conn.exec_driver_sql("START TRANSACTION READ ONLY")
    statement, parameters = _statement(query), dict(query.parameters)
    # Only a SELECT that writes nothing (no INTO OUTFILE either) can be a subquery.
    proof = text(f"SELECT 1 FROM DUAL WHERE EXISTS ({statement}\n) LIMIT 0")  # noqa: S608 - it is the user's own statement
    await conn.execute(proof, parameters)
    return await _fetch(conn, statement, parameters, max_rows)


async def _fetch(
    conn: AsyncConnection, statement: str, parameters: Mapping[str, Any], max_rows: int
) -> tuple[QueryResult, bool]:
    """Returns the first rows, and whether there are no more."""
    result = await conn.stream(text(statement), parameters)
    columns = list(result.keys())
    limit = row_limit(len(columns), max_rows)
    rows = [tuple(row) for row in await result.fetchmany(limit)]
    complete = len(rows) < limit or not await result.fetchmany(1)
    if complete:
        await result.close()
    return QueryResult(columns, rows), complete


#: By dialect: returns the rows, and whether the connection can be used again.
_SELECT: Mapping[str, Callable[[AsyncConnection, Query, int], Awaitable[tuple[QueryResult, bool]]]] = {
    "postgresql": _select_postgres,
    "mysql": _select_mysql,
}


def _statement(query: Query) -> str:
    """The statement without a final semicolon, which the wrappers around it do not allow."""
    return query.sql.rstrip().removesuffix(";")
