"""Real DAGs with waitd's sensors on a real Airflow without a triggerer. What became of them is asked of Airflow itself."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aiohttp
import orjson
import pytest
from airflow_processes import Airflow
from daemon import Daemon
from moto_s3 import S3Server, s3_server
from provider_scene import JobServer, Scene, job_connection

pytestmark = pytest.mark.slow


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def jobs() -> JobServer:
    return JobServer()


@pytest.fixture
async def daemon_settings(
    daemon_settings: dict[str, Any], jobs: JobServer, s3: S3Server
) -> AsyncIterator[dict[str, Any]]:
    account = {"conn_type": "aws", "login": "AKIA", "password": "secret", "extra": {"endpoint_url": s3.url}}
    async with job_connection(jobs) as (_, connection):
        yield (
            daemon_settings
            | connection
            | {
                "AIRFLOW_CONN_S3": orjson.dumps(account).decode(),
                "WAITD_AIRFLOW_SWEEP_INTERVAL": "1",
            }
        )


@pytest.fixture
async def scene(airflow: Airflow, waitd: Daemon, jobs: JobServer) -> AsyncIterator[Scene]:
    async with aiohttp.ClientSession() as client:
        scene = Scene(airflow, waitd, jobs, client)
        await scene.point_airflow(waitd.url)
        yield scene


async def test_submit_wait_fetch(scene: Scene) -> None:
    run = await scene.run("provider_pattern", job="nightly")
    parked = await run.parked()
    assert (parked["state"], parked["try_number"]) == ("awaiting_input", 1)
    [wait] = await scene.waits(run)
    links = await run.ask("GET", "/taskInstances/wait/links")
    assert links["extra_links"] == {"Wait in waitd": f"{scene.waitd.url}/v1/waits/{wait['id']}"}
    assert wait["labels"].items() >= {"task_id": "wait", "map_index": "-1", "try_number": "1"}.items()
    scene.jobs.succeed("nightly")
    after = await run.ended()
    assert (after["state"], after["try_number"], after["id"]) == ("success", 1, parked["id"])
    assert (await run.ended("fetch"))["state"] == "success"
    assert await run.xcom(task_id="fetch") == {"fetched": {"job": "nightly", "status": "SUCCEEDED"}}


async def test_each_mode_goes_on_with_the_result(scene: Scene) -> None:
    run = await scene.run("provider_modes", job="modes")
    modes = ("resume", "set_state", "clear")
    parked = await asyncio.gather(*(run.parked(mode) for mode in modes))
    assert [task["state"] for task in parked] == ["awaiting_input", "deferred", "deferred"]
    scene.jobs.succeed("modes")
    ended = await asyncio.gather(*(run.ended(f"fetch_{mode}") for mode in modes))
    assert [task["state"] for task in ended] == ["success"] * 3
    assert [(await run.task(mode))["try_number"] for mode in modes] == [1, 1, 2]
    for mode in modes:
        assert await run.xcom(task_id=f"fetch_{mode}") == {"fetched": {"job": "modes", "status": "SUCCEEDED"}}
    assert {delivery["state"] for wait in await scene.waits(run) for delivery in wait["deliveries"]} == {
        "delivered"
    }


async def test_what_is_there_already_needs_no_parking(scene: Scene) -> None:
    scene.jobs.succeed("early")
    run = await scene.run("provider_pattern", job="early")
    assert (await run.ended("fetch"))["state"] == "success"
    assert await run.xcom() == {"job": "early", "status": "SUCCEEDED"}
    [wait] = await scene.waits(run)
    assert await run.xcom("waitd_event_id") == wait["id"]
    status, _ = await asyncio.to_thread(
        scene.airflow.ask, "GET", f"{run.path}/taskInstances/wait/-1/hitlDetails"
    )
    assert status == 404  # it was never parked


async def test_s3_keys(scene: Scene, s3: S3Server) -> None:
    bucket = s3.bucket("orders/1.parquet", "orders/readme.txt")
    run = await scene.run("provider_s3", bucket=bucket)
    await asyncio.gather(run.parked("key"), run.parked("unchanged"))
    s3.put(bucket, "orders/2.parquet")
    ended = await asyncio.gather(run.ended("key"), run.ended("unchanged"))
    assert [task["state"] for task in ended] == ["success", "success"]
    files = await run.xcom(task_id="key")
    assert [file["Key"] for file in files] == ["orders/1.parquet", "orders/2.parquet"], files


async def test_twenty_mapped_tasks_each_with_its_own_result(scene: Scene) -> None:
    run = await scene.run("provider_mapped", job="part")
    waits = await scene.wait_until(run, "waiting", 20, seconds=120)
    assert len({wait["supersede_key"] for wait in waits}) == 20
    scene.jobs.succeed("part-")
    assert (await run.ended("collect", seconds=180))["state"] == "success"
    results = await run.xcom(task_id="collect")
    assert [result["job"] for result in results] == [f"part-{index}" for index in range(20)]
    tries = [(await run.task(map_index=index))["try_number"] for index in range(20)]
    assert tries == [1] * 20


async def test_failures_timeouts_and_soft_fail(scene: Scene) -> None:
    run = await scene.run("provider_outcomes", job="doomed")
    names = ("failed", "failed_softly", "retried", "timed_out", "timed_out_softly")
    await asyncio.gather(*(run.parked(name) for name in names))
    scene.jobs.fail("doomed", "out of memory")
    ended = dict(
        zip(names, await asyncio.gather(*(run.ended(name, seconds=120) for name in names)), strict=True)
    )
    assert {name: (task["state"], task["try_number"]) for name, task in ended.items()} == {
        "failed": ("failed", 1),
        "failed_softly": ("skipped", 1),
        "retried": ("failed", 2),  # the task's own retries apply to a failure
        "timed_out": ("failed", 1),  # and not to a timeout
        "timed_out_softly": ("skipped", 1),
    }
    assert "out of memory" in await log_of(scene, run, "failed")
    refused = await run.ended("refused")
    assert (refused["state"], refused["try_number"]) == (
        "failed",
        1,
    )  # no retry mends a condition that is wrong
    assert "/params/success_when" in await log_of(scene, run, "refused")


async def log_of(scene: Scene, run: Any, task_id: str, try_number: int = 1) -> str:
    path = f"{run.path}/taskInstances/{task_id}/logs/{try_number}?map_index=-1&full_content=true"
    status, answer = await asyncio.to_thread(scene.airflow.ask, "GET", path)
    assert status == 200, answer
    return str(answer["content"])


async def test_a_task_that_is_cleared_while_it_waits_registers_anew(scene: Scene) -> None:
    run = await scene.run("provider_pattern", job="cleared")
    first = await run.parked()
    await run.clear()
    second = first
    while second["id"] == first["id"] or second["state"] != "awaiting_input":
        second = await run.until({"awaiting_input"})
        await asyncio.sleep(0.3)
    old, new = await scene.waits(run)
    assert (old["state"], new["state"]) == ("cancelled", "waiting")
    assert old["supersede_key"] == new["supersede_key"]
    scene.jobs.succeed("cleared")
    assert (await run.ended())["state"] == "success"
    assert (await run.task())["id"] == second["id"]


async def test_a_task_that_is_marked_failed_while_it_waits_has_its_wait_cancelled(scene: Scene) -> None:
    run = await scene.run("provider_modes", job="killed")
    modes = ("resume", "set_state", "clear")
    await asyncio.gather(*(run.parked(mode) for mode in modes))
    for mode in ("resume", "clear"):
        await run.ask("PATCH", f"/taskInstances/{mode}/-1", {"new_state": "failed"})
    gone = await scene.wait_until(run, "cancelled", 2)
    assert {wait["labels"]["task_id"]: wait["outcome"]["reason"] for wait in gone} == {
        "resume": "task_gone",
        "clear": "task_gone",
    }
    assert [wait["labels"]["task_id"] for wait in await scene.waits(run, state="waiting")] == ["set_state"]
    scene.jobs.succeed("killed")
    assert (await run.ended("fetch_set_state"))["state"] == "success"


async def test_the_wait_of_a_deleted_task_instance_is_cancelled(scene: Scene) -> None:
    run = await scene.run("provider_pattern", job="deleted")
    await run.parked()
    await run.ask("DELETE", "/taskInstances/wait")
    [wait] = await scene.wait_until(run, "cancelled")
    assert wait["outcome"]["reason"] == "task_gone"


async def test_a_waitd_that_is_down_at_registration_costs_a_try(scene: Scene) -> None:
    await scene.point_airflow("http://127.0.0.1:1")
    run = await scene.run("provider_pattern", job="unreachable")
    assert (await run.ended(seconds=90))["state"] == "failed"
    assert "waitd at http://127.0.0.1:1 cannot be used now" in await log_of(scene, run, "wait")
