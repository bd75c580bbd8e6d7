"""A full disk, a locked file, another daemon, a kill: nothing is lost or half-written."""

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store_values import (
    SEEN,
    START,
    RecordingListener,
    WallClock,
    add,
    add_one,
    ending,
    new_wait,
    opened,
    url_of,
)

from waitd.core.errors import StoreUnavailable, StoreUnusable
from waitd.core.waits.wait import Progress
from waitd.ports import Inserted, StoredOutcome, StoredWait, StoreListener
from waitd.stores import Database, Store

ROOT = Path(__file__).parents[2]
BIG = {"text": "x" * 10_000}


@asynccontextmanager
async def held_by_another_program(database: Path) -> AsyncIterator[None]:
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            other.execute("ROLLBACK")


async def test_while_the_file_is_locked_nothing_is_stored_and_each_caller_is_told(
    store: Store, database: Path, listener: RecordingListener
) -> None:
    waiting = await add_one(store)
    calls: list[Any]
    async with held_by_another_program(database):
        calls = [
            store.insert([new_wait()]),
            store.insert([new_wait(), new_wait()]),
            store.finish(ending(waiting)),
        ]
        answers = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(answer) for answer in answers] == [StoreUnavailable] * 3
        while_locked = store.failing
        with pytest.raises(StoreUnavailable):
            await store.check_writable()
        assert await store.load_waiting(None, 10) == [waiting], "reading goes on"
    await store.check_writable()
    assert (while_locked, store.failing) == (True, False)
    assert await store.load_waiting(None, 10) == [waiting]
    assert [wait.id for wait in listener.inserted] == [waiting.id]
    assert await store.finish(ending(waiting)) is not None
    assert len(listener.finished) == 1
    await add_one(store)


async def test_a_second_store_on_the_file_is_refused_and_told_who_has_it(
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
        said, errors = await process.communicate()
        assert said.decode().strip() == f"StoreUnusable pid {os.getpid()}", errors.decode()


async def test_a_closed_store_takes_no_more_and_gives_the_file_free(database: Path) -> None:
    async with opened(database) as store:
        wait = await add_one(store)
        last = asyncio.create_task(store.insert([new_wait()]))
        await asyncio.sleep(0)
    assert len(await last) == 1, "what was queued is written before the file is closed"
    with pytest.raises(StoreUnavailable, match="closed"):
        await store.insert([new_wait()])
    async with opened(database) as again:
        assert [w.id for w in await again.load_waiting(None, 10)] == [
            wait.id,
            *(row.wait.id for row in await last if isinstance(row, Inserted)),
        ]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("postgresql+asyncpg://host/db", "must be SQLite"),
        ("no url at all", "URL"),
        ("sqlite+aiosqlite:///file:x?mode=memory&uri=true", "no options"),
        ("sqlite+aiosqlite:////proc/waitd/waitd.db", "cannot be opened"),
    ],
)
async def test_a_url_that_cannot_be_served_is_refused_in_words(url: str, words: str) -> None:
    with pytest.raises(StoreUnusable, match=words):
        await Database.open(url)


async def test_a_file_that_is_no_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "waitd.db"
    path.write_text("This is a letter to my aunt. " * 200)
    with pytest.raises(StoreUnusable, match="not a database"):
        async with opened(path):
            pass
    path.unlink()
    async with opened(path) as store:  # the refusal has let go of the lock
        await add_one(store)


async def fill(store: Store) -> list[StoredWait]:
    """Adds waits until the disk is full; those that were taken."""
    taken: list[StoredWait] = []
    while True:
        answers = await asyncio.gather(
            *[store.insert([new_wait(params=BIG)] * 2) for _ in range(3)], return_exceptions=True
        )
        for answer in answers:
            if isinstance(answer, BaseException):
                assert isinstance(answer, StoreUnavailable), answer
            else:
                taken += [row.wait for row in answer if isinstance(row, Inserted)]
        if any(isinstance(answer, BaseException) for answer in answers):
            return taken


async def check_full(
    store: Store, listener: RecordingListener, waiting: StoredWait, taken: list[StoredWait]
) -> None:
    """On a full disk: accepted waits are stored, the rest is not, and an end is refused."""
    assert taken
    assert store.failing
    for _ in range(2):
        with pytest.raises(StoreUnavailable, match="full"):
            await store.finish(ending(waiting, progress=Progress(state="x" * 400_000)))
    assert {w.id for w in await store.load_waiting(None, 10_000)} == {waiting.id, *(w.id for w in taken)}
    assert (await store.get(waiting.id)).outcome is None
    assert await store.delivery_counts() == {}
    assert listener.finished == []


async def check_recovered(
    store: Store, listener: RecordingListener, waiting: StoredWait, taken: list[StoredWait]
) -> None:
    """With room again: the end goes through once, new waits are taken."""
    result = await store.finish(ending(waiting))
    assert result is not None
    assert not store.failing
    assert len(listener.finished) == 1
    assert await store.delivery_counts() == {"queued": 1}
    await add(store, *[new_wait(params=BIG) for _ in range(20)])
    assert len(await store.load_waiting(None, 10_000)) == len(taken) + 20


async def test_a_full_database_loses_nothing_and_goes_on_when_there_is_room(
    store: Store, listener: RecordingListener
) -> None:
    waiting = await add_one(store)

    async def limit(pages: int) -> None:
        async with store._database.writing() as connection:
            await connection.fetch_all(f"PRAGMA max_page_count = {pages}")

    await limit(100)
    taken = await fill(store)
    await check_full(store, listener, waiting, taken)
    await limit(1_000_000)
    await check_recovered(store, listener, waiting, taken)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A real file system of 1 MiB."""
    place = tmp_path / "small"
    place.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(place)],
        capture_output=True,
        text=True,
        check=False,
    )
    if mounted.returncode:
        pytest.skip(f"no small file system can be mounted here: {mounted.stderr.strip()}")
    yield place
    subprocess.run(["umount", str(place)], check=True)


async def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(small_disk: Path) -> None:
    listener = RecordingListener()
    async with opened(small_disk / "waitd.db", listener=listener) as store:
        waiting = await add_one(store)
        taken = await fill(store)
        await check_full(store, listener, waiting, taken)
        await asyncio.to_thread(
            subprocess.run,
            ["mount", "-o", "remount,size=8m", str(small_disk)],
            check=True,
            capture_output=True,
        )
        await check_recovered(store, listener, waiting, taken)


async def test_a_call_that_cannot_be_written_does_not_harm_those_beside_it(store: Store) -> None:
    wait = await add_one(store)
    nonsense: Any = object()
    calls: list[Any] = [
        store.insert([new_wait()]),
        store.save_progress([(wait.id, replace(SEEN, state=nonsense))]),
    ]
    calls += [store.finish(ending(wait))]
    answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    (added,), broken, result = answers
    assert isinstance(added, Inserted)
    assert isinstance(broken, AttributeError)
    assert result.wait.id == wait.id
    assert not store.failing


async def test_an_end_is_stored_whole_or_not_at_all(
    store: Store, database: Path, listener: RecordingListener
) -> None:
    wait = await add_one(store)
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute("CREATE TRIGGER no BEFORE INSERT ON deliveries BEGIN SELECT RAISE(ABORT, 'no'); END")
        with pytest.raises(sqlite3.IntegrityError):
            await store.finish(ending(wait))
        assert await store.get(wait.id) == wait
        assert listener.finished == []
        other.execute("DROP TRIGGER no")
    result = await store.finish(ending(wait))
    assert result is not None
    assert len(result.wait.deliveries) == 1


class DefectiveListener(StoreListener):
    def on_inserted(self, waits: Sequence[StoredWait]) -> None:
        raise RuntimeError("a listener's defect")

    def on_finished(self, outcomes: Sequence[StoredOutcome]) -> None:
        raise RuntimeError("a listener's defect")


async def test_a_defective_listener_does_not_fail_the_callers(database: Path) -> None:
    async with opened(database, listener=DefectiveListener()) as store:
        wait = await add_one(store)
        assert await store.finish(ending(wait)) is not None


@pytest.mark.parametrize("kills", range(3))
async def test_after_a_kill_every_wait_that_was_acknowledged_is_there(database: Path, kills: int) -> None:
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
from waitd.stores import Database

async def main():
    try:
        await Database.open(sys.argv[1])
    except StoreUnusable as error:
        print("StoreUnusable", re.search(r"pid [0-9]+", str(error))[0])

asyncio.run(main())
"""

WRITE = """
import asyncio, sys, time
from waitd.core.waits.wait import EMPTY_PROGRESS, Outcome, WaitSpec, WaitState
from waitd.ports import UnstoredOutcome, NewWait
from waitd.stores import Database, Store

NEW = NewWait("default", WaitSpec("http", {}, 60.0, 600.0, sinks=({"kind": "webhook"},)))
DONE = Outcome(WaitState.SUCCESS)

async def write(store):
    while True:
        wait, other = [answer.wait for answer in await store.insert([NEW, NEW])]
        print(wait.id, other.id, sep="\\n", flush=True)
        await store.finish(UnstoredOutcome(wait.id, EMPTY_PROGRESS, DONE, time.time()))

async def main():
    store = Store(await Database.open(sys.argv[1]), destination_of=lambda namespace, sink: "d")
    await asyncio.gather(*[write(store) for _ in range(8)])

asyncio.run(main())
"""
