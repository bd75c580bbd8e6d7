"""DAGs without waitd's provider: the airflow sink also works with other operators."""

from datetime import UTC, datetime, timedelta
from typing import Any

from airflow.providers.standard.operators.hitl import HITLOperator
from airflow.providers.standard.triggers.temporal import DateTimeTrigger
from airflow.sdk import DAG, Asset, BaseOperator, PartitionedAssetTimetable, task


class Deferred(BaseOperator):
    """Defer with a trigger that no Triggerer runs.

    After a clear, return the outcome that waitd stored.
    """

    def __init__(self, *, index: int = -1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.index = index

    def execute(self, context: Any) -> Any:
        outcome = context["task_state_store"].get("waitd_outcome")
        if outcome is not None:
            return {"payload": outcome["payload"], "stored_by_try": outcome["try_number"]}
        moment = datetime.now(UTC) + timedelta(days=30)
        return self.defer(
            trigger=DateTimeTrigger(moment=moment), method_name="execute", timeout=timedelta(days=1)
        )


@task
def process(value: Any) -> Any:
    return {"processed": value}


with DAG("plain_resume", schedule=None):
    HITLOperator(task_id="wait", subject="Waiting in waitd", options=["done"])

with DAG("plain_deferred", schedule=None):
    process(Deferred(task_id="wait").output)

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
