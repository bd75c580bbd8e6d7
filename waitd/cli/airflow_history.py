"""The sensors that an Airflow has run, asked of its API (v2)."""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from waitd.cli.common import Code, fail

if TYPE_CHECKING:
    from waitd.core.airflow.task_history import TaskHistory
    from waitd.settings import Settings

#: How many task instances are asked for at once: Airflow gives no more by default.
PAGE = 100
#: How many are read at most.
MOST = 100_000
#: How long one request may take, seconds.
PATIENCE = 60.0


async def asked(conn_id: str, settings: "Settings", days: float, poke_interval: float) -> "TaskHistory":
    """The sensors among the task instances that started within the last `days`; ends the command where Airflow does not tell.

    Raises:
        InvalidInput: an answer is not what Airflow answers.
    """
    from waitd.core.airflow.task_history import build_task_history
    from waitd.core.errors import WaitdError

    try:
        records = await _records(conn_id, settings, days)
    except (WaitdError, ValueError, TimeoutError) as error:
        fail(f"{conn_id}: {str(error) or 'Airflow did not answer in time'}", Code.FAILED)
    numbered = ((number, record) for number, record in enumerate(records, start=1))
    return build_task_history(numbered, poke_interval=poke_interval)


async def _records(conn_id: str, settings: "Settings", days: float) -> list[Mapping[str, Any]]:
    import asyncio

    from waitd import __version__
    from waitd.app.connections import open_connections, outgoing_from_settings
    from waitd.engine.clock import SystemClock
    from waitd.log import configure
    from waitd.metrics import Instruments
    from waitd.sinks.airflow.api import AirflowApis, Stopped

    configure(level="error", log_format=settings.log_format)  # what goes wrong is said in a sentence
    outgoing, since = outgoing_from_settings(settings), datetime.now(UTC) - timedelta(days)
    found: list[Mapping[str, Any]] = []
    async with (
        open_connections(settings, outgoing, Instruments(version=__version__)) as connections,
        AirflowApis(connections, outgoing, SystemClock.now) as apis,
    ):
        try:
            async with asyncio.timeout(PATIENCE):
                api = await apis.opened(conn_id)
            offset = 0
            while offset < MOST:
                query = {
                    "start_date_gte": since.isoformat(),
                    "order_by": "start_date",
                    "limit": str(PAGE),
                    "offset": str(offset),
                }
                async with asyncio.timeout(PATIENCE):
                    answer = await api.ask("GET", "dags", "~", "dagRuns", "~", "taskInstances", query=query)
                page, total = answer.fields.get("task_instances"), answer.fields.get("total_entries")
                if answer.status != 200 or not isinstance(page, list) or not isinstance(total, int):
                    raise ValueError(f"Airflow answered {answer.status} and no task instances")
                found += [record for record in page if isinstance(record, dict)]
                offset += len(page)
                if offset >= total or not page:
                    break
            else:
                raise ValueError(f"there are more than {MOST:,} task instances; choose fewer --days")
        except Stopped as stopped:
            raise ValueError(getattr(stopped.receipt, "error", "Airflow does not answer")) from None
    return found
