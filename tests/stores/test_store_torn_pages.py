"""Torn pages of the database: they cost the rows on them, and no other."""

import asyncio
import os
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from store_values import (
    HOOK,
    START,
    WEBHOOK,
    WallClock,
    add,
    all_waiting,
    due,
    ended,
    ending,
    new_wait,
    opened,
)

from waitd.core.errors import StoreUnavailable, StoreUnusable, Unreadable
from waitd.core.waits.wait import WaitId
from waitd.ports import StoredOutcome, WaitFilter
from waitd.stores.sqlite import connection_thread
from waitd.stores.sqlite.database import READERS


def pages_of(database: Path, table: str) -> list[int]:
    """The numbers of the leaf pages of a table that hold rows."""
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        rows = connection.execute(
            "SELECT pageno FROM dbstat WHERE name = ? AND pagetype = 'leaf' AND ncell > 0 ORDER BY pageno",
            (table,),
        ).fetchall()
    return [number for (number,) in rows]


def tear(database: Path, page: int, size: int = 4096) -> None:
    """Overwrites a page, as a torn write or a bad sector does."""
    with database.open("r+b") as file:
        file.seek((page - 1) * size)
        file.write(os.urandom(1) + b"\xff" * (size - 1))


async def test_a_torn_page_of_waits_costs_the_waits_on_it_only(database: Path, clock: WallClock) -> None:
    async with opened(database) as store:
        waits = await add(store, *(new_wait() for _ in range(150)))
    page = pages_of(database, "waits")[1]
    tear(database, page)
    async with opened(database, clock) as store:
        served = await all_waiting(store)
        lost = {wait.id for wait in waits} - set(served)
        assert 0 < len(lost) < 30
        assert set(served) == {wait.id for wait in waits} - lost
        assert {wait.id for wait in await store.find(WaitFilter(limit=1000))} == set(served)
        assert {wait.id for wait in await store.find_unreadable(WaitFilter())} == lost
        by_id = {wait.id: wait for wait in waits}
        for wait_id in lost:
            assert await store.finish(ending(by_id[wait_id])) is None
            with pytest.raises(Unreadable):
                await store.get(wait_id)
        progress = ending(by_id[served[0]]).progress
        await store.save_progress([(WaitId(wait.id), progress) for wait in waits])
        assert (await store.get(served[0])).progress == progress
        answers = await asyncio.gather(
            *(store.finish(ending(by_id[wait_id])) for wait_id in served), return_exceptions=True
        )
        stored = [answer for answer in answers if isinstance(answer, StoredOutcome)]
        refused = [answer for answer in answers if isinstance(answer, StoreUnavailable)]
        assert len(stored) + len(refused) == len(served), "none is taken for stored that is not"
        assert len(stored) >= len(served) - 3 * len(lost), "only rows beside the torn page are refused"
        assert not store.failure
        assert len(await due(store, limit=1000)) == len(stored)


async def test_a_torn_page_of_deliveries_costs_the_deliveries_on_it_only(database: Path) -> None:
    async with opened(database) as store:
        waits = [await ended(store, sinks=[{**WEBHOOK, "headers": {"x": "y" * 300}}]) for _ in range(40)]
    tear(database, pages_of(database, "deliveries")[0])
    async with opened(database) as store:
        items = await due(store)
        assert 0 < len(items) < len(waits)
        for wait in waits:
            assert (await store.get(wait.id)).state == "success"
        assert len(await store.find(WaitFilter())) == len(waits)


INDEXES = (
    "sqlite_autoindex_waits_1",
    "waits_by_state",
    "waits_by_state_and_kind",
    "waits_by_namespace",
    "waits_finished_seq",
    "waits_job_cancel",
    "deliveries_by_wait",
    "deliveries_by_state",
    "deliveries_due",
)


@pytest.mark.parametrize("index", INDEXES)
async def test_a_torn_page_of_an_index_costs_no_wait_and_refuses_what_it_cannot_store(
    database: Path, index: str
) -> None:
    async with opened(database) as store:
        waits = await add(store, *(new_wait() for _ in range(100)))
        for wait in waits[:50]:
            await store.finish(ending(wait))
    tear(database, root_page(database, index))
    async with opened(database) as store:
        assert await all_waiting(store) == [wait.id for wait in waits[50:]]
        assert len(await store.find(WaitFilter(limit=1000))) == 100
        assert len(await store.find(WaitFilter(state="success", limit=1000))) == 50
        assert (await store.counts())["waiting", "http"] == 50
        assert not await store.jobs_to_cancel(None, 10)
        assert await store.due_destinations(START) == [HOOK]
        assert await store.next_attempt_at() == START
        assert len(await due(store)) == 50, "deliveries go on"
        writes = [store.insert([new_wait()]), *(store.finish(ending(wait)) for wait in waits[50:])]
        answers = await asyncio.gather(*writes, return_exceptions=True)
        for answer in answers:
            assert not isinstance(answer, BaseException) or isinstance(answer, StoreUnavailable), answer
        stored = sum(not isinstance(answer, BaseException) for answer in answers[1:])
        assert len(await store.find(WaitFilter(state="success", limit=1000))) == 50 + stored


def root_page(database: Path, name: str) -> int:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        ((page,),) = connection.execute("SELECT rootpage FROM sqlite_master WHERE name = ?", (name,))
    return int(page)


@pytest.mark.parametrize("table", ["watermarks", "alembic_version"])
async def test_what_a_start_cannot_do_without_is_refused_in_one_sentence_with_the_remedy(
    database: Path, table: str
) -> None:
    async with opened(database) as store:
        await add(store, *(new_wait() for _ in range(50)))
    tear(database, root_page(database, table))
    with pytest.raises(StoreUnusable, match=r"malformed\. Restore it from a backup, or .*recover"):
        async with opened(database):
            pass


async def test_a_table_of_which_nothing_can_be_read_is_scanned_once_and_not_for_each_row(
    database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with opened(database) as store:
        await add(store, *(new_wait() for _ in range(50)))
    tear(database, root_page(database, "waits"))
    scans: list[str] = []
    read_without_index = connection_thread._read_without_index

    def counted(connection: sqlite3.Connection, sql: str, values: Sequence[Any]) -> list[tuple[Any, ...]]:
        scans.append(sql)
        return read_without_index(connection, sql, values)

    monkeypatch.setattr(connection_thread, "_read_without_index", counted)
    async with opened(database) as store:
        assert not await store.find(WaitFilter())
        assert len(await store.find_unreadable(WaitFilter(limit=1000))) == 50
    assert 0 < len(scans) <= READERS
