"""DAGs for every version of Airflow that the provider supports. A run gets its job in its conf."""

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, task

from waitd.airflow.operators import WaitdOperator
from waitd.airflow.sensors import WaitdHttpSensor, WaitdS3KeySensor, WaitdS3KeysUnchangedSensor

COMMON: dict[str, Any] = {
    "http_conn_id": "jobs",
    "poke_interval": 0.3,
    "timeout": 300,
    "success_when": "body.status == 'SUCCEEDED'",
    "failure_when": "body.status == 'FAILED'",
}


@task
def fetch(result: Any) -> Any:
    return {"fetched": result}


with DAG("modes", schedule=None):
    for mode in ("auto", "set_state", "clear"):
        waiting = WaitdHttpSensor(
            task_id=mode, endpoint="/jobs/{{ dag_run.conf['job'] }}", callback_mode=mode, **COMMON
        )
        fetch.override(task_id=f"fetch_{mode}")(waiting.output)

with DAG("retried", schedule=None):
    WaitdOperator(
        task_id="wait",
        kind="http",
        wait_params={
            "endpoint": "/jobs/{{ dag_run.conf['job'] }}",
            **{name: COMMON[name] for name in ("http_conn_id", "success_when", "failure_when")},
        },
        poke_interval=0.3,
        callback_mode="clear",
        retries=1,
        retry_delay=timedelta(0),
    )

with DAG("parsed", schedule=None):
    WaitdS3KeySensor(task_id="key", bucket_key="s3://b/{{ ds }}")
    WaitdS3KeysUnchangedSensor(task_id="unchanged", bucket_name="b", prefix="p/")
