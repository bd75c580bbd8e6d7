"""Retention by bytes: what is deleted, in which order, and what a kill in the middle leaves."""

import asyncio
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
from store_values import START, WallClock, add_one, ended, opened, url_of

from waitd.core.auth.quotas import Kept
from waitd.core.errors import NotFound
from waitd.ports import WaitFilter
from waitd.stores import Store
from waitd.stores.operations import maintenance

ROOT = Path(__file__).parents[2]


async def prune_bytes(store: Store, most: int) -> int:
    """Deletes as a sweep does; returns the number of waits."""
    since: float | None = 0.0
    pruned = reads = 0
    while since is not None:
        deleted, since = await store.prune_bytes(most, since, 2)
        pruned, reads = pruned + deleted, reads + 1
        assert reads < 20, "the search does not end"
    return pruned


async def test_beyond_the_bytes_the_longest_ended_settled_waits_are_deleted(store: Store) -> None:
    unsettled = [await ended(store, at=START - 10) for _ in range(3)]
    waits = [await ended(store, at=START + number, sinks=[]) for number in (2, 0, 1, 3, 4)]
    held = await add_one(store, sinks=[])
    bytes_before = store.usage.get(Kept.ENDED_BYTES, "default")
    assert await prune_bytes(store, bytes_before) == 0, "all of them fit"
    assert await prune_bytes(store, bytes_before * 11 // 16) == 3, "two and a half of eight"
    kept = {wait.id for wait in await store.find(WaitFilter())}
    assert kept == {*(wait.id for wait in unsettled), waits[3].id, waits[4].id, held.id}
    assert store.usage.get(Kept.ENDED_WAITS, "default") == 5
    assert await prune_bytes(store, 1) == 2, "what is not delivered is never deleted"


async def test_bytes_are_taken_from_the_namespace_that_keeps_most(store: Store) -> None:
    quiet = await ended(store, at=START, sinks=[], namespace="quiet")
    for number in range(4):
        await ended(store, at=START + 1 + number, sinks=[], namespace="storm")
    size = store.usage.get(Kept.ENDED_BYTES, "quiet")
    assert await prune_bytes(store, 3 * size) == 2
    assert await store.get(quiet.id) == quiet


@pytest.mark.parametrize("ended_at", [[0, 0, 0, 0, 0], [0, 1, 2, 3, 4]])
async def test_the_search_passes_waits_that_cannot_be_deleted(
    store: Store, monkeypatch: pytest.MonkeyPatch, ended_at: list[int]
) -> None:
    monkeypatch.setattr(maintenance, "EXAMINED_ROWS", 2)
    for number in ended_at:
        await ended(store, at=START + number)
    last = await ended(store, at=START + 9, sinks=[])
    assert await prune_bytes(store, 1) == 1
    with pytest.raises(NotFound):
        await store.get(last.id)


async def test_each_of_two_namespaces_loses_its_longest_ended_waits_and_no_open_delivery(
    store: Store,
) -> None:
    teams = ["team_a", "team_b"] * 5
    settled = [
        await ended(store, at=START + number + 0.5, namespace=team, sinks=[])
        for number, team in enumerate(teams)
    ]
    size = store.usage.get(Kept.ENDED_BYTES, "team_a") // 5
    unsettled = [await ended(store, at=START + number, namespace=team) for number, team in enumerate(teams)]
    most = 2 * store.usage.get(Kept.ENDED_BYTES, "team_a") - 11 * size // 2
    assert await prune_bytes(store, most) == 6, "for the bytes of five and a half"
    kept = {wait.id for wait in await store.find(WaitFilter())}
    assert kept >= {wait.id for wait in unsettled}
    for of_team in (settled[::2], settled[1::2]):
        are_kept = [wait.id in kept for wait in of_team]
        assert are_kept == sorted(are_kept), "the longest ended are lost"
        assert 2 <= are_kept.count(False) <= 4
    assert await prune_bytes(store, 1) == 4
    assert {wait.id for wait in await store.find(WaitFilter())} == {wait.id for wait in unsettled}


PRUNE = """
import asyncio, os, signal, sys
from waitd.stores import Store, open_database

async def main():
    database = await open_database(sys.argv[1])
    store = Store(database, destination_of=lambda namespace, sink: "d")
    prefix, left = sys.argv[2], int(sys.argv[3])

    def kill(statement):
        nonlocal left
        left -= statement.startswith(prefix)
        if not left:
            os.kill(os.getpid(), signal.SIGKILL)

    async with database.writing() as connection:  # which ends with the first COMMIT
        await connection.run(lambda plain: plain.set_trace_callback(kill))
    since = 0.0
    while since is not None:
        _, since = await store.prune_bytes(1, since, 4)

asyncio.run(main())
"""


@pytest.mark.parametrize(("statement", "number", "deleted"), [("DELETE FROM waits", 3, 4), ("COMMIT", 5, 6)])
async def test_a_kill_in_the_middle_of_a_deletion_leaves_whole_waits_and_true_counts(
    database: Path, statement: str, number: int, deleted: int
) -> None:
    async with opened(database) as store:
        waits = [await ended(store, at=START + n, namespace=f"team_{n % 2}") for n in range(40)]
    unsettled, settled = waits[::4] + waits[1::4], waits[2::4] + waits[3::4]
    settled.sort(key=lambda wait: wait.finished_at or 0)
    with closing(sqlite3.connect(database)) as plain, plain:
        for wait in settled:
            plain.execute("UPDATE deliveries SET state = 'delivered' WHERE wait_id = ?", [wait.id])
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", PRUNE, url_of(database), statement, str(number), cwd=ROOT
    )
    assert await process.wait() == -signal.SIGKILL
    with closing(sqlite3.connect(database)) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        counts = "SELECT namespace, sum(kept_bytes) FROM waits GROUP BY namespace"
        sizes = dict(plain.execute(counts))
        assert {row[0] for row in plain.execute("SELECT wait_id FROM deliveries")} == {
            row[0] for row in plain.execute("SELECT id FROM waits")
        }
    async with opened(database, WallClock(START)) as store:
        kept = {wait.id for wait in await store.find(WaitFilter())}
        assert kept == {wait.id for wait in (*unsettled, *settled[deleted:])}
        assert {name: store.usage.get(Kept.ENDED_BYTES, name) for name in sizes} == sizes
        assert await prune_bytes(store, 1) == len(settled) - deleted
        assert {wait.id for wait in await store.find(WaitFilter())} == {wait.id for wait in unsettled}
