"""Deferred statements run with the next fetch, in order; a failed transaction stores nothing."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

import pytest

from waitd.core.errors import StoreUnavailable
from waitd.stores import Store
from waitd.stores.connection import StoreConnection
from waitd.stores.sqlite import database as database_module
from waitd.stores.sqlite.connection_thread import ConnectionThread

INSERT = "INSERT INTO watermarks (name, value) VALUES (?, ?)"
ALL = "SELECT name, value FROM watermarks WHERE name LIKE 't-%' ORDER BY name"


@pytest.fixture
def hops(store: Store, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The last statement of each hop to a connection's thread."""
    statements: list[str] = []
    fetch_all = ConnectionThread.fetch_all

    async def recorded(
        self: ConnectionThread, sql: str, values: tuple[object, ...] = ()
    ) -> list[tuple[object, ...]]:
        statements.append(sql)
        return await fetch_all(self, sql, values)

    monkeypatch.setattr(ConnectionThread, "fetch_all", recorded)
    return statements


async def stored(store: Store) -> list[tuple[object, ...]]:
    async with store._database.reading() as connection:
        return await connection.fetch_all(ALL)


async def test_a_transaction_that_only_writes_is_one_hop(store: Store, hops: list[str]) -> None:
    async with store._database.writing() as connection:
        for n in range(3):
            connection.defer(INSERT, (f"t-{n}", n))
    assert hops == ["COMMIT"]
    assert await stored(store) == [("t-0", 0), ("t-1", 1), ("t-2", 2)]


async def test_a_fetch_sees_the_deferred_statements_before_it(store: Store, hops: list[str]) -> None:
    async with store._database.writing() as connection:
        connection.defer(INSERT, ("t-1", 1))
        connection.defer("UPDATE watermarks SET value = 7 WHERE name = ?", ("t-1",))
        assert await connection.fetch_all(ALL) == [("t-1", 7)]
        connection.defer("DELETE FROM watermarks WHERE name = ?", ("t-1",))
        assert await connection.fetch_all(ALL) == []
        assert hops == [ALL, ALL]


async def write_a_name_twice(connection: StoreConnection) -> None:
    for row in (("t-1", 1), ("t-1", 2), ("t-2", 2)):
        connection.defer(INSERT, row)


async def write_and_raise(connection: StoreConnection) -> None:
    connection.defer(INSERT, ("t-3", 3))
    assert await connection.fetch_all(ALL) == [("t-3", 3)]
    connection.defer(INSERT, ("t-4", 4))
    raise ZeroDivisionError


@pytest.mark.parametrize(
    ("write", "error"), [(write_a_name_twice, sqlite3.IntegrityError), (write_and_raise, ZeroDivisionError)]
)
async def test_a_failed_transaction_stores_nothing(
    store: Store, write: Callable[[StoreConnection], Awaitable[None]], error: type[Exception]
) -> None:
    with pytest.raises(error):
        async with store._database.writing() as connection:
            await write(connection)
    async with store._database.writing() as connection:
        connection.defer(INSERT, ("t-5", 5))
    assert await stored(store) == [("t-5", 5)]


async def test_a_cancelled_read_delays_no_other(store: Store) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT begun() UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT sum(i) FROM n"
    loop = asyncio.get_running_loop()

    async def read(started: asyncio.Event) -> None:
        def begun() -> int:
            loop.call_soon_threadsafe(started.set)
            return 1

        async with store._database.reading() as connection:
            assert isinstance(connection, ConnectionThread)
            await connection.run(sqlite3.Connection.create_function, "begun", 0, begun)
            await connection.fetch_all(endless)

    for _ in range(2 * database_module.READERS):
        started = asyncio.Event()
        reading = asyncio.create_task(read(started))
        await started.wait()
        reading.cancel()
        await asyncio.wait([reading])
        async with asyncio.timeout(30):
            assert await store.counts() == {}


async def test_a_read_waits_for_a_reader_and_then_fails(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "READER_TIMEOUT", 0.01)
    async with AsyncExitStack() as stack:
        readers = {
            await stack.enter_async_context(store._database.reading()) for _ in range(database_module.READERS)
        }
        assert len(readers) == database_module.READERS
        with pytest.raises(StoreUnavailable, match="every reader is busy"):
            await store.counts()
    assert await store.counts() == {}


async def test_a_part_that_was_interrupted_is_not_read_again(store: Store) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n WHERE i < 0"
    statements: list[str] = []
    async with store._database.reading() as connection:
        assert isinstance(connection, ConnectionThread)
        await connection.run(sqlite3.Connection.set_trace_callback, statements.append)
        reading = asyncio.create_task(connection.fetch_part(endless, (), 100.0))
        async with asyncio.timeout(30):
            while not reading.done():
                connection.interrupt()  # it has an effect once the statement runs
                await asyncio.sleep(0.01)
        with pytest.raises(sqlite3.OperationalError, match="interrupted"):
            await reading
        await connection.run(sqlite3.Connection.set_trace_callback, None)
    assert statements == [endless]
