"""DAGs without waitd's provider: what the airflow sink does to tasks that anybody could have written."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import DAG, Asset, BaseOperator, PartitionedAssetTimetable, task


class Deferred(BaseOperator):
    """Parks under a trigger that nobody runs; cleared, it returns the payload that it finds."""

    def __init__(self, *, index: int = -1, **more: Any) -> None:
        super().__init__(**more)
        self.index = index

    def execute(self, context: Any) -> Any:
        left = context["task_state_store"].get("waitd_outcome")
        if left is not None:
            return {"payload": left["payload"], "left_for_try": left["try_number"]}
        moment = datetime.now(UTC) + timedelta(days=30)
        return self.defer(
            trigger=DateTimeTrigger(moment=moment), method_name="execute", timeout=timedelta(days=1)
        )


@task
def tell(value: Any) -> Any:
    return {"told": value}


with DAG("plain_resume", schedule=None):
    HITLOperator(task_id="wait", subject="Waiting in waitd", options=["done"])

with DAG("plain_deferred", schedule=None):
    tell(Deferred(task_id="wait").output)

with DAG("plain_mapped", schedule=None):
    Deferred.partial(task_id="wait").expand(index=[0, 1, 2])

with DAG("plain_started", schedule=None):

    @task
    def conf(**context: Any) -> Any:
        return context["dag_run"].conf

    conf()

asset = Asset("plain_asset", uri="s3://landing/plain")

with DAG("plain_partitioned", schedule=PartitionedAssetTimetable(assets=asset)):

    @task
    def partition(**context: Any) -> Any:
        return context["dag_run"].partition_key

    partition()
