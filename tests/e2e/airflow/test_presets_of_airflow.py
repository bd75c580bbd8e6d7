"""The kind `airflow.dag_run`, and the guide's DAG with a preset, in a real Airflow."""

import asyncio
from typing import Any

import pytest
from airflow_runs import DagRun
from daemon import Daemon, until
from preset_waits import cancel, last_verdict_is, submit_wait, wait_until, wait_until_ended
from provider_scene import ProviderScene
from vendors import Vendors, vendors

from waitd.bench.airflow.instance import Airflow

pytestmark = [pytest.mark.slow, pytest.mark.long]


def dag_run(dag_id: str, **submit: Any) -> dict[str, Any]:
    params = {"airflow_conn_id": "airflow", "dag_id": dag_id}
    return {"kind": "airflow.dag_run", "params": params, "submit": submit, "poke_interval": 1}


async def run_of(airflow: Airflow, dag_id: str, wait: dict[str, Any]) -> Any:
    """The DAG run of a wait, from Airflow's API."""
    path = f"/api/v2/dags/{dag_id}/dagRuns/{wait['id']}"
    status, run = await asyncio.to_thread(airflow.request, "GET", path)
    assert status == 200, run
    return run


async def test_a_run_is_started_and_its_wait_ends_with_it(airflow: Airflow, waitd: Daemon) -> None:
    conf = {"day": "2026-11-21"}
    wait = await wait_until_ended(waitd, await submit_wait(waitd, **dag_run("plain_started", conf=conf)), 120)
    assert (wait["state"], wait["outcome"]["payload"]["state"]) == ("success", "success")
    assert (await run_of(airflow, "plain_started", wait))["conf"] == conf


async def test_a_run_that_fails_fails_its_wait(airflow: Airflow, waitd: Daemon) -> None:
    wait = await wait_until_ended(
        waitd, await submit_wait(waitd, **dag_run("preset_fails", note="of waitd")), 120
    )
    assert (wait["state"], wait["outcome"]["message"]) == ("failed", "failed: of waitd")
    assert (await run_of(airflow, "preset_fails", wait))["state"] == "failed"


async def test_a_cancelled_wait_fails_its_run(airflow: Airflow, waitd: Daemon) -> None:
    wait = await submit_wait(waitd, **dag_run("plain_deferred", cancel_job_on=["cancelled"]))
    await wait_until(waitd, wait, last_verdict_is("running", "running"), 120)
    await cancel(waitd, wait)

    async def is_failed() -> bool:
        return bool((await run_of(airflow, "plain_deferred", wait))["state"] == "failed")

    await until(is_failed, what="the run's end")


@pytest.fixture
async def airbyte() -> Any:
    async with vendors() as server:
        server.states["airbyte"] = ("pending", "running", "succeeded")
        yield server


@pytest.fixture
def daemon_settings(daemon_settings: dict[str, Any], airbyte: Vendors) -> dict[str, Any]:
    return daemon_settings | {"AIRFLOW_CONN_AIRBYTE_DEFAULT": airbyte.url}


async def test_the_guides_dag_submits_waits_and_fetches(scene: ProviderScene, airbyte: Vendors) -> None:
    connection = {"connection_id": "airbyte_default", "conn_type": "http", "host": airbyte.url}
    await asyncio.to_thread(scene.airflow.request, "DELETE", "/api/v2/connections/airbyte_default")
    status, answer = await asyncio.to_thread(scene.airflow.request, "POST", "/api/v2/connections", connection)
    assert status == 201, answer
    run: DagRun = await scene.run("sync_orders")
    parked = await run.parked()
    [job] = airbyte.jobs_of("airbyte")
    after = await run.ended(seconds=120)
    assert (after["state"], after["try_number"], after["id"]) == ("success", 1, parked["id"])
    assert (await run.ended("fetch"))["state"] == "success"
    assert await run.xcom(task_id="fetch") == f"job {job.id} succeeded"
    assert airbyte.jobs_of("airbyte") == [job]
