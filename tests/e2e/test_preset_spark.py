"""The kind `spark.standalone` on a real Spark: waitd submits applications to its REST server, waits for them, and kills one."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon, daemon, until
from job_servers import SparkCluster, install_java
from preset_waits import last_verdict_is, post, submit_wait, wait_until, wait_until_ended

pytestmark = pytest.mark.slow
#: A Python application takes half a minute where the machine is busy.
PATIENCE = 240


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    if why := install_java():
        pytest.skip(why)
    with SparkCluster(tmp_path_factory.mktemp("spark")) as running:
        yield running


@pytest.fixture
async def served(spark: SparkCluster, tmp_path: Path) -> AsyncIterator[Daemon]:
    connection = json.dumps({"conn_type": "http", "host": spark.url})
    async with daemon(tmp_path / "state", AIRFLOW_CONN_SPARK=connection) as running:
        yield running


def application(spark: SparkCluster, how: str, **more: Any) -> dict[str, Any]:
    """A wait whose application counts, hangs or fails."""
    properties = {
        "spark.app.name": how,
        "spark.master": spark.master,
        "spark.submit.deployMode": "cluster",
        "spark.driver.memory": "512m",
    }
    submit = {
        "main_class": "org.apache.spark.deploy.SparkSubmit",  # so Spark's own documentation submits Python
        "app_args": [str(spark.job), how],
        "spark_properties": properties,
        **more,
    }
    params = {"spark_conn_id": "spark"}
    return {
        "kind": "spark.standalone",
        "params": params,
        "submit": submit,
        "poke_interval": 1,
        "timeout": 600,
    }


async def test_an_application_is_submitted_waited_for_and_runs_once(
    served: Daemon, spark: SparkCluster
) -> None:
    before = set(spark.drivers())
    wait = await wait_until_ended(served, await submit_wait(served, **application(spark, "count")), PATIENCE)
    assert wait["state"] == "success", wait
    told = wait["outcome"]["payload"]
    assert told["driverState"] == "FINISHED"
    assert {name: state for name, state in spark.drivers().items() if name not in before} == {
        told["submissionId"]: "FINISHED"
    }


async def test_an_application_that_fails_fails_its_wait(served: Daemon, spark: SparkCluster) -> None:
    wait = await wait_until_ended(served, await submit_wait(served, **application(spark, "fail")), PATIENCE)
    assert (wait["state"], wait["outcome"]["message"]) == ("failed", "The state is FAILED.")
    assert spark.drivers()[wait["outcome"]["payload"]["submissionId"]] == "FAILED"


async def test_a_cancelled_wait_kills_its_application(served: Daemon, spark: SparkCluster) -> None:
    before = set(spark.drivers())
    wait = await submit_wait(served, **application(spark, "hang", cancel_job_on=["cancelled"]))

    def states() -> list[str]:
        return [state for name, state in spark.drivers().items() if name not in before]

    await wait_until(served, wait, last_verdict_is("running"), PATIENCE)
    await until(lambda: states() == ["RUNNING"], PATIENCE, "the application's start")
    status, _ = await post(f"{served.url}/v1/waits/{wait['id']}:cancel")
    assert status == 200
    await until(lambda: states() == ["KILLED"], PATIENCE, "the application's end")


async def test_a_driver_that_the_master_does_not_know_is_not_found(served: Daemon) -> None:
    params = {"spark_conn_id": "spark", "submission_id": "driver-20261121120000-9999"}
    wait = await submit_wait(served, kind="spark.standalone", params=params, poke_interval=1)
    await wait_until(served, wait, last_verdict_is("not_found"))
