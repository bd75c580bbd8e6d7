"""Real daemons whose database is damaged, or has a trigger that refuses writes."""

import sqlite3
from contextlib import closing, suppress
from pathlib import Path

import pytest
from daemon import Daemon, daemon, get_wait, job_wait, jobs_and_receiver, submit, until

pytestmark = pytest.mark.slow


def execute(database: Path, sql: str) -> list[tuple[int]]:
    with closing(sqlite3.connect(database, isolation_level=None, timeout=30)) as connection:
        return connection.execute(sql).fetchall()


def tear_table(database: Path, name: str) -> None:
    """Overwrites the root page of a table or an index."""
    execute(database, "PRAGMA wal_checkpoint(TRUNCATE)")
    ((page,),) = execute(database, f"SELECT rootpage FROM sqlite_master WHERE name = '{name}'")
    with database.open("r+b") as file:
        file.seek((page - 1) * 4096)
        file.write(b"\xff" * 4096)


async def test_a_trigger_that_refuses_writes_costs_no_outcome(tmp_path: Path) -> None:
    database = tmp_path / "waitd.db"
    async with jobs_and_receiver() as (jobs, receiver, client), daemon(tmp_path) as waitd:

        async def readiness() -> tuple[int, str]:
            async with client.get(f"{waitd.url}/readyz") as answer:
                return answer.status, await answer.text()

        wait_id = await submit(client, waitd, job_wait(jobs, receiver, "job", 1))
        for event in ("INSERT", "UPDATE"):
            execute(
                database,
                f"CREATE TRIGGER no_{event} BEFORE {event} ON waits"
                " BEGIN SELECT RAISE(ABORT, 'a trigger says no'); END",
            )
        await waitd.logged("outcomes_not_stored")
        async with client.post(f"{waitd.url}/v1/waits", json=job_wait(jobs, receiver, "other", 0)) as answer:
            assert answer.status == 503
            assert "a trigger says no" in await answer.text()
        status, text = await readiness()
        assert status == 503
        assert "a trigger says no" in text
        execute(database, "DROP TRIGGER no_INSERT")
        execute(database, "DROP TRIGGER no_UPDATE")
        await until(lambda: receiver.bodies.get(wait_id), what="the outcome is delivered")
        assert (await get_wait(client, waitd, wait_id))["state"] == "success"
        assert jobs.requests["job"] < 30, "it is not poked again"
        await submit(client, waitd, job_wait(jobs, receiver, "other", 0))
        await until(lambda: _is_ready(readiness), what="ready again")


async def _is_ready(readiness: object) -> bool:
    assert callable(readiness)
    return bool((await readiness())[0] == 200)


async def test_a_start_on_a_torn_index_serves_and_on_a_torn_table_too_ends_with_one_sentence(
    tmp_path: Path,
) -> None:
    database = tmp_path / "waitd.db"
    async with jobs_and_receiver() as (jobs, receiver, client):
        async with daemon(tmp_path) as waitd:
            wait_id = await submit(client, waitd, job_wait(jobs, receiver, "endless", 10_000))
        tear_table(database, "waits_by_state")
        async with daemon(tmp_path) as waitd:
            assert "export --offline" in (await waitd.logged("index_damaged"))["remedy"]
            assert (await get_wait(client, waitd, wait_id))["state"] == "waiting"
            requests = jobs.requests["endless"]
            await until(lambda: jobs.requests["endless"] > requests + 1, what="it is poked")
        tear_table(database, "waits")
        torn = Daemon(tmp_path)
        with suppress(AssertionError):  # it may have ended before it served
            await torn.start()
        assert await torn.ended() == 1
        assert "export --offline" in torn.log[-1]["event"]
        assert "Traceback" not in str(torn.log)
