"""The modes that start something anew: `dag_run` and `asset_event`. No task waits, so nothing is looked at first but whether it was done."""

from typing import Any

from waitd.core.airflow.callback import CONF_KEY, EventOutcome, is_from_event
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected, Receipt
from waitd.core.waits.event import rfc3339
from waitd.sinks.airflow.api import MAX_CLOCK_SKEW, AirflowApi
from waitd.sinks.airflow.params import AssetRef, DagRunRequest


async def trigger_dag_run(api: AirflowApi, place: DagRunRequest, ending: EventOutcome) -> Receipt:
    """Runs a DAG. Its run's id makes it happen once. Raises Stopped."""
    run_id = place.run_id or f"waitd__{ending.event_id}"
    conf = {**place.conf, CONF_KEY: ending.told()}
    body = {"dag_run_id": run_id, "logical_date": None, "conf": conf}
    answer = await api.request("POST", "dags", place.dag_id, "dagRuns", body=body)
    match answer.status:
        case 200:
            return Delivered()
        case 409:
            there = await api.request("GET", "dags", place.dag_id, "dagRuns", run_id)
            known = is_from_event((there.fields.get("conf") or {}).get(CONF_KEY), ending.event_id)
            return (
                Delivered() if known else DeliveryRejected("superseded: another run of the DAG has this id")
            )
        case 422:
            return DeliveryRejected("Airflow answered 422: it does not take what was sent")
        case 404:
            return DeliveryFailed("Airflow answered 404: it knows no such DAG")
    return DeliveryFailed(
        f"Airflow answered {answer.status}: the DAG cannot be run, or not under this id or conf"
    )


async def create_asset_event(
    api: AirflowApi, place: AssetRef, ending: EventOutcome, created_at: float
) -> Receipt:
    """Makes an asset event, unless it is there; `created_at` (Unix seconds) is when the delivery was made. Raises Stopped."""
    asset_id = place.id if place.uri is None else await _asset_id(api, place.uri)
    if asset_id is None:
        return DeliveryFailed("Airflow knows no such asset: no DAG that it has parsed declares it")
    since = {"timestamp_gte": rfc3339(created_at - MAX_CLOCK_SKEW), "order_by": "-timestamp"}
    query = {"asset_id": str(asset_id), **since}
    async for event in api.list("asset_events", "assets", "events", query=query, role="Op"):
        if is_from_event((event.get("extra") or {}).get(CONF_KEY), ending.event_id):
            return Delivered()
    body: dict[str, Any] = {"asset_id": asset_id, "extra": {CONF_KEY: ending.told()}}
    if place.partition_key is not None:
        body["partition_key"] = place.partition_key
    answer = await api.request("POST", "assets", "events", body=body, role="Op")
    if answer.status == 422:
        return DeliveryRejected("Airflow answered 422: it does not take what was sent")
    return Delivered() if answer.status == 200 else DeliveryFailed(f"Airflow answered {answer.status}")


async def _asset_id(api: AirflowApi, uri: str) -> int | None:
    """The number of the asset with exactly this URI; Airflow takes it for a pattern."""
    async for asset in api.list("assets", "assets", query={"uri_pattern": uri}, role="Op"):
        if asset.get("uri") == uri and isinstance(asset.get("id"), int):
            return int(asset["id"])
    return None
