"""A DAG whose runs fail, for who waits for runs by their names."""

from airflow.sdk import DAG, task

with DAG("preset_fails", schedule=None):

    @task
    def fail() -> None:
        raise RuntimeError("no rows")

    fail()
