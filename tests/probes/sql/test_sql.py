"""The kind `sql` with real databases: rows, conditions, and errors in statements and parameters."""

from typing import Any

import pytest
from databases import Postgres
from raw_server import ScriptedConnections
from sql_pokes import Database, SqlPoker, all_databases

from waitd.core.errors import InvalidInput
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable
from waitd.probes.sql.probe import SqlProbe


@all_databases
async def test_a_wait_ends_when_a_row_appears(database: Database, poke: SqlPoker) -> None:
    wait = {
        "sql": "SELECT id, state FROM loads WHERE state = :state",
        "parameters": {"state": "it's % done :x"},
    }
    assert await poke(database.connection, wait) == Pending("no_rows", "0 rows")
    database.sql("INSERT INTO loads (id, state) VALUES (7, 'it''s % done :x')")
    done = await poke(database.connection, wait)
    assert done == Success([{"id": 7, "state": "it's % done :x"}], "success", "1 row")


@all_databases
@pytest.mark.parametrize(
    ("cell", "succeeds"),
    [("0", False), ("''", False), ("NULL", False), ("0.0", False), ("1", True), ("'0'", True), ("'x'", True), ("-1", True)],
)  # fmt: skip
async def test_the_first_cell_decides_as_in_airflows_sql_sensor(
    database: Database, poke: SqlPoker, cell: str, succeeds: bool
) -> None:
    verdict = await poke(database.connection, sql=f"SELECT {cell} AS cell, 1 AS other")
    assert isinstance(verdict, Success if succeeds else Pending), verdict


@all_databases
async def test_each_wait_has_conditions_of_its_own(database: Database, poke: SqlPoker) -> None:
    for number, state in enumerate(("done", "done", "failed")):
        database.sql(f"INSERT INTO loads (id, state, rows) VALUES ({number}, '{state}', 2.5)".replace("rows)", "`rows`)" if database.name == "mysql" else "rows)"))  # fmt: skip
    plain, all_done, any_failed, counted = await poke(
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


@all_databases
async def test_more_than_100_rows_are_too_many_for_conditions_but_not_for_the_first_cell(
    database: Database, poke: SqlPoker
) -> None:
    many = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 500) SELECT i FROM n"
    first, all_of_them = await poke(database.connection, {}, {"success_when": "size(rows) > 1"}, sql=many)
    assert first == Success([{"i": 1}], "success", "1 row")
    assert (type(all_of_them), all_of_them.reason) == (Unreachable, "too_many_rows")
    assert isinstance(await poke(database.connection, sql="SELECT 1"), Success)  # on the same connection


@all_databases
async def test_the_error_of_a_statement_quotes_no_values(database: Database, poke: SqlPoker) -> None:
    for statement in (
        "SELEC 'top-secret'",
        "SELECT x FROM nowhere WHERE y = 'top-secret'",
        "SELECT nope('top-secret')",
    ):
        verdict = await poke(database.connection, sql=statement)
        assert isinstance(verdict, Failure), verdict
        assert verdict.silenceable
        assert "top-secret" not in verdict.message


async def test_a_forbidden_table_fails_the_wait(postgres: Postgres, poke: SqlPoker) -> None:
    verdict = await poke(postgres.connection("postgres"), sql="SELECT id FROM hidden")
    assert isinstance(verdict, Failure)
    assert "42501" in verdict.message


async def test_a_parameter_of_another_type_fails_the_wait(postgres: Postgres, poke: SqlPoker) -> None:
    wait = {
        "sql": "SELECT 1 WHERE CAST(CAST(:day AS text) AS date) < now()",
        "parameters": {"day": "2020-01-01"},
    }
    assert isinstance(await poke(postgres.connection("postgres"), wait), Success)
    wrong = await poke(postgres.connection("postgres"), wait | {"parameters": {"day": "soon"}})
    assert isinstance(wrong, Failure)
    assert "soon" not in wrong.message


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
async def test_a_wrong_parameter_is_refused_with_its_pointer(params: dict[str, Any], pointer: str) -> None:
    async with SqlProbe(ScriptedConnections([])) as probe:
        with pytest.raises(InvalidInput) as refused:
            probe.parse({"conn_id": "db"} | params, namespace="default")
    assert pointer in {problem.pointer for problem in refused.value.problems}
