"""`waitd airflow reconcile` with a real daemon, an empty database and a fake of Airflow's lists."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cli_process import run_waitd
from daemon import daemon, serving
from fake_task_lists import FakeTaskInstances, ti_id

from waitd.core.airflow.registration import render_registration

pytestmark = pytest.mark.slow


def registration(task: str, seconds: float) -> dict[str, Any]:
    task_params = {"dag_id": "etl", "run_id": "r1", "task_id": task, "ti_id": ti_id(task), "try_number": 1}
    wait = {
        "kind": "http",
        "params": {"endpoint": "http://127.0.0.1:9/never"},
        "timeout": 86_400,
        "sinks": [{"kind": "airflow", "conn_id": "airflow", "mode": "resume", **task_params}],
        "labels": {"task_id": task},
        "supersede_key": f"airflow/{task}",
    }
    deadline = datetime.now(UTC) + timedelta(seconds=seconds)
    return {"wait": wait, "idempotency_key": f"airflow/{task}/1", "deadline": deadline.isoformat()}


async def reconcile(url: str, variables: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    command = ("airflow", "reconcile", "--conn-id", "airflow", "--url", url)
    return await asyncio.to_thread(run_waitd, *command, *options, seconds=300, **variables)


@asynccontextmanager
async def serve_airflow(airflow: FakeTaskInstances) -> AsyncIterator[dict[str, str]]:
    """Serves the fake; yields the variable with its connection."""
    async with serving("*", "/airflow/{path:.*}", airflow.answer) as url:
        connection = {"conn_type": "airflow", "host": f"{url}/airflow", "password": "a.static.token"}
        yield {"AIRFLOW_CONN_AIRFLOW": json.dumps(connection)}


async def test_parked_tasks_are_registered_again_with_their_remaining_time(tmp_path: Path) -> None:
    airflow = FakeTaskInstances()
    for task, seconds in (("early", 3600.0), ("late", 7200.0)):
        airflow.states[task] = "awaiting_input"
        airflow.bodies[task] = render_registration(registration(task, seconds), "http://gone")
    async with (
        serve_airflow(airflow) as variables,
        daemon(tmp_path, **variables) as waitd,
        aiohttp.ClientSession() as client,
    ):
        dry_run = await reconcile(waitd.url, variables, "--dry-run", "--json")
        assert [json.loads(line)["task_id"] for line in dry_run.stdout.splitlines()] == [
            "early",
            "late",
        ], dry_run.stderr
        async with client.get(f"{waitd.url}/v1/waits") as response:
            assert (await response.json())["waits"] == []

        done = await reconcile(waitd.url, variables)
        assert (done.returncode, done.stdout) == (
            0, "2 parked tasks: 2 registered again, 0 already there, 0 refused\n"
        ), done.stderr  # fmt: skip
        again = await reconcile(waitd.url, variables, "--json")
        assert {json.loads(line)["status"] for line in again.stdout.splitlines()} == {409}, again.stderr
        assert again.returncode == 0

        async with client.get(f"{waitd.url}/v1/waits") as response:
            late, early = (await response.json())["waits"]
        assert (early["labels"], late["labels"]) == ({"task_id": "early"}, {"task_id": "late"})
        assert 0 < early["timeout"] <= 3600 < late["timeout"] <= 7200
        assert early["sinks"][0]["ti_id"] == ti_id("early")


async def test_an_unreadable_registration_is_reported_and_the_others_are_registered(tmp_path: Path) -> None:
    airflow = FakeTaskInstances()
    airflow.states |= {"fine": "awaiting_input", "odd": "awaiting_input"}
    airflow.bodies["fine"] = render_registration(registration("fine", 3600), "http://gone")
    airflow.bodies["odd"] = render_registration(
        {**registration("odd", 3600), "deadline": "tomorrow"}, "http://gone"
    )
    async with serve_airflow(airflow) as variables, daemon(tmp_path, **variables) as waitd:
        done = await reconcile(waitd.url, variables)
    assert done.returncode == 1
    assert "cannot read the wait of 1 parked task" in done.stderr
    assert "1 registered again" in done.stdout


async def test_an_unreachable_airflow_is_an_error_message() -> None:
    variables = {
        "AIRFLOW_CONN_AIRFLOW": '{"conn_type": "airflow", "host": "http://127.0.0.1:1", "password": "x"}'
    }
    done = await reconcile("http://127.0.0.1:1", variables)
    assert done.returncode == 1
    assert "cannot list Airflow's parked tasks with the connection airflow" in done.stderr
    assert "Traceback" not in done.stderr
    unknown = await reconcile("http://127.0.0.1:1", {})
    assert unknown.returncode == 1
    assert "airflow" in unknown.stderr
    assert "Traceback" not in unknown.stderr
