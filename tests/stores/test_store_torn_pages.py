"""Torn pages of the database: they cost the rows on them, and no other."""

import asyncio
import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from store_values import WEBHOOK, WallClock, add, all_waiting, due, ended, ending, new_wait, opened

from waitd.core.errors import StoreUnavailable, Unreadable
from waitd.core.waits.wait import WaitId
from waitd.ports import StoredOutcome, WaitFilter


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
        assert not store.failing
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
