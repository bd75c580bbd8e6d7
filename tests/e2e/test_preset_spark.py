"""The kind `spark.standalone` with a real Spark cluster."""

import json
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from daemon import Daemon, daemon, until
from installation import require_apt_package
from job_servers import SparkCluster, has_java
from preset_waits import cancel, last_verdict_is, submit_wait, wait_until, wait_until_ended

pytestmark = [pytest.mark.slow, pytest.mark.long]
#: Timeout in seconds. A Python application takes half a minute on a busy machine.
RUN_TIMEOUT = 240


@pytest.fixture(scope="module")
def spark(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SparkCluster]:
    require_apt_package("default-jre-headless", has_java)
    with SparkCluster(tmp_path_factory.mktemp("spark")) as running:
        yield running


@pytest.fixture
async def served(spark: SparkCluster, tmp_path: Path) -> AsyncIterator[Daemon]:
    connection = json.dumps({"conn_type": "http", "host": spark.url})
    async with daemon(tmp_path / "state", AIRFLOW_CONN_SPARK=connection) as running:
        yield running


def application(spark: SparkCluster, behaviour: str, **fields: Any) -> dict[str, Any]:
    """A wait that submits an application. `behaviour` is count, hang or fail."""
    properties = {
        "spark.app.name": behaviour,
        "spark.master": spark.master,
        "spark.submit.deployMode": "cluster",
        "spark.driver.memory": "512m",
    }
    submit = {
        "main_class": "org.apache.spark.deploy.SparkSubmit",  # how Spark's documentation submits Python
        "app_args": [str(spark.job), behaviour],
        "spark_properties": properties,
        **fields,
    }
    params = {"spark_conn_id": "spark"}
    return {
        "kind": "spark.standalone",
        "params": params,
        "submit": submit,
        "poke_interval": 1,
        "timeout": 600,
    }


async def test_an_application_is_submitted_once_and_its_wait_ends_with_it(
    served: Daemon, spark: SparkCluster
) -> None:
    before = set(spark.drivers())
    wait = await wait_until_ended(
        served, await submit_wait(served, **application(spark, "count")), RUN_TIMEOUT
    )
    assert wait["state"] == "success", wait
    payload = wait["outcome"]["payload"]
    assert payload["driverState"] == "FINISHED"
    assert {name: state for name, state in spark.drivers().items() if name not in before} == {
        payload["submissionId"]: "FINISHED"
    }


async def test_a_failed_application_fails_its_wait(served: Daemon, spark: SparkCluster) -> None:
    wait = await wait_until_ended(
        served, await submit_wait(served, **application(spark, "fail")), RUN_TIMEOUT
    )
    assert (wait["state"], wait["outcome"]["message"]) == ("failed", "The state is FAILED.")
    assert spark.drivers()[wait["outcome"]["payload"]["submissionId"]] == "FAILED"


async def test_a_cancelled_wait_kills_its_application(served: Daemon, spark: SparkCluster) -> None:
    before = set(spark.drivers())
    wait = await submit_wait(served, **application(spark, "hang", cancel_job_on=["cancelled"]))

    def states() -> list[str]:
        return [state for name, state in spark.drivers().items() if name not in before]

    await wait_until(served, wait, last_verdict_is("running"), RUN_TIMEOUT)
    await until(lambda: states() == ["RUNNING"], RUN_TIMEOUT, "the application's start")
    await cancel(served, wait)
    await until(lambda: states() == ["KILLED"], RUN_TIMEOUT, "the application's end")


async def test_an_unknown_driver_is_not_found(served: Daemon) -> None:
    params = {"spark_conn_id": "spark", "submission_id": "driver-20261121120000-9999"}
    wait = await submit_wait(served, kind="spark.standalone", params=params, poke_interval=1)
    await wait_until(served, wait, last_verdict_is("not_found"))
