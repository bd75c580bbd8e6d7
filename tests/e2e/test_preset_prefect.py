"""The kind `prefect.flow_run` with a real Prefect server."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon, daemon, until
from job_servers import PrefectServer
from preset_waits import cancel, last_verdict_is, submit_wait, wait_until, wait_until_ended

pytestmark = [pytest.mark.slow, pytest.mark.long]
#: How long a flow run may take on a busy machine, in seconds.
RUN_TIMEOUT = 240


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with PrefectServer(tmp_path_factory.mktemp("prefect")) as running:
        yield running


@pytest.fixture
async def served(prefect: PrefectServer, tmp_path: Path) -> AsyncIterator[Daemon]:
    connection = json.dumps({"conn_type": "http", "host": prefect.url})
    async with daemon(tmp_path / "state", AIRFLOW_CONN_PREFECT_DEFAULT=connection) as running:
        yield running


def flow_run(prefect: PrefectServer, parameters: dict[str, Any], **fields: Any) -> dict[str, Any]:
    submit = {"deployment_id": prefect.deployment, "parameters": parameters, **fields}
    return {"kind": "prefect.flow_run", "submit": submit, "poke_interval": 1, "timeout": 600}


async def test_a_run_is_created_and_its_wait_ends_with_it(served: Daemon, prefect: PrefectServer) -> None:
    wait = await submit_wait(served, **flow_run(prefect, {"rows": 7}, name="of-waitd", tags=["a"]))
    wait = await wait_until_ended(served, wait, RUN_TIMEOUT)
    assert (wait["state"], wait["outcome"]["payload"]["state"]["type"]) == ("success", "COMPLETED")
    run = prefect.run(wait["outcome"]["payload"]["id"])
    assert (run["state_type"], run["name"], run["parameters"]) == ("COMPLETED", "of-waitd", {"rows": 7})
    assert (run["tags"], run["idempotency_key"]) == (["a"], wait["id"])


async def test_two_waits_with_one_idempotency_key_share_a_run(served: Daemon, prefect: PrefectServer) -> None:
    body = flow_run(prefect, {"rows": 1}, idempotency_key="of-both")
    both = [await wait_until_ended(served, await submit_wait(served, **body), RUN_TIMEOUT) for _ in range(2)]
    assert [wait["state"] for wait in both] == ["success"] * 2
    assert len({wait["outcome"]["payload"]["id"] for wait in both}) == 1


async def test_a_failed_run_fails_its_wait_with_prefects_message(
    served: Daemon, prefect: PrefectServer
) -> None:
    wait = await wait_until_ended(
        served, await submit_wait(served, **flow_run(prefect, {"rows": -1})), RUN_TIMEOUT
    )
    assert wait["state"] == "failed"
    assert wait["outcome"]["message"] == "FAILED: Flow run encountered an exception: ValueError: no rows"


async def test_a_cancelled_wait_cancels_its_run(served: Daemon, prefect: PrefectServer) -> None:
    wait = await submit_wait(
        served, **flow_run(prefect, {"seconds": 600.0}, cancel_job_on=["cancelled"], name="cancelled")
    )
    running = await wait_until(served, wait, last_verdict_is("running", "RUNNING"), RUN_TIMEOUT)
    run_id = running["submit"]["handle"]["flow_run_id"]
    await cancel(served, wait)
    await until(lambda: prefect.run(run_id)["state_type"] == "CANCELLED", RUN_TIMEOUT, "the run's end")
    # For any other wait, a cancelled run is a failure.
    other = await submit_wait(
        served, kind="prefect.flow_run", params={"flow_run_id": run_id}, poke_interval=1
    )
    wait = await wait_until_ended(served, other)
    assert (wait["state"], wait["outcome"]["payload"]["state"]["type"]) == ("failed", "CANCELLED")


async def test_an_unknown_run_is_not_found(served: Daemon) -> None:
    params = {"flow_run_id": "0693f9e0-5d0a-7c3a-8000-7b5d4c0e7b0e"}
    wait = await submit_wait(served, kind="prefect.flow_run", params=params, poke_interval=1)
    await wait_until(served, wait, last_verdict_is("not_found"))
