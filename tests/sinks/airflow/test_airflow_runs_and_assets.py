"""Modes `dag_run` and `asset_event`: the sink triggers one run or creates one asset event."""

from airflow_setup import EVENT_ID, OTHER_ID, OUTCOME, AirflowSetup, rejection

from waitd.core.waits.delivery import Delivered, DeliveryFailed


async def test_dag_run_triggers_a_run_named_after_the_wait(setup: AirflowSetup) -> None:
    assert await setup.deliver("dag_run", conf={"day": 1}) == Delivered()
    assert setup.airflow.bodies_of("POST") == [
        {"dag_run_id": f"waitd__{EVENT_ID}", "logical_date": None, "conf": {"day": 1, "waitd": OUTCOME}}
    ]
    assert await setup.deliver("dag_run") == Delivered()
    assert len(setup.airflow.runs) == 1


async def test_another_run_with_the_same_id_is_rejected(setup: AirflowSetup) -> None:
    setup.airflow.runs["mine"] = {"conf": {}}
    assert rejection(await setup.deliver("dag_run", new_dag_run_id="mine")).startswith("superseded")


async def test_an_unknown_dag_is_retried(setup: AirflowSetup) -> None:
    assert isinstance(await setup.deliver("dag_run", dag_id="nope"), DeliveryFailed)


async def test_asset_event_finds_the_asset_by_its_exact_uri(setup: AirflowSetup) -> None:
    setup.airflow.assets = [{"id": n, "uri": f"s3://lake/orders{n}"} for n in range(150)]
    setup.airflow.assets.append({"id": 150, "uri": "s3://lake/orders"})
    receipt = await setup.deliver("asset_event", asset_uri="s3://lake/orders", partition_key="2026-11-21")
    assert receipt == Delivered()
    assert setup.airflow.events == [
        {"asset_id": 150, "extra": {"waitd": OUTCOME}, "partition_key": "2026-11-21"}
    ]


async def test_an_asset_event_is_created_once(setup: AirflowSetup) -> None:
    setup.airflow.fail["POST", "/assets/events"] = "lost"
    assert isinstance(await setup.deliver("asset_event"), DeliveryFailed)
    others = [{"asset_id": 1, "extra": {"waitd": {"event_id": OTHER_ID}}}] * 120
    setup.airflow.events[:0] = [*others, {"asset_id": 1, "extra": {}}]
    assert await setup.deliver("asset_event") == Delivered()
    assert len(setup.airflow.bodies_of("POST")) == 1
    assert "partition_key" not in setup.airflow.bodies_of("POST")[0]


async def test_an_undeclared_asset_is_retried(setup: AirflowSetup) -> None:
    assert isinstance(await setup.deliver("asset_event", asset_uri="s3://undeclared"), DeliveryFailed)
    assert isinstance(await setup.deliver("asset_event", asset_id=9), DeliveryFailed)
