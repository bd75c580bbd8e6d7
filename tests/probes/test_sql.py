"""The kind `sql` on real databases: what ends a wait, what cannot be done, and what trouble comes to."""

import asyncio
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from databases import MariaDb, Postgres, install_mariadb, served
from raw_server import Poked, ScriptedConnections

from waitd.core.connection import Connection
from waitd.core.egress import Egress
from waitd.core.errors import ConnectionUnavailable, InvalidInput, UnknownConnection
from waitd.core.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.outgoing import Outgoing
from waitd.probes.sql_probe import SqlProbe

DATABASES = ("postgres", "mysql", "sqlite")


@dataclass
class Database:
    """One database to look at: its connection, and a way past waitd."""

    name: str
    connection: Connection
    sql: Callable[[str], str]


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with served(Postgres) as server:
        assert isinstance(server, Postgres)
        yield server


@pytest.fixture(scope="session")
def mariadb() -> Iterator[MariaDb]:
    if why := install_mariadb():
        pytest.skip(why)
    with served(MariaDb) as server:
        assert isinstance(server, MariaDb)
        yield server


@pytest.fixture
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    if request.param == "sqlite":
        path = tmp_path / "jobs.db"

        def past(statement: str) -> str:
            with closing(sqlite3.connect(path)) as connection:
                found = connection.execute(statement).fetchall()
                connection.commit()
            return "\n".join(str(row[0]) for row in found)

        past("CREATE TABLE loads (id int, state text, done boolean, at text, rows numeric)")
        return Database("sqlite", Connection("db", "sqlite", host=str(path)), past)
    server: Postgres | MariaDb = request.getfixturevalue(
        "postgres" if request.param == "postgres" else "mariadb"
    )
    server.sql("DELETE FROM loads")
    return Database(request.param, server.connection(request.param), server.sql)


every = pytest.mark.parametrize("database", DATABASES, indirect=True)


@pytest.fixture
async def look() -> AsyncIterator[Any]:
    """Looks at a connection, over probes that are closed at the end."""
    probes: dict[int, SqlProbe] = {}

    async def looked(connection: Connection | Exception, *waits: dict[str, Any], sql: str = "") -> Any:
        probe = probes.setdefault(id(connection), SqlProbe(ScriptedConnections([connection])))
        asked = [{"conn_id": "db"} | ({"sql": sql} if sql else {}) | wait for wait in waits or ({},)]
        targets = [probe.parse(params, namespace="default") for params in asked]
        assert len({target.key for target in targets}) == 1
        found = await probe.poke([Poked(target) for target in targets])
        return found if waits[1:] else found[0]

    yield looked
    for probe in probes.values():
        await probe.__aexit__()


@every
async def test_a_row_appears(database: Database, look: Any) -> None:
    wait = {
        "sql": "SELECT id, state FROM loads WHERE state = :state",
        "parameters": {"state": "it's % done :x"},
    }
    assert await look(database.connection, wait) == Pending("no_rows", "0 rows")
    database.sql("INSERT INTO loads (id, state) VALUES (7, 'it''s % done :x')")
    done = await look(database.connection, wait)
    assert done == Success([{"id": 7, "state": "it's % done :x"}], "success", "1 row")


@every
@pytest.mark.parametrize(
    ("cell", "is_there"),
    [("0", False), ("''", False), ("NULL", False), ("0.0", False), ("1", True), ("'0'", True), ("'x'", True), ("-1", True)],
)  # fmt: skip
async def test_the_first_cell_decides_as_in_airflows_sql_sensor(
    database: Database, look: Any, cell: str, is_there: bool
) -> None:
    found = await look(database.connection, sql=f"SELECT {cell} AS cell, 1 AS other")
    assert isinstance(found, Success if is_there else Pending), found


@every
async def test_conditions_see_rows_and_each_wait_has_its_own(database: Database, look: Any) -> None:
    for number, state in enumerate(("done", "done", "failed")):
        database.sql(f"INSERT INTO loads (id, state, rows) VALUES ({number}, '{state}', 2.5)".replace("rows)", "`rows`)" if database.name == "mysql" else "rows)"))  # fmt: skip
    plain, all_done, any_failed, counted = await look(
        database.connection,
        {},
        {"success_when": "rows.all(r, r.state == 'done')"},
        {"failure_when": "rows.exists(r, r.state == 'failed')", "message": "'load ' + string(rows[2].id)"},
        {"success_when": "size(rows) == 3", "result": "rows.map(r, r.id)"},
        sql="SELECT id, state FROM loads ORDER BY id",
    )
    assert plain == Pending("pending", "1 row")  # the first cell is 0
    assert all_done == Pending("pending", "3 rows")
    assert isinstance(any_failed, Failure)
    assert any_failed.message == "load 2"
    assert counted == Success([0, 1, 2], "success", "3 rows")


@every
async def test_more_than_100_rows_are_too_many_for_conditions_but_not_for_the_first_cell(
    database: Database, look: Any
) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i FROM n"
    first, all_of_them = await look(database.connection, {}, {"success_when": "size(rows) > 1"}, sql=many)
    assert first == Success([{"i": 1}], "success", "1 row")
    assert isinstance(all_of_them, Unreachable)
    assert all_of_them.reason == "too_many_rows"
    assert isinstance(await look(database.connection, sql="SELECT 1"), Success)  # over what was left of that


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


@every
async def test_nothing_but_one_select_is_taken(database: Database, look: Any) -> None:
    database.sql("INSERT INTO loads (id) VALUES (5)")
    if database.name == "postgres":
        database.sql(
            "DROP SEQUENCE IF EXISTS counter; CREATE SEQUENCE counter; GRANT ALL ON SEQUENCE counter TO reader"
        )
    for statement in WRITES + MORE_WRITES[database.name]:
        found = await look(database.connection, sql=statement)
        assert isinstance(found, Failure), (statement, found)
        assert (found.reason, found.silenceable) == ("sql_error", True), statement
        assert "loads" not in found.message
    assert database.sql("SELECT count(*) FROM loads") == "1"
    assert isinstance(await look(database.connection, sql="SELECT 1;"), Success)


@every
async def test_what_is_wrong_with_a_statement_is_told_without_its_values(
    database: Database, look: Any
) -> None:
    for statement in (
        "SELEC 'top-secret'",
        "SELECT x FROM nowhere WHERE y = 'top-secret'",
        "SELECT nope('top-secret')",
    ):
        found = await look(database.connection, sql=statement)
        assert isinstance(found, Failure), found
        assert found.silenceable
        assert "top-secret" not in found.message


@every
async def test_a_cancelled_statement_hurts_nobody_else(database: Database, look: Any) -> None:
    slow = {
        "postgres": "SELECT pg_sleep(60)",
        "mysql": "SELECT SLEEP(60)",
        "sqlite": "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n",
    }[database.name]
    assert isinstance(await look(database.connection, sql="SELECT 1"), Success)
    hanging = [
        asyncio.create_task(look(database.connection, sql=slow)) for _ in range(6)
    ]  # more than connections
    done, _ = await asyncio.wait(hanging, timeout=1)
    assert not done
    for task in hanging:
        task.cancel()
    await asyncio.wait_for(asyncio.wait(hanging), 10)
    assert [await look(database.connection, sql="SELECT 1") for _ in range(5)] == [Success([{"1": 1} if database.name != "postgres" else {"?column?": 1}], "success", "1 row")] * 5  # fmt: skip


@pytest.mark.parametrize("database", ["postgres", "mysql"], indirect=True)
async def test_the_server_itself_ends_a_statement_that_takes_too_long(database: Database, look: Any) -> None:
    slow = {"postgres": "SELECT pg_sleep(60)", "mysql": "SELECT count(*) FROM (SELECT SLEEP(60) AS s) AS q"}[
        database.name
    ]
    begun = time.monotonic()
    found = await look(database.connection, {"sql": slow, "request_timeout": 0.5})
    assert isinstance(found, Unreachable), found
    assert found.reason == "statement_timeout"
    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("database", ["postgres", "mysql"], indirect=True)
async def test_few_connections_are_shared_and_locks_do_not_stay(database: Database, look: Any) -> None:
    asked = [{"sql": "SELECT :n + 1 AS n", "parameters": {"n": number}} for number in range(30)]
    found = await asyncio.gather(*(look(database.connection, wait) for wait in asked))
    assert [verdict.payload[0]["n"] for verdict in found] == list(range(1, 31))
    if database.name == "postgres":
        assert (
            int(database.sql("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waitd'")) <= 4
        )
        await look(database.connection, sql="SELECT 1 FROM (SELECT pg_advisory_lock(7)) AS q")
        assert database.sql("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == "0"
    else:
        count = "SELECT count(*) FROM information_schema.processlist WHERE user = 'reader'"
        assert int(database.sql(count)) <= 4
        await look(database.connection, sql="SELECT GET_LOCK('waitd', 0)")
        assert database.sql("SELECT IS_FREE_LOCK('waitd')") == "1"


@pytest.mark.parametrize("database", ["postgres", "mysql"], indirect=True)
async def test_a_refused_login_is_looked_up_afresh_once(database: Database) -> None:
    right = database.connection
    wrong = Connection("db", right.conn_type, right.host, right.port, right.schema, right.login, "wrong-pw")
    for answers, expected in (([wrong, right], Success), ([wrong, wrong], Failure)):
        connections = ScriptedConnections(list(answers))
        async with SqlProbe(connections) as probe:
            target = probe.parse({"conn_id": "db", "sql": "SELECT 1"}, namespace="default")
            [found] = await probe.poke([Poked(target)])
        assert isinstance(found, expected), found
        assert connections.refreshes == 1
        if isinstance(found, Failure):
            assert (found.reason, found.silenceable) == ("access_denied", True)
            assert "wrong-pw" not in found.message


async def test_a_table_without_the_right_to_it_is_a_failure(postgres: Postgres, look: Any) -> None:
    found = await look(postgres.connection("postgres"), sql="SELECT id FROM hidden")
    assert isinstance(found, Failure)
    assert "42501" in found.message


async def test_a_parameter_of_another_type_is_told(postgres: Postgres, look: Any) -> None:
    wait = {
        "sql": "SELECT 1 WHERE CAST(CAST(:day AS text) AS date) < now()",
        "parameters": {"day": "2020-01-01"},
    }
    assert isinstance(await look(postgres.connection("postgres"), wait), Success)
    wrong = await look(postgres.connection("postgres"), wait | {"parameters": {"day": "soon"}})
    assert isinstance(wrong, Failure)
    assert "soon" not in wrong.message


async def test_a_server_that_is_gone_and_comes_back_ends_nothing(postgres: Postgres, look: Any) -> None:
    connection = postgres.connection("postgres")
    assert isinstance(await look(connection, sql="SELECT 1"), Success)
    postgres.sql("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'waitd'")
    found = [await look(connection, sql="SELECT 1") for _ in range(5)]
    assert not any(isinstance(each, Failure) for each in found), found
    assert isinstance(found[-1], Success)


@pytest.mark.parametrize("conn_type", ["postgres", "mysql"])
async def test_nobody_there_and_nowhere_to_go_end_nothing(conn_type: str, look: Any) -> None:
    gone = Connection("db", conn_type, host="127.0.0.1", port=1, schema="jobs", login="u", password="p")
    found = await look(gone, sql="SELECT 1")
    assert isinstance(found, Unreachable), found
    assert found.reason in {"connection_refused", "database_unavailable"}
    metadata = Connection("db", conn_type, host="169.254.169.254", schema="jobs", login="u")
    assert (await look(metadata, sql="SELECT 1")).reason == "egress_refused"


async def test_the_operators_rules_hold_for_databases() -> None:
    connection = Connection("db", "postgres", host="db.example.org", schema="jobs")
    outgoing = Outgoing(Egress.of((), ("*.example.org",), private=True))
    async with SqlProbe(ScriptedConnections([connection]), outgoing=outgoing) as probe:
        [found] = await probe.poke([Poked(probe.parse({"conn_id": "db", "sql": "SELECT 1"}, namespace="n"))])
    assert isinstance(found, Unreachable)
    assert found.reason == "egress_refused"


@pytest.mark.parametrize(
    "connection",
    [
        Connection("db", "sqlite", host="relative.db"),
        Connection("db", "sqlite", host=":memory:"),
        Connection("db", "sqlite", host="/tmp/../etc/x"),
        Connection("db", "http", host="127.0.0.1"),
        Connection("db", "postgres", host="a,b"),
        Connection("db", "postgres", host="h", extra={"sslmode": "maybe"}),
        Connection("db", "mysql", host="h", extra={"ssl": "yes"}),
    ],
)
async def test_a_connection_that_cannot_be_used_says_why(connection: Connection, look: Any) -> None:
    found = await look(connection, sql="SELECT 1")
    assert isinstance(found, Unreachable)
    assert found.reason == "connection_invalid"


async def test_a_file_that_is_not_there_is_not_made(tmp_path: Path, look: Any) -> None:
    path = tmp_path / "none.db"
    found = await look(Connection("db", "sqlite", host=str(path)), sql="SELECT 1")
    assert isinstance(found, Unreachable), found
    assert not path.exists()


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnknownConnection("db"), "unknown_connection"),
        (ConnectionUnavailable("x"), "credentials_unavailable"),
    ],
)
async def test_a_connection_that_cannot_be_had_ends_nothing(error: Exception, reason: str, look: Any) -> None:
    found: Verdict = await look(error, sql="SELECT 1")
    assert isinstance(found, Unreachable)
    assert found.reason == reason


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({}, "/sql"),
        ({"sql": "SELECT 1", "conn_id": "a b"}, "/conn_id"),
        ({"sql": "SELECT :a"}, "/sql"),
        ({"sql": "SELECT 1", "parameters": {"a/b": 1}}, "/parameters/a~1b"),
        ({"sql": "SELECT :a", "parameters": {"a": [1]}}, "/parameters/a/str"),
        ({"sql": "SELECT 1", "success_when": "rows.nope("}, "/success_when"),
        ({"sql": "SELECT 1", "failure_when": "size(rows)"}, "/failure_when"),
        ({"sql": "SELECT 1", "message": "1"}, "/message"),
        ({"sql": "SELECT 1\0"}, "/sql"),
        ({"sql": "SELECT 1", "request_timeout": 0}, "/request_timeout"),
    ],
)
async def test_bad_parameters_point_at_the_field(params: dict[str, Any], pointer: str) -> None:
    async with SqlProbe(ScriptedConnections([])) as probe:
        with pytest.raises(InvalidInput) as refused:
            probe.parse({"conn_id": "db"} | params, namespace="default")
    assert pointer in {problem.pointer for problem in refused.value.problems}
