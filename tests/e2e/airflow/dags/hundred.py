"""A hundred tasks that wait at the same time. A task that had to be retried has try number 2."""

from datetime import timedelta

from airflow.sdk import DAG

from waitd.airflow.operators import WaitdOperator

with DAG("hundred", schedule=None):
    WaitdOperator.partial(
        task_id="wait",
        kind="http",
        poke_interval=1,
        timeout=3600,
        retries=1,
        retry_delay=timedelta(seconds=1),
    ).expand(
        wait_params=[
            {
                "http_conn_id": "jobs",
                "endpoint": f"/jobs/{{{{ run_id }}}}-{index}?for={5 + index % 35}",
                "success_when": "body.status == 'SUCCEEDED'",
                "result": f"{{'index': {index}}}",
            }
            for index in range(100)
        ]
    )
