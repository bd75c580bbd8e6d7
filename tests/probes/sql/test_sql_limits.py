"""The limits of the kind `sql`: it only reads, for a limited time, a limited number of rows."""

import asyncio
import threading
import time
import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest
from daemon import until
from databases import MariaDb, Postgres
from fakes import FakeConnections
from raw_server import Poked
from sql_pokes import Database, SqlPoker, all_databases, database_servers

from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Failure, Success, Unreachable, Verdict
from waitd.probes.sql import pool
from waitd.probes.sql.errors import TOO_LARGE
from waitd.probes.sql.probe import SqlProbe
from waitd.probes.sql.read_limit import MAX_READ
from waitd.probes.sql.rows import MAX_BYTES, QueryResult, SelectedRows, selected_rows

WRITES = [
    "INSERT INTO loads (id) VALUES (1)",
    "DELETE FROM loads",
    "CREATE TABLE other (id int)",
    "SELECT 1; INSERT INTO loads (id) VALUES (1)",
    "SELECT 1; SELECT 2",
    "COMMIT",
]
MORE_WRITES = {
    "postgres": [
        "WITH gone AS (DELETE FROM loads RETURNING id) SELECT id FROM gone",
        "COPY loads TO '/tmp/waitd-never'",
        "SET default_transaction_read_only = off",
        "SELECT id INTO other FROM loads",
        "DO $$ BEGIN DELETE FROM loads; END $$",
        "SELECT nextval('counter')",
    ],
    "mysql": [
        "SELECT 1 INTO OUTFILE 'never'",
        "SET GLOBAL max_connections = 1",
        "SELECT 1) LIMIT 1; DELETE FROM loads; -- ",
        "SELECT 1 INTO @x",
    ],
    "sqlite": [
        "ATTACH '/tmp/waitd-never.db' AS other",
        "PRAGMA query_only = OFF",
        "SELECT load_extension('/tmp/x.so')",
        "VACUUM INTO '/tmp/waitd-never.db'",
    ],
}


@all_databases
async def test_only_a_single_select_is_accepted(database: Database, poke: SqlPoker) -> None:
    database.sql("INSERT INTO loads (id) VALUES (5)")
    if database.name == "postgres":
        database.sql(
            "DROP SEQUENCE IF EXISTS counter; CREATE SEQUENCE counter; GRANT ALL ON SEQUENCE counter TO reader"
        )
    for statement in WRITES + MORE_WRITES[database.name]:
        verdict = await poke(database.connection, sql=statement)
        assert isinstance(verdict, Failure), (statement, verdict)
        assert (verdict.reason, verdict.silenceable) == ("sql_error", True), statement
        assert "loads" not in verdict.message
    assert database.sql("SELECT count(*) FROM loads") == "1"
    assert isinstance(await poke(database.connection, sql="SELECT 1;"), Success)


@all_databases
async def test_cancelled_statements_do_not_disturb_later_ones(database: Database, poke: SqlPoker) -> None:
    slow = {
        "postgres": "SELECT pg_sleep(60)",
        "mysql": "SELECT SLEEP(60)",
        "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    }[database.name]
    assert isinstance(await poke(database.connection, sql="SELECT 1"), Success)
    hanging = [
        asyncio.create_task(poke(database.connection, sql=slow)) for _ in range(6)
    ]  # more than connections
    done, _ = await asyncio.wait(hanging, timeout=1)
    assert not done
    for task in hanging:
        task.cancel()
    await asyncio.wait_for(asyncio.wait(hanging), 60)
    assert [await poke(database.connection, sql="SELECT 1") for _ in range(5)] == [Success([{"1": 1} if database.name != "postgres" else {"?column?": 1}], "success", "1 row")] * 5  # fmt: skip


@database_servers
async def test_the_server_ends_a_statement_that_takes_too_long(database: Database, poke: SqlPoker) -> None:
    slow = {"postgres": "SELECT pg_sleep(60)", "mysql": "SELECT count(*) FROM (SELECT SLEEP(60) AS s) AS q"}[
        database.name
    ]
    started = time.monotonic()
    verdict = await poke(database.connection, {"sql": slow, "request_timeout": 0.5})
    assert (type(verdict), verdict.reason) == (Unreachable, "statement_timeout"), verdict
    assert time.monotonic() - started < 50


@database_servers
async def test_few_connections_are_shared_and_locks_are_released(database: Database, poke: SqlPoker) -> None:
    waits = [{"sql": "SELECT :n + 1 AS n", "parameters": {"n": number}} for number in range(30)]
    connections, lock, is_free = {
        "postgres": (
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waitd'",
            "SELECT 1 FROM (SELECT pg_advisory_lock(7)) AS q",
            "SELECT count(*) = 0 FROM pg_locks WHERE locktype = 'advisory'",
        ),
        "mysql": (
            "SELECT count(*) FROM information_schema.processlist WHERE user = 'reader'",
            "SELECT GET_LOCK('waitd', 0)",
            "SELECT IS_FREE_LOCK('waitd')",
        ),
    }[database.name]
    await until(lambda: database.sql(connections) == "0", what="the end of other tests' statements")
    verdicts = await asyncio.gather(*(poke(database.connection, wait) for wait in waits))
    assert [verdict.payload[0]["n"] for verdict in verdicts] == list(range(1, 31))
    assert int(database.sql(connections)) <= 4
    assert isinstance(await poke(database.connection, sql=lock), Success)
    assert database.sql(is_free) in {"t", "1"}


@database_servers
async def test_a_slow_database_delays_no_other(
    database: Database, postgres: Postgres, mariadb: MariaDb, tmp_path: Path
) -> None:
    """Pokes of other databases go on while all connections to the slow one are taken."""
    quick = {"postgres": mariadb, "mysql": postgres}[database.name]
    file = tmp_path / "quick.db"
    file.touch()
    connections = FakeConnections(
        replace(database.connection, conn_id="slow"),
        replace(quick.connection("mysql" if quick is mariadb else "postgres"), conn_id="quick"),
        Connection("file", "sqlite", host=str(file)),
    )
    nap = {"postgres": "SELECT pg_sleep(60)", "mysql": "SELECT SLEEP(60)"}[database.name]
    async with SqlProbe(connections) as probe:

        async def poke(conn_id: str, sql: str) -> Verdict:
            params = {"conn_id": conn_id, "sql": sql, "request_timeout": 60}
            return (await probe.poke([Poked(probe.parse(params, namespace="default"))]))[0]

        hanging = [asyncio.create_task(poke("slow", nap)) for _ in range(20)]
        async with asyncio.timeout(30):
            for conn_id in ("quick", "file") * 10:
                assert isinstance(await poke(conn_id, "SELECT 1"), Success)
        assert not any(task.done() for task in hanging)
        for task in hanging:
            task.cancel()
        await asyncio.wait(hanging)


@all_databases
async def test_a_huge_cell_is_not_read(database: Database, poke: SqlPoker) -> None:
    """The drivers themselves would read all of it into memory."""
    huge = {
        "postgres": "SELECT repeat('x', 100000000) AS cell",
        "mysql": "SELECT REPEAT('x', 10000000) AS cell",
        "sqlite": "SELECT hex(zeroblob(50000000)) AS cell",
    }[database.name]
    assert isinstance(await poke(database.connection, sql="SELECT 1"), Success)  # opens a connection
    tracemalloc.start()
    try:
        for sql, expected in ((huge, (Unreachable, "too_large")), ("SELECT 1", (Success, "success"))) * 2:
            verdict = await poke(database.connection, sql=sql)
            assert (type(verdict), verdict.reason) == expected, verdict
        assert tracemalloc.get_traced_memory()[1] < 4 * MAX_READ
    finally:
        tracemalloc.stop()


@all_databases
async def test_a_large_cell_that_can_be_read_is_refused(database: Database, poke: SqlPoker) -> None:
    """Each query on a connection has the whole limit."""
    large = {
        "postgres": "repeat('x', 300000)",
        "mysql": "REPEAT('x', 300000)",
        "sqlite": "hex(zeroblob(150000))",
    }
    for _ in range(20):
        verdict = await poke(database.connection, sql=f"SELECT {large[database.name]} AS cell")
        assert (type(verdict), verdict.reason) == (Unreachable, "too_large"), verdict
    assert isinstance(await poke(database.connection, sql="SELECT 1"), Success)


@database_servers
async def test_a_large_answer_is_converted_beside_the_event_loop(
    database: Database, poke: SqlPoker, monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: list[threading.Thread] = []

    def recorded(result: QueryResult, max_rows: int) -> SelectedRows | Unreachable:
        threads.append(threading.current_thread())
        return selected_rows(result, max_rows)

    monkeypatch.setattr(pool, "selected_rows", recorded)
    for size in (100, 100_000):
        verdict = await poke(database.connection, sql=f"SELECT 1 AS done, repeat('x', {size}) AS cell")
        assert isinstance(verdict, Success), verdict
    main = threading.main_thread()
    assert [thread is main for thread in threads] == [True, False]


class Long:
    """A value of no known type, with a long text."""

    read = 0

    def __str__(self) -> str:
        Long.read += 1
        return "x" * 1000


def test_no_more_values_are_converted_than_fit() -> None:
    assert selected_rows(QueryResult(["a"], [([Long() for _ in range(10_000)],)]), 100) is TOO_LARGE
    assert Long.read <= MAX_BYTES // 1000 + 1


@pytest.mark.parametrize("kind", ["inet", "cidr", "uuid", "bit(8)", "varbit"])
async def test_no_type_is_slow_to_decode(postgres: Postgres, poke: SqlPoker, kind: str) -> None:
    value = {"uuid": "a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11", "bit(8)": "01010101", "varbit": "0101"}.get(kind, "10.0.0.1")  # fmt: skip
    connection = postgres.connection("postgres")

    async def cpu(cast: str) -> float:
        select = f"SELECT array_agg('{value}'::{cast}) AS a FROM generate_series(1, 6000)"
        started = time.thread_time()
        verdict = await poke(connection, sql=select)
        assert verdict.reason == "pending" or verdict.reason.startswith(("success", "result")), verdict
        return time.thread_time() - started

    assert min([await cpu(kind) for _ in range(5)]) < 4 * min([await cpu("text") for _ in range(5)])
