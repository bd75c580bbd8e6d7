"""Fetches the sensors that an Airflow has run from its REST API (v2), for `waitd cost whatif`."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from waitd.cli.console import fail

if TYPE_CHECKING:
    from waitd.core.airflow.task_history import TaskHistory
    from waitd.settings import Settings

#: Task instances per request. Airflow returns no more by default.
PAGE_SIZE = 100
#: The most task instances that are fetched.
MAX_TASK_INSTANCES = 100_000
#: Timeout of one request, in seconds.
REQUEST_TIMEOUT = 60.0


async def fetch_history(
    conn_id: str, settings: "Settings", days: float, poke_interval: float
) -> "TaskHistory":
    """The sensors among the task instances that started within the last `days`.

    `poke_interval` (seconds) is assumed for all of them, because the API does not return it. Ends
    the command if Airflow cannot be reached or refuses.

    Raises:
        InvalidInput: a record is not one of Airflow's.
    """
    from waitd.core.airflow.task_history import build_task_history
    from waitd.core.errors import WaitdError

    try:
        records = await _fetch_task_instances(conn_id, settings, days)
    except (WaitdError, ValueError, TimeoutError) as error:
        fail(f"{conn_id}: {str(error) or 'Airflow did not answer in time'}")
    numbered = ((number, record) for number, record in enumerate(records, start=1))
    return build_task_history(numbered, poke_interval=poke_interval)


async def _fetch_task_instances(conn_id: str, settings: "Settings", days: float) -> list[Mapping[str, Any]]:
    import asyncio

    from waitd import __version__
    from waitd.app.connections import open_connections, open_egress
    from waitd.engine.clock import SystemClock
    from waitd.log import configure
    from waitd.metrics import Instruments
    from waitd.sinks.airflow.api import AirflowApis, AirflowRequestFailed

    configure(level="error", log_format=settings.log_format)  # this command prints its own errors
    instruments, since = Instruments(version=__version__), datetime.now(UTC) - timedelta(days)
    records: list[Mapping[str, Any]] = []
    async with (
        open_egress(settings, instruments) as egress,
        open_connections(settings, egress, instruments) as connections,
        AirflowApis(connections, egress, SystemClock.now) as apis,
    ):
        try:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                api = await apis.connect(conn_id)
            offset = 0
            while offset < MAX_TASK_INSTANCES:
                query = {
                    "start_date_gte": since.isoformat(),
                    "order_by": "start_date",
                    "limit": str(PAGE_SIZE),
                    "offset": str(offset),
                }
                async with asyncio.timeout(REQUEST_TIMEOUT):
                    answer = await api.request(
                        "GET", "dags", "~", "dagRuns", "~", "taskInstances", query=query
                    )
                page, total = answer.fields.get("task_instances"), answer.fields.get("total_entries")
                if answer.status != 200 or not isinstance(page, list) or not isinstance(total, int):
                    raise ValueError(f"Airflow answered {answer.status} without task instances")
                records += [record for record in page if isinstance(record, dict)]
                offset += len(page)
                if offset >= total or not page:
                    break
            else:
                raise ValueError(
                    f"there are more than {MAX_TASK_INSTANCES:,} task instances; choose fewer --days"
                )
        except AirflowRequestFailed as stopped:
            raise ValueError(getattr(stopped.receipt, "error", "Airflow does not answer")) from None
    return records
