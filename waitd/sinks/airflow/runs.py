"""The modes that start something new: `dag_run` and `asset_event`.

No task waits for them. Each checks only whether an earlier attempt has already succeeded.
"""

from typing import Any

from waitd.core.airflow.callback import CONF_KEY, EventOutcome, is_from_event
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected, Receipt
from waitd.core.waits.event import rfc3339
from waitd.sinks.airflow.api import INVALID_REQUEST, MAX_CLOCK_SKEW, AirflowApi
from waitd.sinks.airflow.params import AssetRef, DagRunRequest


async def trigger_dag_run(api: AirflowApi, run: DagRunRequest, outcome: EventOutcome) -> Receipt:
    """Triggers a DAG run. Its run id makes it happen only once. Raises AirflowRequestFailed."""
    run_id = run.run_id or f"waitd__{outcome.event_id}"
    body = {"dag_run_id": run_id, "logical_date": None, "conf": {**run.conf, CONF_KEY: outcome.to_json()}}
    response = await api.request("POST", "dags", run.dag_id, "dagRuns", body=body)
    match response.status:
        case 200:
            return Delivered()
        case 409:
            existing = await api.request("GET", "dags", run.dag_id, "dagRuns", run_id)
            if is_from_event((existing.fields.get("conf") or {}).get(CONF_KEY), outcome.event_id):
                return Delivered()
            return DeliveryRejected("superseded: another run of the DAG has this id")
        case 422:
            return INVALID_REQUEST
        case 404:
            return DeliveryFailed("Airflow answered 404: the DAG does not exist")
    return DeliveryFailed(
        f"Airflow answered {response.status}: it cannot run the DAG, or does not accept the run id or conf"
    )


async def create_asset_event(
    api: AirflowApi, asset: AssetRef, outcome: EventOutcome, created_at: float
) -> Receipt:
    """Creates an asset event unless it exists.

    `created_at` (Unix seconds) is when the delivery was created. Raises AirflowRequestFailed.
    """
    asset_id = asset.id if asset.uri is None else await _find_asset(api, asset.uri)
    if asset_id is None:
        return DeliveryFailed("Airflow has no such asset: declare it in a DAG that Airflow has parsed")
    since = {"timestamp_gte": rfc3339(created_at - MAX_CLOCK_SKEW), "order_by": "-timestamp"}
    query = {"asset_id": str(asset_id), **since}
    async for event in api.list("asset_events", "assets", "events", query=query, role="Op"):
        if is_from_event((event.get("extra") or {}).get(CONF_KEY), outcome.event_id):
            return Delivered()
    body: dict[str, Any] = {"asset_id": asset_id, "extra": {CONF_KEY: outcome.to_json()}}
    if asset.partition_key is not None:
        body["partition_key"] = asset.partition_key
    response = await api.request("POST", "assets", "events", body=body, role="Op")
    if response.status == 422:
        return INVALID_REQUEST
    return Delivered() if response.status == 200 else DeliveryFailed(f"Airflow answered {response.status}")


async def _find_asset(api: AirflowApi, uri: str) -> int | None:
    """The id of the asset with exactly this URI; Airflow treats the URI as a pattern."""
    async for asset in api.list("assets", "assets", query={"uri_pattern": uri}, role="Op"):
        if asset.get("uri") == uri and isinstance(asset.get("id"), int):
            return int(asset["id"])
    return None
