"""Submit, wait, fetch: an Airbyte sync that holds a worker slot only to submit and to fetch."""

from typing import Any

from airflow.providers.http.hooks.http import HttpHook
from airflow.sdk import dag, task

from waitd.airflow.operators import WaitdOperator

CONNECTION = "e735894a-e773-4938-969f-45f53957b75b"


@dag(schedule=None)
def sync_orders() -> None:
    @task
    def submit() -> int:
        body = {"connectionId": CONNECTION, "jobType": "sync"}
        answer = HttpHook("POST", "airbyte_default").run("/api/public/v1/jobs", json=body)
        return int(answer.json()["jobId"])

    @task
    def fetch(job: dict[str, Any]) -> str:
        return f"job {job['jobId']} {job['status']}"

    job = WaitdOperator(
        task_id="wait",
        kind="airbyte.job",
        wait_params={"job_id": submit()},
        poke_interval=10,
        timeout=14400,
    )
    fetch(job.output)


sync_orders()
