"""Files that are deleted, exchanged or copied under the store, or beside it."""

import asyncio
import os
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest
from small_disk import mounted_small_disk
from store_values import START, add, add_one, ending, finish, new_wait, opened, url_of
from structlog.testing import capture_logs

from waitd.core.disk_room import LOG_BYTES, DiskRoom
from waitd.core.errors import StoreUnavailable, StoreUnusable
from waitd.ports import WaitFilter
from waitd.stores import Store, open_database


def side(database: Path, suffix: str) -> Path:
    return database.with_name(database.name + suffix)


def rename(path: Path, target: Path) -> None:
    path.rename(target)


def content(path: Path) -> bytes:
    return path.read_bytes()


def exchange(database: Path) -> None:
    """Puts a copy in the file's place, as a careless restore does."""
    shutil.copy(database, side(database, ".copy"))
    side(database, ".copy").rename(database)


def exchange_directory(database: Path) -> None:
    database.parent.rename(database.parent.with_name("old"))
    shutil.copytree(database.parent.with_name("old"), database.parent)


LOSSES: dict[str, Callable[[Path], object]] = {
    "the log is deleted": lambda database: side(database, "-wal").unlink(),
    "the file is deleted": Path.unlink,
    "the file is renamed": lambda database: database.rename(side(database, ".old")),
    "the file is exchanged": exchange,
    "the lock file is deleted": lambda database: side(database, ".lock").unlink(),
    "the lock file is exchanged": lambda database: exchange(side(database, ".lock")),
    "the directory is moved": lambda database: database.parent.rename(database.parent.with_name("old")),
    "the directory is replaced": exchange_directory,
    "the directory is deleted": lambda database: shutil.rmtree(database.parent),
}


@pytest.mark.parametrize("loss", LOSSES)
async def test_no_write_is_accepted_after_a_file_is_lost(loss: str, store: Store, database: Path) -> None:
    wait = await add_one(store)
    with capture_logs() as logs:
        LOSSES[loss](database)
        for _ in range(3):
            with pytest.raises(StoreUnavailable, match=f"{database.parent}.*restart"):
                await store.insert([new_wait()])
            with pytest.raises(StoreUnavailable):
                await store.finish(ending(wait))
            with pytest.raises(StoreUnavailable):
                await store.check_writable()
            await store.check_files()
    assert [line["event"] for line in logs].count("database_lost") == 1
    assert [line["event"] for line in logs if line["log_level"] == "error"] == ["database_lost"]
    assert store.loss
    assert [found.id for found in await store.find(WaitFilter())] == [wait.id], "an export can still save it"


@pytest.mark.parametrize("suffix", ["", "-wal"])
@pytest.mark.parametrize("checkpointed", [True, False])
async def test_nothing_is_written_into_a_file_that_was_cut_off(
    store: Store, database: Path, suffix: str, checkpointed: bool
) -> None:
    await add_one(store)
    if checkpointed:
        outside(database, "PRAGMA wal_checkpoint(PASSIVE)")
    await add_one(store)
    await store.check_files()
    os.truncate(side(database, suffix), 0)
    with pytest.raises(StoreUnavailable, match=f"{database}{suffix} was cut off.*restart"):
        await store.insert([new_wait()])
    assert "cut off" in store.loss
    await store.check_files()


@pytest.mark.parametrize("statement", ["PRAGMA wal_checkpoint(TRUNCATE)", "VACUUM"])
async def test_another_program_may_make_files_smaller(store: Store, database: Path, statement: str) -> None:
    for _ in range(3):
        waits = await add(store, *(new_wait() for _ in range(1000)))
        outside(database, "DELETE FROM waits")
        await store.check_files()
        outside(database, statement)
        outside(database, "PRAGMA wal_checkpoint(TRUNCATE)")
        await store.check_files()
        await add_one(store)
    assert waits
    assert not store.loss


def outside(database: Path, statement: str) -> None:
    """Executes a statement as another program."""
    with closing(sqlite3.connect(database, isolation_level=None)) as connection:
        connection.execute(statement)


@pytest.mark.parametrize("loss", LOSSES)
async def test_a_look_notices_a_loss_without_a_write(loss: str, store: Store, database: Path) -> None:
    await store.check_files()
    assert not store.loss
    LOSSES[loss](database)
    await store.check_files()
    assert store.loss


async def test_what_was_accepted_before_its_log_was_deleted_is_saved(store: Store, database: Path) -> None:
    waits = [await add_one(store) for _ in range(3)]
    side(database, "-wal").unlink()
    await store.check_files()
    with closing(sqlite3.connect(f"{database.as_uri()}?immutable=1", uri=True)) as other:
        ids = [wait_id for (wait_id,) in other.execute("SELECT id FROM waits ORDER BY id")]
    assert ids == [wait.id for wait in waits]


async def test_an_exchanged_file_is_not_written(store: Store, database: Path) -> None:
    await add_one(store)
    exchange(database)
    before = content(database)
    with pytest.raises(StoreUnavailable):
        await store.insert([new_wait()])
    await store.check_files()
    await store.close()
    assert content(database) == before


async def test_a_second_store_is_refused_even_if_the_lock_file_was_deleted(
    store: Store, database: Path
) -> None:
    side(database, ".lock").unlink()
    with pytest.raises(StoreUnusable, match="is in use by another waitd"):
        await open_database(url_of(database))
    assert not store.failure


async def claimed(path: Path, *, adopt_copy: bool = False) -> str:
    """Opens and claims a database as a daemon does; returns its instance id."""
    database = await open_database(url_of(path))
    try:
        await database.claim(adopt_copy=adopt_copy)
    finally:
        await database.close()
    with closing(sqlite3.connect(path)) as connection:
        ((instance_id,),) = connection.execute("SELECT id FROM instance").fetchall()
    return str(instance_id)


async def test_a_copy_beside_its_original_is_refused_until_it_is_adopted(database: Path) -> None:
    original = await claimed(database)
    copy = database.parent.parent / "copy.db"
    shutil.copy(database, copy)
    with pytest.raises(StoreUnusable, match=f"{copy} is a copy of {database}.*--adopt-copy"):
        await claimed(copy)
    adopted = await claimed(copy, adopt_copy=True)
    assert adopted != original
    assert await claimed(copy) == adopted, "once is enough"
    assert await claimed(database) == original


async def test_a_moved_database_is_used_and_said_to_have_moved(database: Path) -> None:
    original = await claimed(database)
    moved = database.parent.parent / "moved.db"
    rename(database, moved)
    with capture_logs() as logs:
        assert await claimed(moved) == original
    assert [line["last_used_at"] for line in logs if line["event"] == "database_moved"] == [str(database)]
    with capture_logs() as logs:
        assert await claimed(moved) == original
    assert not [line for line in logs if line["event"] == "database_moved"]


async def test_a_restore_in_place_of_the_original_is_used(database: Path) -> None:
    original = await claimed(database)
    copy = side(database, ".copy")
    shutil.copy(database, copy)
    rename(copy, database)
    assert await claimed(database) == original


async def test_a_database_that_is_only_read_is_not_claimed(database: Path) -> None:
    await claimed(database)
    copy = database.parent.parent / "copy.db"
    shutil.copy(database, copy)
    async with opened(copy) as store:
        assert await store.find(WaitFilter()) == []


@pytest.mark.parametrize(
    "damage",
    [
        "DELETE FROM instance",
        "INSERT INTO instance VALUES ('x', 1, NULL)",
        "UPDATE instance SET id = x'ff'",
        "UPDATE instance SET id = CAST(x'ff' AS TEXT)",
        "UPDATE instance SET starts = 'many'",
        "UPDATE instance SET starts = 9223372036854775807",
        "UPDATE instance SET starts = 9e999",
        "UPDATE instance SET starts = CAST(x'ff' AS TEXT)",
        "UPDATE instance SET place = '5'",
        "UPDATE instance SET place = '[\"relative.db\", 1]'",
        "UPDATE instance SET place = '[\"/a\\u0000b\", 1]'",
        "UPDATE instance SET place = CAST(x'fffe' AS TEXT)",
    ],
)
async def test_a_damaged_instance_keeps_no_database_from_starting(database: Path, damage: str) -> None:
    await claimed(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(damage)
        connection.commit()
    with capture_logs() as logs:
        first = await claimed(database)
    assert {line["event"] for line in logs} & {"row_unreadable", "database_moved"}
    assert await claimed(database) == first


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("DROP TABLE instance", "lacks the table instance"),
        ("DROP TABLE waits", "lacks the table waits"),
        ("ALTER TABLE deliveries DROP COLUMN last_error", "lacks last_error of the table deliveries"),
        ("DELETE FROM alembic_version", "already exists. It is damaged"),
    ],
)
async def test_a_damaged_schema_is_one_clear_sentence(database: Path, damage: str, message: str) -> None:
    await claimed(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(damage)
        connection.commit()
    with pytest.raises(StoreUnusable, match=message):
        await claimed(database)


async def test_a_loop_of_links_is_one_clear_sentence(tmp_path: Path) -> None:
    (tmp_path / "waitd.db").symlink_to(tmp_path / "waitd.db")
    with pytest.raises(StoreUnusable, match="symbolic links"):
        await claimed(tmp_path / "waitd.db")


async def test_a_negative_watermark_counts_as_none(database: Path) -> None:
    await claimed(database)
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("UPDATE watermarks SET value = -5")
        connection.commit()
    async with opened(database) as store:
        assert store.event_secret == 0


async def test_the_disk_is_measured_with_the_free_pages_in_the_file(database: Path) -> None:
    async with opened(database) as store:
        large = [new_wait(params={"endpoint": "x" * 50_000}, sinks=[]) for _ in range(40)]
        for wait in await add(store, *large):
            await finish(store, wait)
        before = await store.disk_space()
        assert before is not None
        assert 0 < before.free < before.size
        assert before.reusable < 100_000
        assert await store.prune(START + 1000, 100) == 40
        after = await store.disk_space()
        assert after is not None
        assert after.reusable > 40 * 50_000
    async with opened(None) as store:
        assert await store.disk_space() is None


async def test_on_a_full_disk_the_free_pages_of_the_file_are_room(tmp_path: Path) -> None:
    async def fill_but_for(size: int) -> None:
        space = await store.disk_space()
        assert space is not None
        with (disk / "filler").open("ab") as filler:
            filler.write(bytes(space.free - size))
        room.measure(await store.disk_space())

    room = DiskRoom(2**28, 2**29)
    with mounted_small_disk(tmp_path / "disk", 80) as disk:
        async with opened(disk / "waitd.db") as store:
            large = [new_wait(params={"endpoint": "x" * 20_000}, sinks=[]) for _ in range(1000)]
            await asyncio.gather(*(store.finish(ending(wait)) for wait in await add(store, *large)))
            await fill_but_for(0)
            states = [(room.full, room.low)]
            while await store.prune(START + 1000, 50):
                pass
            room.measure(await store.disk_space())
            states.append((room.full, room.low))
        async with opened(disk / "waitd.db") as store:
            await fill_but_for(LOG_BYTES)
            states.append((room.full, room.low))
            assert states == [(True, True), (False, False), (False, False)]
            # More than the log has room for.
            await asyncio.gather(
                *(store.insert([new_wait(params={"x": "x" * 10_000})] * 20) for _ in range(40))
            )
            assert len(await store.load_waiting(None, 10_000)) == 800
            assert not store.failure
