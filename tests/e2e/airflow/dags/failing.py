"""A DAG whose runs fail, for waits of kind `airflow.dag_run`."""

from airflow.sdk import DAG, task

with DAG("preset_fails", schedule=None):

    @task
    def fail() -> None:
        raise RuntimeError("no rows")

    fail()
