"""DAGs with waitd's sensors in place of Airflow's own.

Each run gets the name of its job in its conf.
"""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from waitd.airflow.operators import WaitdOperator
from waitd.airflow.sensors import WaitdHttpSensor, WaitdS3KeySensor, WaitdS3KeysUnchangedSensor

JOB = "/jobs/{{ dag_run.conf['job'] }}"
CONDITIONS: dict[str, Any] = {
    "success_when": "body.status == 'SUCCEEDED'",
    "failure_when": "body.status == 'FAILED'",
    "message": "body.why",
}
COMMON: dict[str, Any] = {"http_conn_id": "jobs", "poke_interval": 0.3, "timeout": 300, **CONDITIONS}


@task
def fetch(result: Any) -> Any:
    return {"fetched": result}


with DAG("provider_pattern", schedule=None):

    @task
    def submit(**context: Any) -> str:
        return f"/jobs/{context['dag_run'].conf['job']}"

    fetch(WaitdHttpSensor(task_id="wait", endpoint=submit(), **COMMON).output)

with DAG("provider_modes", schedule=None):
    for mode in ("resume", "set_state", "clear"):
        waiting = WaitdHttpSensor(task_id=mode, endpoint=JOB, callback_mode=mode, **COMMON)
        fetch.override(task_id=f"fetch_{mode}")(waiting.output)

with DAG("provider_s3", schedule=None):
    common_s3: dict[str, Any] = {
        "bucket_name": "{{ dag_run.conf['bucket'] }}",
        "aws_conn_id": "s3",
        "poke_interval": 0.3,
        "timeout": 300,
    }
    WaitdS3KeySensor(
        task_id="key",
        bucket_key="orders/*.parquet",
        wildcard_match=True,
        check="size(files) >= 2",
        **common_s3,
    )
    WaitdS3KeysUnchangedSensor(
        task_id="unchanged", prefix="orders/", inactivity_period=1, min_objects=2, **common_s3
    )

with DAG("provider_mapped", schedule=None):

    @task
    def jobs(**context: Any) -> list[str]:
        return [f"/jobs/{context['dag_run'].conf['job']}-{index}" for index in range(20)]

    @task
    def collect(results: Any) -> list[Any]:
        return list(results)

    collect(WaitdHttpSensor.partial(task_id="wait", **COMMON).expand(endpoint=jobs()).output)

with DAG("provider_outcomes", schedule=None, default_args={"retry_delay": timedelta(0)}):
    WaitdHttpSensor(task_id="failed", endpoint=JOB, **COMMON)
    WaitdHttpSensor(task_id="failed_softly", endpoint=JOB, soft_fail=True, **COMMON)
    WaitdHttpSensor(task_id="retried", endpoint=JOB, retries=1, **COMMON)
    late: dict[str, Any] = {**COMMON, "timeout": 8, "success_when": "false", "failure_when": None}
    WaitdHttpSensor(task_id="timed_out", endpoint=JOB, retries=1, **late)
    WaitdHttpSensor(task_id="timed_out_softly", endpoint=JOB, soft_fail=True, **late)
    WaitdOperator(
        task_id="refused",
        kind="http",
        wait_params={"endpoint": JOB, "http_conn_id": "jobs", "success_when": "bodi == 1"},
        retries=1,
    )
