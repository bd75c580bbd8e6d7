"""The same DAG with Airflow's own HttpSensor and with waitd's sensor, for `waitd demo --airflow`.

Each run gets its jobs in its conf: paths on the host of the connection `jobs`. A job is RUNNING,
and after a while SUCCEEDED.
"""

from typing import Any

from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, task

from waitd.airflow.sensors import WaitdHttpSensor


@task
def submit(**context: Any) -> list[str]:
    """Submit the jobs. In this demo they are already running."""
    return list(context["dag_run"].conf["jobs"])


@task
def fetch(results: Any) -> list[str]:
    """Use the results of the waits."""
    return [result["job"] for result in results]


with DAG("before", schedule=None):
    HttpSensor.partial(
        task_id="wait",
        http_conn_id="jobs",
        poke_interval=2,
        timeout=600,
        response_check=lambda response: response.json()["status"] == "SUCCEEDED",
    ).expand(endpoint=submit())

with DAG("after", schedule=None):
    waits = WaitdHttpSensor.partial(
        task_id="wait",
        http_conn_id="jobs",
        poke_interval=2,
        timeout=600,
        success_when="body.status == 'SUCCEEDED'",
    ).expand(endpoint=submit())
    fetch(waits.output)

with DAG("modes", schedule=None):
    for mode in ("resume", "set_state", "clear"):
        WaitdHttpSensor(
            task_id=mode,
            callback_mode=mode,
            http_conn_id="jobs",
            endpoint="{{ dag_run.conf['jobs'][0] }}",
            poke_interval=2,
            timeout=600,
            success_when="body.status == 'SUCCEEDED'",
        )
