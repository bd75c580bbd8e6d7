"""The kind `sql` through the API of a real daemon."""

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from daemon import Daemon, daemon, until
from databases import PASSWORD, Postgres

pytestmark = pytest.mark.slow
LOADED = "SELECT id, state FROM loads WHERE state = :state ORDER BY id"


@pytest.fixture
async def served(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Daemon]:
    postgres.sql("DELETE FROM loads")
    given = postgres.connection("postgres")
    fields = ("conn_type", "host", "port", "schema", "login", "password")
    warehouse = json.dumps({name: getattr(given, name) for name in fields})
    async with daemon(tmp_path, AIRFLOW_CONN_WAREHOUSE=warehouse) as running:
        yield running


async def submitted(served: Daemon, **params: Any) -> tuple[int, Any]:
    body = {"kind": "sql", "params": {"conn_id": "warehouse", **params}, "poke_interval": 0.2, "timeout": 300}
    async with aiohttp.ClientSession() as client, client.post(f"{served.url}/v1/waits", json=body) as answer:
        return answer.status, await answer.json()


async def shown(served: Daemon, wait: Any, seconds: int = 0) -> Any:
    url = f"{served.url}/v1/waits/{wait['id']}?wait={seconds}"
    async with aiohttp.ClientSession() as client, client.get(url) as answer:
        return await answer.json()


async def test_a_row_ends_a_wait(served: Daemon, postgres: Postgres) -> None:
    status, wait = await submitted(served, sql=LOADED, parameters={"state": "loaded"})
    assert status == 201, wait
    other = {"success_when": "size(rows) >= 2", "result": "rows.map(r, r.id)"}
    status, both = await submitted(served, sql=LOADED, parameters={"state": "loaded"}, **other)
    assert status == 201, both

    async def poked() -> bool:
        seen = [(await shown(served, each))["last_verdict"] for each in (wait, both)]
        return all(last is not None and last["reason"] == "no_rows" for last in seen)

    await until(poked, what="a poke without a row")
    postgres.sql("INSERT INTO loads (id, state) VALUES (7, 'loaded'), (8, 'broken')")
    first = await shown(served, wait, 30)
    assert (first["state"], first["outcome"]["payload"]) == ("success", [{"id": 7, "state": "loaded"}])
    assert (await shown(served, both))["state"] == "waiting"
    postgres.sql("UPDATE loads SET state = 'loaded'")
    second = await shown(served, both, 30)
    assert (second["state"], second["outcome"]["payload"]) == ("success", [7, 8])


async def test_a_refused_statement_fails_the_wait_and_quotes_no_secret(served: Daemon) -> None:
    status, wait = await submitted(served, sql="DELETE FROM loads WHERE state = 'top-secret'")
    assert status == 201
    ended = await shown(served, wait, 30)
    assert (ended["state"], ended["outcome"]["reason"]) == ("failed", "sql_error")
    assert "top-secret" not in ended["outcome"]["message"]
    assert PASSWORD not in json.dumps([ended, served.log])


@pytest.mark.parametrize(
    ("params", "pointer", "words"),
    [
        ({}, "/params/sql", "Field required"),
        ({"sql": "SELECT :a"}, "/params/sql", "a"),
        ({"sql": "SELECT 1", "conn_id": "nowhere"}, "/params/conn_id", "no resolver knows"),
        ({"sql": "SELECT 1", "success_when": "rows.nope("}, "/params/success_when", "1:"),
        ({"sql": "SELECT 1", "rows": 3}, "/params/rows", "unknown field"),
    ],
)
async def test_wrong_parameters_are_refused_at_submit(
    served: Daemon, params: dict[str, Any], pointer: str, words: str
) -> None:
    status, problem = await submitted(served, **params)
    assert status == 422, problem
    [error] = problem["errors"]
    assert error["pointer"] == pointer
    assert words in error["detail"]


async def test_many_waits_share_few_connections(served: Daemon, postgres: Postgres) -> None:
    answers = await asyncio.gather(
        *(submitted(served, sql="SELECT :n = 0", parameters={"n": n}) for n in range(1, 41))
    )
    assert {status for status, _ in answers} == {201}

    async def poked() -> bool:
        return all([(await shown(served, wait))["pokes"] >= 2 for _, wait in answers])

    await until(poked, what="two pokes each")
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waitd'"
    assert 1 <= int(postgres.sql(count)) <= 4
