"""The kind `sql` through the API of a real daemon."""

import asyncio
import json
import signal
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from daemon import Daemon, daemon, get_wait, submit, until
from databases import PASSWORD, Postgres
from sql_pokes import INSTR, children

pytestmark = pytest.mark.slow
LOADED = "SELECT id, state FROM loads WHERE state = :state ORDER BY id"


@pytest.fixture
async def client() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as session:
        yield session


@pytest.fixture
async def server(postgres: Postgres, tmp_path: Path) -> AsyncIterator[Daemon]:
    postgres.sql("DELETE FROM loads")
    connection = postgres.connection("postgres")
    fields = ("conn_type", "host", "port", "schema", "login", "password")
    warehouse = json.dumps({name: getattr(connection, name) for name in fields})
    async with daemon(tmp_path, AIRFLOW_CONN_WAREHOUSE=warehouse) as running:
        yield running


def wait_on(**params: Any) -> dict[str, Any]:
    return {"kind": "sql", "params": {"conn_id": "warehouse", **params}, "poke_interval": 0.2, "timeout": 300}


async def test_a_row_ends_a_wait(server: Daemon, client: aiohttp.ClientSession, postgres: Postgres) -> None:
    query = {"sql": LOADED, "parameters": {"state": "loaded"}}
    one = await submit(client, server, wait_on(**query))
    conditions = {"success_when": "size(rows) >= 2", "result": "rows.map(r, r.id)"}
    both = await submit(client, server, wait_on(**query, **conditions))

    async def poked() -> bool:
        last = [(await get_wait(client, server, each))["last_verdict"] for each in (one, both)]
        return all(verdict is not None and verdict["reason"] == "no_rows" for verdict in last)

    await until(poked, what="a poke without a row")
    postgres.sql("INSERT INTO loads (id, state) VALUES (7, 'loaded'), (8, 'broken')")
    first = await get_wait(client, server, one, 30)
    assert (first["state"], first["outcome"]["payload"]) == ("success", [{"id": 7, "state": "loaded"}])
    assert (await get_wait(client, server, both))["state"] == "waiting"
    postgres.sql("UPDATE loads SET state = 'loaded'")
    second = await get_wait(client, server, both, 30)
    assert (second["state"], second["outcome"]["payload"]) == ("success", [7, 8])


async def test_a_refused_statement_fails_the_wait_and_quotes_no_secret(
    server: Daemon, client: aiohttp.ClientSession
) -> None:
    wait_id = await submit(client, server, wait_on(sql="DELETE FROM loads WHERE state = 'top-secret'"))
    wait = await get_wait(client, server, wait_id, 30)
    assert (wait["state"], wait["outcome"]["reason"]) == ("failed", "sql_error")
    assert "top-secret" not in wait["outcome"]["message"]
    assert PASSWORD not in json.dumps([wait, server.log])


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
    server: Daemon, client: aiohttp.ClientSession, params: dict[str, Any], pointer: str, words: str
) -> None:
    async with client.post(f"{server.url}/v1/waits", json=wait_on(**params)) as response:
        assert response.status == 422, await response.text()
        [error] = (await response.json())["errors"]
    assert error["pointer"] == pointer
    assert words in error["detail"]


async def test_many_waits_share_few_connections(
    server: Daemon, client: aiohttp.ClientSession, postgres: Postgres
) -> None:
    waits = [wait_on(sql="SELECT :n = 0", parameters={"n": n}) for n in range(1, 41)]
    wait_ids = await asyncio.gather(*(submit(client, server, wait) for wait in waits))

    async def poked() -> bool:
        return all([(await get_wait(client, server, each))["pokes"] >= 2 for each in wait_ids])

    await until(poked, what="two pokes each")
    count = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'waitd'"
    assert 1 <= int(postgres.sql(count)) <= 4


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGKILL])
async def test_a_statement_that_nothing_ends_delays_neither_the_api_nor_the_end(
    tmp_path: Path, client: aiohttp.ClientSession, signum: signal.Signals
) -> None:
    (tmp_path / "jobs.db").touch()
    jobs = json.dumps({"conn_type": "sqlite", "host": f"{tmp_path}/jobs.db"})
    async with daemon(tmp_path / "state", AIRFLOW_CONN_WAREHOUSE=jobs, WAITD_DRAIN_TIMEOUT="1") as running:
        waits = [wait_on(sql=f"{INSTR} + {n}", request_timeout=8) for n in range(4)]
        await asyncio.gather(*(submit(client, running, wait) for wait in waits))
        assert running.process is not None
        daemon_pid = running.process.pid
        await until(lambda: len(children(daemon_pid)) >= 1)
        workers = children(daemon_pid)
        latencies: list[float] = []
        for _ in range(100):
            started = time.monotonic()
            async with client.get(f"{running.url}/livez") as response:
                assert response.status == 200
            latencies.append(time.monotonic() - started)
        assert sorted(latencies)[98] < 5
        started = time.monotonic()
        await running.kill(signum)
        assert time.monotonic() - started < 60
        # A worker outlives no time limit, even if its parent is dead.
        await until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
