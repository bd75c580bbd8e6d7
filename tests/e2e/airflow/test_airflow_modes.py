"""Every mode of the airflow sink with a real Airflow without a Triggerer."""

import asyncio
import itertools
from typing import Any

import pytest
from airflow_runs import DagRun, WaitClient, airflow_sink
from daemon import until
from provider_scene import ProviderScene

from waitd.bench.airflow.instance import Airflow

pytestmark = [pytest.mark.slow, pytest.mark.long]

PAYLOAD = {"rows": 3, "parts": ["a", "b"]}


async def test_resume_resumes_the_task_with_the_outcome(airflow: Airflow, waits: WaitClient) -> None:
    run = DagRun(airflow, "plain_resume")
    instance = await run.parked()
    wait_id = await waits.submit(airflow_sink("resume", instance))
    await waits.delivered(wait_id)
    after = await run.ended()
    assert (after["state"], after["try_number"], after["id"]) == ("success", 1, instance["id"])
    response = await run.xcom()
    assert response["chosen_options"] == ["done"]
    outcome = response["params_input"]
    assert outcome.pop("pokes") >= 1
    assert outcome.pop("seconds") > 0
    assert outcome == {
        "event_id": wait_id, "state": "success", "payload": PAYLOAD, "message": "HTTP 200 OK", "reason": "success",
        "soft_fail": False, "ti_id": instance["id"], "try_number": 1,
    }  # fmt: skip


async def test_set_state_ends_the_task_and_its_result_is_its_xcom(
    airflow: Airflow, waits: WaitClient
) -> None:
    run = DagRun(airflow, "plain_deferred")
    instance = await run.parked()
    wait_id = await waits.submit(airflow_sink("set_state", instance))
    await waits.delivered(wait_id)
    after = await run.task()
    assert (after["state"], after["try_number"], after["id"]) == ("success", 1, instance["id"])
    assert (await run.xcom("waitd_event_id"), await run.xcom()) == (wait_id, PAYLOAD)
    await run.ended("process")
    assert await run.xcom(task_id="process") == {"processed": PAYLOAD}


async def test_set_state_fails_or_skips_the_task(airflow: Airflow, waits: WaitClient) -> None:
    async def state_after(outcome: str, soft_fail: bool) -> tuple[str, int, str]:
        run = DagRun(airflow, "plain_deferred")
        wait_id = await waits.submit(
            airflow_sink("set_state", await run.parked()), outcome=outcome, soft_fail=soft_fail
        )
        await waits.delivered(wait_id)
        after = await run.task()
        return after["state"], after["try_number"], (await run.ended("process"))["state"]

    cases = itertools.product(("failed", "timeout"), (False, True))
    failed, skipped = ("failed", 1, "upstream_failed"), ("skipped", 1, "skipped")
    states = await asyncio.gather(*(state_after(*case) for case in cases))
    assert states == [failed, skipped, failed, skipped]


async def test_set_state_changes_one_index_of_a_mapped_task(airflow: Airflow, waits: WaitClient) -> None:
    run = DagRun(airflow, "plain_mapped")
    instances = await asyncio.gather(*(run.parked(map_index=index) for index in range(3)))
    wait_id = await waits.submit(airflow_sink("set_state", instances[1]))
    await waits.delivered(wait_id)
    states = [(await run.task(map_index=index))["state"] for index in range(3)]
    assert states == ["deferred", "success", "deferred"]
    assert await run.xcom(map_index=1) == PAYLOAD
    wait_ids = await asyncio.gather(*(waits.submit(airflow_sink("set_state", instances[i])) for i in (0, 2)))
    await asyncio.gather(*(waits.delivered(wait_id) for wait_id in wait_ids))
    assert [await run.xcom("waitd_event_id", map_index=i) for i in (0, 2)] == wait_ids


async def test_clear_runs_the_task_again_once(airflow: Airflow, waits: WaitClient) -> None:
    run = DagRun(airflow, "plain_deferred")
    instance = await run.parked()
    wait_id = await waits.submit(airflow_sink("clear", instance))
    await waits.delivered(wait_id)
    after = await run.ended()
    assert (after["state"], after["try_number"], after["max_tries"]) == ("success", 2, 1)
    assert after["id"] != instance["id"]
    assert await run.xcom() == {"payload": PAYLOAD, "stored_by_try": 1}
    await waits.redeliver(wait_id)  # as after a crash between the clear and its record
    await waits.delivered(wait_id)
    assert (await run.task())["id"] == after["id"]


async def test_dag_run_starts_one_run(airflow: Airflow, waits: WaitClient) -> None:
    before = await _runs(airflow, "plain_started")
    sink = {
        "kind": "airflow",
        "conn_id": "airflow",
        "mode": "dag_run",
        "dag_id": "plain_started",
        "conf": {"day": 1},
    }
    wait_id = await waits.submit(sink)
    await waits.delivered(wait_id)
    await waits.redeliver(wait_id)
    await waits.delivered(wait_id)
    [started] = [run for run in await _runs(airflow, "plain_started") if run not in before]
    assert started["dag_run_id"] == f"waitd__{wait_id}"
    assert started["conf"]["day"] == 1
    assert (started["conf"]["waitd"]["event_id"], started["conf"]["waitd"]["payload"]) == (wait_id, PAYLOAD)


async def test_asset_event_starts_one_run_for_each_partition(airflow: Airflow, waits: WaitClient) -> None:
    sink = {"kind": "airflow", "conn_id": "airflow", "mode": "asset_event", "asset_uri": "s3://landing/plain"}
    wait_ids = [await waits.submit({**sink, "partition_key": f"2026-11-{day}"}) for day in range(10, 13)]
    for wait_id in wait_ids:
        await waits.delivered(wait_id)
    await waits.redeliver(wait_ids[0])
    await waits.delivered(wait_ids[0])

    async def all_started() -> bool:
        return len(await _runs(airflow, "plain_partitioned")) == 3

    await until(all_started)
    runs = await _runs(airflow, "plain_partitioned")
    assert sorted(run["partition_key"] for run in runs) == ["2026-11-10", "2026-11-11", "2026-11-12"]
    status, events = airflow.request("GET", "/api/v2/assets/events?limit=100&uri_pattern=plain")
    event_ids = [event["extra"]["waitd"]["event_id"] for event in events["asset_events"]]
    assert status == 200
    assert sorted(event_ids) == sorted(wait_ids)


async def test_a_failed_wait_emits_no_asset_event(airflow: Airflow, waits: WaitClient) -> None:
    sink = {"kind": "airflow", "conn_id": "airflow", "mode": "asset_event", "asset_uri": "s3://landing/plain"}
    wait_id = await waits.submit(sink, outcome="failed")
    assert (await waits.ended(wait_id))["state"] == "failed"
    assert await waits.deliveries(wait_id) == []


async def test_waitds_sensors_resume_in_each_mode(scene: ProviderScene) -> None:
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


async def _runs(airflow: Airflow, dag_id: str) -> list[dict[str, Any]]:
    _, answer = await asyncio.to_thread(airflow.request, "GET", f"/api/v2/dags/{dag_id}/dagRuns?limit=100")
    runs: list[dict[str, Any]] = answer["dag_runs"]
    return runs
