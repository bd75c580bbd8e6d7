"""A full disk, a locked file, a second daemon, SIGKILL: no change is lost or half-written."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing, contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from small_disk import mounted_small_disk
from store_values import (
    SEEN,
    START,
    RecordingListener,
    WallClock,
    add,
    add_one,
    ended,
    ending,
    finish,
    new_wait,
    opened,
    url_of,
)

from waitd.core.errors import StoreUnavailable, StoreUnusable
from waitd.core.waits.wait import Progress
from waitd.ports import StoredOutcome, StoredWait
from waitd.stores import Store, open_database

ROOT = Path(__file__).parents[2]
BIG = {"text": "x" * 10_000}


@asynccontextmanager
async def locked_by_another_program(database: Path) -> AsyncIterator[None]:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


async def test_while_the_file_is_locked_each_write_fails_and_stores_nothing(
    store: Store, database: Path, listener: RecordingListener
) -> None:
    waiting = await add_one(store)
    async with locked_by_another_program(database):
        results = await asyncio.gather(
            store.insert([new_wait()]),
            store.insert([new_wait(), new_wait()]),
            store.finish(ending(waiting)),
            return_exceptions=True,
        )
        assert [type(result) for result in results] == [StoreUnavailable] * 3
        while_locked = store.failure
        with pytest.raises(StoreUnavailable):
            await store.check_writable()
        assert await store.load_waiting(None, 10) == [waiting], "reads still work"
    await store.check_writable()
    assert (bool(while_locked), store.failure) == (True, "")
    assert await store.load_waiting(None, 10) == [waiting]
    assert [wait.id for wait in listener.inserted] == [waiting.id]
    assert listener.finished == [await finish(store, waiting)]
    await add_one(store)


async def test_a_second_store_on_the_file_is_refused_with_the_pid_of_the_first(
    store: Store, database: Path
) -> None:
    with pytest.raises(StoreUnusable, match=f"{database} is in use by another waitd .pid {os.getpid()}"):
        async with opened(database):
            pass
    await add_one(store)


async def test_a_second_process_on_the_file_is_refused(store: Store, database: Path, tmp_path: Path) -> None:
    alias = tmp_path / "alias.db"
    alias.symlink_to(database)
    for path in (database, alias):
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", OPEN, url_of(path), cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        output, errors = await process.communicate()
        assert output.decode().strip() == f"StoreUnusable pid {os.getpid()}", errors.decode()


async def test_a_closed_store_refuses_calls_and_releases_the_file(database: Path) -> None:
    async with opened(database) as store:
        wait = await add_one(store)
        queued = asyncio.create_task(add_one(store))
        await asyncio.sleep(0)
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.insert([new_wait()])
    async with opened(database) as again:
        assert await again.load_waiting(None, 10) == [wait, await queued]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("postgresql+asyncpg://host/db", "must be SQLite"),
        ("no url at all", "URL"),
        ("sqlite+aiosqlite:///file:x?mode=memory&uri=true", "no options"),
        ("sqlite+aiosqlite:////proc/waitd/waitd.db", "cannot be opened"),
    ],
)
async def test_an_unusable_url_is_refused(url: str, message: str) -> None:
    with pytest.raises(StoreUnusable, match=message):
        await open_database(url)


async def test_a_file_that_is_not_a_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "waitd.db"
    path.write_text("This is a letter to my aunt. " * 200)
    with pytest.raises(StoreUnusable, match="not a database"):
        async with opened(path):
            pass
    path.unlink()
    async with opened(path) as store:  # the refusal released the lock
        await add_one(store)


async def fill(store: Store) -> list[StoredWait]:
    """Inserts waits until the disk is full; returns those that were stored."""
    stored: list[StoredWait] = []
    while not store.failure:
        calls = [add(store, *[new_wait(params=BIG)] * 2) for _ in range(3)]
        for result in await asyncio.gather(*calls, return_exceptions=True):
            if isinstance(result, BaseException):
                assert isinstance(result, StoreUnavailable), result
            else:
                stored += result
    return stored


async def check_full_disk(
    store: Store, listener: RecordingListener, make_room: Callable[[], Awaitable[object]]
) -> None:
    waiting = await add_one(store)
    stored = await fill(store)
    assert stored
    assert store.failure
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="full"):
            await store.finish(ending(waiting, progress=Progress(state="x" * 400_000)))
    assert {w.id for w in await store.load_waiting(None, 10_000)} == {waiting.id, *(w.id for w in stored)}
    assert (await store.get(waiting.id)).outcome is None
    assert await store.delivery_counts() == {}
    assert listener.finished == []
    await make_room()
    result = await finish(store, waiting)
    assert (store.failure, listener.finished) == ("", [result])
    assert await store.delivery_counts() == {"queued": 1}
    await add(store, *[new_wait(params=BIG) for _ in range(20)])
    assert len(await store.load_waiting(None, 10_000)) == len(stored) + 20


async def test_a_full_database_loses_nothing_and_recovers_when_there_is_room(
    store: Store, listener: RecordingListener
) -> None:
    async def limit(pages: int) -> None:
        async with store._database.writing() as connection:
            await connection.fetch_all(f"PRAGMA max_page_count = {pages}")

    await limit(100)
    await check_full_disk(store, listener, partial(limit, 1_000_000))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    with mounted_small_disk(tmp_path / "small", 1) as disk:
        yield disk


async def test_a_full_disk_loses_nothing_and_recovers_when_there_is_room(
    small_disk: Path, listener: RecordingListener
) -> None:
    remount = ["mount", "-o", "remount,size=8m", str(small_disk)]
    make_room = partial(asyncio.to_thread, subprocess.run, remount, check=True, capture_output=True)
    async with opened(small_disk / "waitd.db", listener=listener) as store:
        await check_full_disk(store, listener, make_room)


@contextmanager
def read_only(*paths: str) -> Iterator[None]:
    """Lets no one write into these open files, as a file system that turns read-only does."""
    try:
        subprocess.run(["chattr", "+i", *paths], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"files cannot be made immutable here: {error}")
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", *paths], check=True, capture_output=True)


async def test_files_that_turn_read_only_are_noticed_and_recovered_from(
    store: Store, database: Path, listener: RecordingListener
) -> None:
    waiting = await add_one(store)
    with read_only(str(database), f"{database}-wal"):
        for write in (store.check_writable(), store.insert([new_wait()]), store.finish(ending(waiting))):
            with pytest.raises(StoreUnavailable, match="cannot be written now"):
                await write
        assert store.failure
        assert await store.load_waiting(None, 10) == [waiting], "reads still work"
    assert listener.finished == [await finish(store, waiting)]
    assert not store.failure


async def test_an_invalid_change_does_not_fail_others_of_its_commit(store: Store) -> None:
    wait = await add_one(store)
    invalid: Any = object()
    added, failed, finished = await asyncio.gather(
        add_one(store),
        store.save_progress([(wait.id, replace(SEEN, state=invalid))]),
        finish(store, wait),
        return_exceptions=True,
    )
    assert isinstance(added, StoredWait)
    assert isinstance(failed, AttributeError)
    assert isinstance(finished, StoredOutcome)
    assert not store.failure


async def test_an_outcome_is_stored_with_its_deliveries_or_not_at_all(
    store: Store, database: Path, listener: RecordingListener
) -> None:
    wait = await add_one(store)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER no BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'no'); END")
        with pytest.raises(StoreUnavailable, match="no"):
            await store.finish(ending(wait))
        assert await store.get(wait.id) == wait
        assert listener.finished == []
        other.execute("DROP TRIGGER no")
    assert len((await finish(store, wait)).wait.deliveries) == 1


async def test_a_trigger_that_refuses_one_wait_refuses_no_other(store: Store, database: Path) -> None:
    refused, *others = await add(store, *(new_wait() for _ in range(20)))
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute(
            f"CREATE TRIGGER no BEFORE UPDATE ON waits WHEN new.id = '{refused.id}'"
            " BEGIN SELECT RAISE(ABORT, 'not this one'); END"
        )
    calls = [store.finish(ending(wait)) for wait in (refused, *others)]
    error, *stored = await asyncio.gather(*calls, return_exceptions=True)
    assert isinstance(error, StoreUnavailable)
    assert "not this one" in str(error)
    assert all(isinstance(answer, StoredOutcome) for answer in stored), stored
    assert "not this one" in store.failure
    await store.check_writable()
    assert not store.failure


async def test_a_defective_listener_fails_neither_the_callers_nor_the_next_listener(
    store: Store, listener: RecordingListener, monkeypatch: pytest.MonkeyPatch
) -> None:
    defective = RecordingListener()
    monkeypatch.setattr(defective, "on_inserted", None)  # calling it is an error
    monkeypatch.setattr(defective, "on_finished", None)
    store.listeners = (defective, listener)
    wait = await ended(store)
    assert [each.id for each in listener.inserted] == [wait.id]
    assert [each.wait.id for each in listener.finished] == [wait.id]


@pytest.mark.parametrize("kills", range(3))
async def test_after_sigkill_every_acknowledged_wait_is_stored(database: Path, kills: int) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", WRITE, url_of(database), cwd=ROOT, stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    acknowledged = {(await process.stdout.readline()).decode().strip() for _ in range(30 + 40 * kills)}
    process.send_signal(signal.SIGKILL)
    rest, _ = await process.communicate()
    acknowledged |= {line.decode().strip() for line in rest.splitlines(keepends=True) if line.endswith(b"\n")}
    with closing(sqlite3.connect(database)) as plain:
        assert plain.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        half = "SELECT count(*) FROM waits WHERE state != 'waiting' AND id NOT IN (SELECT wait_id FROM deliveries)"
        assert plain.execute(half).fetchone() == (0,)
    async with opened(database, WallClock(START)) as store:
        for wait_id in acknowledged:
            assert (await store.get(wait_id)).deadline > 0
        await add_one(store)


OPEN = """
import asyncio, re, sys
from waitd.core.errors import StoreUnusable
from waitd.stores import Database, open_database

async def main():
    try:
        await open_database(sys.argv[1])
    except StoreUnusable as error:
        print("StoreUnusable", re.search(r"pid [0-9]+", str(error))[0])

asyncio.run(main())
"""

WRITE = """
import asyncio, sys, time
from waitd.core.waits.wait import EMPTY_PROGRESS, Outcome, WaitSpec, WaitState
from waitd.ports import UnstoredOutcome, NewWait
from waitd.stores import Database, Store, open_database

NEW = NewWait("default", WaitSpec("http", {}, 60.0, 600.0, sinks=({"kind": "webhook"},)))
DONE = Outcome(WaitState.SUCCESS)

async def write(store):
    while True:
        wait, other = [answer.wait for answer in await store.insert([NEW, NEW])]
        print(wait.id, other.id, sep="\\n", flush=True)
        await store.finish(UnstoredOutcome(wait.id, EMPTY_PROGRESS, DONE, time.time()))

async def main():
    store = Store(await open_database(sys.argv[1]), destination_of=lambda namespace, sink: "d")
    await asyncio.gather(*[write(store) for _ in range(8)])

asyncio.run(main())
"""
