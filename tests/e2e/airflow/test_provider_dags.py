"""DAGs with waitd's sensors in a real Airflow without a Triggerer."""

import asyncio
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import orjson
import pytest
from moto_s3 import S3Server, s3_server
from provider_scene import ProviderScene, connect_airflow
from stream_server import stream_server

pytestmark = [pytest.mark.slow, pytest.mark.long]

#: One call of the client gives up after five attempts; the task goes on.
MORE_THAN_A_CALL_TRIES = 7


@pytest.fixture
def s3() -> Iterator[S3Server]:
    with s3_server() as server:
        yield server


@pytest.fixture
def daemon_settings(daemon_settings: dict[str, Any], s3: S3Server) -> dict[str, Any]:
    account = {"conn_type": "aws", "login": "AKIA", "password": "secret", "extra": {"endpoint_url": s3.url}}
    connection = orjson.dumps(account).decode()
    return daemon_settings | {"AIRFLOW_CONN_S3": connection, "WAITD_AIRFLOW_SWEEP_INTERVAL": "1"}


async def test_submit_wait_fetch(scene: ProviderScene) -> None:
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


async def test_a_task_whose_wait_ends_at_once_does_not_park(scene: ProviderScene) -> None:
    scene.jobs.succeed("early")
    run = await scene.run("provider_pattern", job="early")
    assert (await run.ended("fetch"))["state"] == "success"
    assert await run.xcom() == {"job": "early", "status": "SUCCEEDED"}
    [wait] = await scene.waits(run)
    assert await run.xcom("waitd_event_id") == wait["id"]
    status, _ = await asyncio.to_thread(
        scene.airflow.request, "GET", f"{run.path}/taskInstances/wait/-1/hitlDetails"
    )
    assert status == 404  # it never parked


async def test_s3_keys(scene: ProviderScene, s3: S3Server) -> None:
    bucket = s3.bucket("orders/1.parquet", "orders/readme.txt")
    run = await scene.run("provider_s3", bucket=bucket)
    await asyncio.gather(run.parked("key"), run.parked("unchanged"))
    s3.put(bucket, "orders/2.parquet")
    ended = await asyncio.gather(run.ended("key"), run.ended("unchanged"))
    assert [task["state"] for task in ended] == ["success", "success"]
    files = await run.xcom(task_id="key")
    assert [file["Key"] for file in files] == ["orders/1.parquet", "orders/2.parquet"], files


async def test_twenty_mapped_tasks_each_with_its_own_result(scene: ProviderScene) -> None:
    run = await scene.run("provider_mapped", job="part")
    waits = await scene.wait_until(run, "waiting", 20, seconds=120)
    assert len({wait["supersede_key"] for wait in waits}) == 20
    scene.jobs.succeed("part-")
    assert (await run.ended("collect", seconds=180))["state"] == "success"
    results = await run.xcom(task_id="collect")
    assert [result["job"] for result in results] == [f"part-{index}" for index in range(20)]
    tries = [(await run.task(map_index=index))["try_number"] for index in range(20)]
    assert tries == [1] * 20


async def test_failures_timeouts_and_soft_fail(scene: ProviderScene) -> None:
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
        "retried": ("failed", 2),  # the task's retries apply to a failure
        "timed_out": ("failed", 1),  # but not to a timeout
        "timed_out_softly": ("skipped", 1),
    }
    assert "out of memory" in await log_of(scene, run, "failed")
    refused = await run.ended("refused")
    assert (refused["state"], refused["try_number"]) == ("failed", 1), "an invalid wait is not retried"
    assert "/params/success_when" in await log_of(scene, run, "refused")


async def log_of(scene: ProviderScene, run: Any, task_id: str, try_number: int = 1) -> str:
    path = f"{run.path}/taskInstances/{task_id}/logs/{try_number}?map_index=-1&full_content=true"
    status, answer = await asyncio.to_thread(scene.airflow.request, "GET", path)
    assert status == 200, answer
    return str(answer["content"])


async def test_a_task_that_is_cleared_while_it_waits_registers_a_new_wait(scene: ProviderScene) -> None:
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


async def test_a_task_that_is_marked_failed_while_it_waits_has_its_wait_cancelled(
    scene: ProviderScene,
) -> None:
    run = await scene.run("provider_modes", job="killed")
    modes = ("resume", "set_state", "clear")
    await asyncio.gather(*(run.parked(mode) for mode in modes))
    for mode in ("resume", "clear"):
        await run.ask("PATCH", f"/taskInstances/{mode}/-1", {"new_state": "failed"})
    cancelled = await scene.wait_until(run, "cancelled", 2)
    assert {wait["labels"]["task_id"]: wait["outcome"]["reason"] for wait in cancelled} == {
        "resume": "task_gone",
        "clear": "task_gone",
    }
    assert [wait["labels"]["task_id"] for wait in await scene.waits(run, state="waiting")] == ["set_state"]
    scene.jobs.succeed("killed")
    assert (await run.ended("fetch_set_state"))["state"] == "success"


@pytest.mark.parametrize("path", ["/taskInstances/wait", ""], ids=["task instance", "run"])
async def test_the_wait_of_a_deleted_task_or_run_is_cancelled(scene: ProviderScene, path: str) -> None:
    run = await scene.run("provider_pattern", job="deleted")
    await run.parked()
    if not path:  # Airflow does not delete a running DAG run
        await run.ask("PATCH", "", {"state": "failed"})
    await run.ask("DELETE", path)
    [wait] = await scene.wait_until(run, "cancelled")
    assert wait["outcome"]["reason"] == "task_gone"


async def test_a_waitd_that_is_away_at_registration_costs_no_try(scene: ProviderScene) -> None:
    host, port = urlsplit(scene.waitd.url).hostname, urlsplit(scene.waitd.url).port
    refused = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal refused
        if refused < MORE_THAN_A_CALL_TRIES:
            refused += 1
            writer.close()
            return
        upstream, downstream = await asyncio.open_connection(host, port)
        await asyncio.gather(forward(reader, downstream), forward(upstream, writer))

    async with stream_server(serve) as away:
        await connect_airflow(scene.airflow, f"http://127.0.0.1:{away}")
        run = await scene.run("provider_pattern", job="away")
        parked = await run.parked()
        assert (parked["state"], parked["try_number"]) == ("awaiting_input", 1)
        assert refused == MORE_THAN_A_CALL_TRIES
        scene.jobs.succeed("away")
        after = await run.ended()
    assert (after["state"], after["try_number"]) == ("success", 1)
    assert "does not answer" in await log_of(scene, run, "wait")


async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
