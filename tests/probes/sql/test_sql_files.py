"""SQLite files: queries that nothing inside SQLite can end, and files that are no databases."""

import asyncio
import os
import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest
from daemon import until
from sql_pokes import INSTR, SqlPoker, children

from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Failure, Success, Unreachable

#: One instruction of each takes minutes or hours.
UNENDING = [
    INSTR,
    "SELECT replace(replace(hex(zeroblob(1000000)), '00', 'aa'), replace(hex(zeroblob(500000)), '00', 'aa') || 'b', '')",
    "SELECT hex(zeroblob(1000000)) LIKE '%' || substr(hex(zeroblob(12000)), 1, 24000) || '1%' || substr(hex(zeroblob(12000)), 1, 24000) || '2'",
    "SELECT count(*) FROM (WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n)",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n ORDER BY -i",
]  # fmt: skip
#: Each needs much memory.
LARGE = [
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) SELECT group_concat(hex(zeroblob(1000000))) FROM n",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) SELECT hex(zeroblob(1000000)) || i AS c FROM n ORDER BY c DESC",
    "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 1000) SELECT hex(zeroblob(1000000)) FROM n",
    "SELECT zeroblob(100000000)",
    "SELECT randomblob(1000000000)",
]  # fmt: skip


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "jobs.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE loads (id int, state text)")
    return path


@pytest.fixture
def sound(path: Path) -> bytes:
    return path.read_bytes()


@pytest.fixture
def file(path: Path) -> Connection:
    return Connection("db", "sqlite", host=str(path))


@pytest.mark.parametrize("statement", UNENDING)
async def test_a_statement_that_never_ends_costs_its_own_process(
    file: Connection, poke: SqlPoker, statement: str
) -> None:
    assert isinstance(await poke(file, sql="SELECT 1"), Success)
    started = time.monotonic()
    verdict = await poke(file, {"sql": statement, "request_timeout": 1.5})
    assert isinstance(verdict, Unreachable), verdict
    assert verdict.reason in {"statement_timeout", "too_large"}
    assert time.monotonic() - started < 60
    assert isinstance(await poke(file, sql="SELECT 1"), Success)


@pytest.mark.parametrize("statement", LARGE)
async def test_a_statement_that_needs_much_memory_is_refused(
    file: Connection, poke: SqlPoker, statement: str
) -> None:
    verdict = await poke(file, {"sql": statement, "request_timeout": 30})
    assert (type(verdict), verdict.reason) == (Unreachable, "too_large"), verdict


async def test_cancellation_kills_the_process_and_other_files_are_served(
    file: Connection, poke: SqlPoker, tmp_path: Path
) -> None:
    other = Connection("db", "sqlite", host=str(tmp_path / "other.db"))
    (tmp_path / "other.db").touch()
    assert isinstance(await poke(other, sql="SELECT 1"), Success)
    before = children(os.getpid())
    hanging = [asyncio.create_task(poke(file, {"sql": INSTR, "request_timeout": 600})) for _ in range(8)]
    await until(lambda: len(children(os.getpid()) - before) >= 1)
    for _ in range(5):
        async with asyncio.timeout(60):
            assert isinstance(await poke(other, sql="SELECT 1"), Success)
    assert len(children(os.getpid()) - before) <= 2
    for task in hanging:
        task.cancel()
    async with asyncio.timeout(60):
        await asyncio.wait(hanging)
    assert all(task.cancelled() for task in hanging)
    async with asyncio.timeout(60):
        assert isinstance(await poke(file, sql="SELECT 1"), Success)


async def test_short_pokes_leave_no_processes(file: Connection, poke: SqlPoker) -> None:
    """A poke that is cancelled while its process starts leaves that process to the next one."""
    before = children(os.getpid())
    verdicts: list[object] = []
    while not verdicts:
        task = asyncio.create_task(poke(file, sql="SELECT 1"))
        await asyncio.wait([task], timeout=0.02)
        task.cancel()
        await asyncio.wait([task])
        verdicts += [] if task.cancelled() else [task.result()]
        assert len(children(os.getpid()) - before) <= 2
    assert isinstance(verdicts[0], Success)


@pytest.mark.parametrize("kind", ["pipe", "folder", "device", "text", "empty", "socket-like"])
async def test_a_file_that_is_no_database_is_a_clear_verdict(
    kind: str, poke: SqlPoker, tmp_path: Path
) -> None:
    path = tmp_path / "file"
    match kind:
        case "pipe":
            os.mkfifo(path)
        case "folder":
            path.mkdir()
        case "device":
            path = Path("/dev/zero")
        case "text":
            path.write_bytes(b"not a database\n" * 1000)
        case "empty":
            path.write_bytes(b"")
        case _:
            path.symlink_to(path)
    async with asyncio.timeout(20):
        verdict = await poke(Connection("db", "sqlite", host=str(path)), sql="SELECT id FROM loads")
    assert isinstance(verdict, Unreachable | Failure), verdict
    assert verdict.reason in {"database_unavailable", "sql_error"}
    assert str(tmp_path) not in verdict.message


async def test_a_locked_file_ends_no_wait(file: Connection, path: Path, poke: SqlPoker) -> None:
    with closing(sqlite3.connect(path, isolation_level=None)) as writer:
        writer.execute("BEGIN EXCLUSIVE")
        verdict = await poke(file, sql="SELECT id FROM loads")
        assert (type(verdict), verdict.reason) == (Unreachable, "database_unavailable")
        assert "SQLITE_BUSY" in verdict.message
    assert (await poke(file, sql="SELECT id FROM loads")).reason == "no_rows"


def damage(path: Path, sound: bytes, at: int) -> None:
    path.write_bytes(sound[:at] + b"\xff\x00\xfe" + sound[at + 3 :])


async def test_a_damaged_file_is_a_clear_verdict(
    file: Connection, path: Path, sound: bytes, poke: SqlPoker
) -> None:
    for at in range(0, 200, 7):
        damage(path, sound, at)
        verdict = await poke(file, sql="SELECT * FROM loads")
        assert verdict.reason in {"database_unavailable", "sql_error", "no_rows", "bad_answer"}, verdict
