"""The kind `prefect.flow_run` on a real Prefect server: runs that waitd makes complete, fail, and are cancelled."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon, daemon, until
from job_servers import PrefectServer
from preset_waits import last_verdict_is, post, submit_wait, wait_until, wait_until_ended

pytestmark = pytest.mark.slow
PATIENCE = 240


@pytest.fixture(scope="module")
def prefect(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrefectServer]:
    with PrefectServer(tmp_path_factory.mktemp("prefect")) as running:
        yield running


@pytest.fixture
async def served(prefect: PrefectServer, tmp_path: Path) -> AsyncIterator[Daemon]:
    connection = json.dumps({"conn_type": "http", "host": prefect.url})
    async with daemon(tmp_path / "state", AIRFLOW_CONN_PREFECT_DEFAULT=connection) as running:
        yield running


def flow_run(prefect: PrefectServer, parameters: dict[str, Any], **more: Any) -> dict[str, Any]:
    submit = {"deployment_id": prefect.deployment, "parameters": parameters, **more}
    return {"kind": "prefect.flow_run", "submit": submit, "poke_interval": 1, "timeout": 600}


async def test_a_run_is_made_and_waited_for(served: Daemon, prefect: PrefectServer) -> None:
    made = await submit_wait(served, **flow_run(prefect, {"rows": 7}, name="of-waitd", tags=["a"]))
    wait = await wait_until_ended(served, made, PATIENCE)
    assert (wait["state"], wait["outcome"]["payload"]["state"]["type"]) == ("success", "COMPLETED")
    run = prefect.run(wait["outcome"]["payload"]["id"])
    assert (run["state_type"], run["name"], run["parameters"]) == ("COMPLETED", "of-waitd", {"rows": 7})
    assert (run["tags"], run["idempotency_key"]) == (["a"], wait["id"])


async def test_one_key_makes_one_run(served: Daemon, prefect: PrefectServer) -> None:
    """Also for two waits: the server itself says that it is the same run."""
    body = flow_run(prefect, {"rows": 1}, idempotency_key="of-both")
    both = [await wait_until_ended(served, await submit_wait(served, **body), PATIENCE) for _ in range(2)]
    assert [wait["state"] for wait in both] == ["success"] * 2
    assert len({wait["outcome"]["payload"]["id"] for wait in both}) == 1


async def test_a_run_that_fails_fails_its_wait_in_prefects_words(
    served: Daemon, prefect: PrefectServer
) -> None:
    wait = await wait_until_ended(
        served, await submit_wait(served, **flow_run(prefect, {"rows": -1})), PATIENCE
    )
    assert wait["state"] == "failed"
    assert wait["outcome"]["message"] == "FAILED: Flow run encountered an exception: ValueError: no rows"


async def test_a_cancelled_wait_cancels_its_run(served: Daemon, prefect: PrefectServer) -> None:
    made = await submit_wait(
        served, **flow_run(prefect, {"seconds": 600.0}, cancel_job_on=["cancelled"], name="cancelled")
    )
    running = await wait_until(served, made, last_verdict_is("running", "RUNNING"), PATIENCE)
    run_id = running["submit"]["handle"]["flow_run_id"]
    status, _ = await post(f"{served.url}/v1/waits/{made['id']}:cancel")
    assert status == 200
    await until(lambda: prefect.run(run_id)["state_type"] == "CANCELLED", PATIENCE, "the run's end")
    # Whoever else waits for it hears of a failure.
    other = await submit_wait(
        served, kind="prefect.flow_run", params={"flow_run_id": run_id}, poke_interval=1
    )
    wait = await wait_until_ended(served, other)
    assert (wait["state"], wait["outcome"]["payload"]["state"]["type"]) == ("failed", "CANCELLED")


async def test_a_run_that_nobody_made_is_not_found(served: Daemon) -> None:
    params = {"flow_run_id": "0693f9e0-5d0a-7c3a-8000-7b5d4c0e7b0e"}
    wait = await submit_wait(served, kind="prefect.flow_run", params=params, poke_interval=1)
    await wait_until(served, wait, last_verdict_is("not_found"))
