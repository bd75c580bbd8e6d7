"""Deferred statements run with the next fetch, in order; a transaction is stored as a whole."""

import asyncio
import sqlite3
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from store_values import opened

from waitd.core.errors import StoreUnavailable
from waitd.stores import Store
from waitd.stores import database as database_module
from waitd.stores.sqlite.connection_thread import ConnectionThread

INSERT = "INSERT INTO watermarks (name, value) VALUES (?, ?)"
ALL = "SELECT name, value FROM watermarks WHERE name LIKE 't-%' ORDER BY name"


@pytest.fixture
def hops(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The last statement of each hop to a driver's thread."""
    found: list[str] = []
    rows = ConnectionThread.fetch_all

    async def noted(
        self: ConnectionThread, sql: str, values: tuple[object, ...] = ()
    ) -> list[tuple[object, ...]]:
        found.append(sql)
        return await rows(self, sql, values)

    monkeypatch.setattr(ConnectionThread, "fetch_all", noted)
    return found


async def test_a_transaction_that_only_writes_is_one_hop(database: Path, hops: list[str]) -> None:
    async with opened(database) as store:
        hops.clear()
        async with store._database.writing() as connection:
            for n in range(3):
                connection.defer(INSERT, (f"t-{n}", n))
        assert hops == ["COMMIT"]
        async with store._database.reading() as connection:
            assert await connection.fetch_all(ALL) == [("t-0", 0), ("t-1", 1), ("t-2", 2)]


async def test_what_is_read_sees_what_was_written_before_it(database: Path, hops: list[str]) -> None:
    async with opened(database) as store, store._database.writing() as connection:
        hops.clear()
        connection.defer(INSERT, ("t-1", 1))
        connection.defer("UPDATE watermarks SET value = 7 WHERE name = ?", ("t-1",))
        assert await connection.fetch_all(ALL) == [("t-1", 7)]
        connection.defer("DELETE FROM watermarks WHERE name = ?", ("t-1",))
        assert await connection.fetch_all(ALL) == []
        assert hops == [ALL, ALL]


async def test_of_a_transaction_with_one_bad_statement_nothing_stays(database: Path) -> None:
    async with opened(database) as store:
        with pytest.raises(sqlite3.IntegrityError):
            await written(store, ("t-1", 1), ("t-1", 2), ("t-2", 2))
        await written(store, ("t-5", 5))
        async with store._database.reading() as connection:
            assert await connection.fetch_all(ALL) == [("t-5", 5)]


async def test_of_a_transaction_that_is_given_up_nothing_stays(database: Path) -> None:
    async def give_up(connection: ConnectionThread) -> None:
        connection.defer(INSERT, ("t-3", 3))
        assert await connection.fetch_all(ALL) == [("t-3", 3)]
        connection.defer(INSERT, ("t-4", 4))
        raise ZeroDivisionError

    async with opened(database) as store:
        with pytest.raises(ZeroDivisionError):
            async with store._database.writing() as connection:
                await give_up(connection)
        await written(store, ("t-5", 5))
        async with store._database.reading() as connection:
            assert await connection.fetch_all(ALL) == [("t-5", 5)]


async def test_a_read_that_is_given_up_holds_up_no_other(database: Path) -> None:
    endless = "WITH RECURSIVE n(i) AS (SELECT begun() UNION ALL SELECT i + 1 FROM n WHERE i < 1000000000) SELECT sum(i) FROM n"
    loop = asyncio.get_running_loop()

    async def reading(store: Store, started: asyncio.Event) -> None:
        def begun() -> int:
            loop.call_soon_threadsafe(started.set)
            return 1

        async with store._database.reading() as connection:
            await connection.run(sqlite3.Connection.create_function, "begun", 0, begun)
            await connection.fetch_all(endless)

    async with opened(database) as store:
        for _ in range(2 * database_module.READERS):
            started = asyncio.Event()
            given_up = asyncio.create_task(reading(store, started))
            await started.wait()
            given_up.cancel()
            await asyncio.wait([given_up])
            async with asyncio.timeout(30):
                assert await store.counts() == {}


async def written(store: Store, *rows: tuple[str, int]) -> None:
    async with store._database.writing() as connection:
        for row in rows:
            connection.defer(INSERT, row)


async def test_where_every_reader_is_busy_others_wait_and_then_are_told(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "READER_TIMEOUT", 0.01)
    async with opened(database) as store:
        async with AsyncExitStack() as stack:
            readers = [
                await stack.enter_async_context(store._database.reading())
                for _ in range(database_module.READERS)
            ]
            assert len(set(readers)) == database_module.READERS
            with pytest.raises(StoreUnavailable, match="every reader is busy"):
                await store.counts()
        assert await store.counts() == {}
