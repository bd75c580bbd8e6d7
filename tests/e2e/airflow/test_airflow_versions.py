"""The provider on every version of Airflow that it supports, without a Triggerer."""

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from own_environment import own_environment
from provider_scene import ProviderScene

from waitd.bench.airflow.instance import Airflow

pytestmark = [pytest.mark.slow, pytest.mark.long]
HERE = Path(__file__).parent
#: The versions below the newest, on which all other tests run.
OLDER = ("3.0", "3.1", "3.2")


@pytest.fixture(scope="module", params=OLDER)
def airflow(request: pytest.FixtureRequest) -> Iterator[Airflow]:
    environment = own_environment(HERE.parent / "pins" / f"airflow-{request.param}.txt")
    running = Airflow(environment, HERE / "dags_of_versions")
    try:
        running.start()
        yield running
    finally:
        running.stop()


async def test_a_task_ends_in_each_mode(scene: ProviderScene) -> None:
    run = await scene.run("modes", job="modes")
    modes = ("auto", "set_state", "clear")
    await asyncio.gather(*(run.parked(mode) for mode in modes))
    await scene.wait_until(run, "waiting", len(modes))
    scene.jobs.succeed("modes")
    ended = [await run.ended(mode) for mode in modes]
    assert [task["state"] for task in ended] == ["success"] * 3
    assert [task["try_number"] for task in ended] == [2, 1, 2], "auto is clear"
    results = {}
    for mode in modes:
        await run.ended(f"fetch_{mode}")
        results[mode] = (await run.xcom(task_id=f"fetch_{mode}"))["fetched"]
    _, version = scene.airflow.request("GET", "/api/v2/version")
    if version["version"] < "3.2":  # Airflow stores what is pushed through its API as JSON text
        results["set_state"] = json.loads(results["set_state"])
    assert results == {mode: {"job": "modes", "status": "SUCCEEDED"} for mode in modes}
    waits = await scene.waits(run)
    assert {delivery["state"] for wait in waits for delivery in wait["deliveries"]} == {"delivered"}
    assert len(waits) == 3


async def test_a_retry_registers_a_new_wait_and_takes_no_outcome_twice(scene: ProviderScene) -> None:
    scene.jobs.fail("retried", "no rows")
    run = await scene.run("retried", job="retried")
    assert (await run.ended())["state"] == "failed"
    assert [wait["state"] for wait in await scene.waits(run)] == ["failed", "failed"]
    scene.jobs.succeed("retried")  # only now: Airflow 3.0 would end a running task that is cleared
    await run.clear()
    await scene.wait_until(run, "success")
    assert (await run.until({"success"}))["try_number"] == 6
    assert [wait["state"] for wait in await scene.waits(run)] == ["failed", "failed", "success"]
