"""The tasks that are parked in Airflow for waitd, for a daemon that has lost its disk."""

from collections.abc import Sequence

from waitd import __version__
from waitd.app.parts import open_parts
from waitd.metrics import Instruments
from waitd.settings import Settings
from waitd.sinks.airflow.parked import ParkedTask, parked_tasks


async def parked_in_airflow(settings: Settings, conn_id: str) -> Sequence[ParkedTask]:
    """What Airflow, as the connection knows it, holds parked for waitd.

    Raises:
        WaitdError, ValueError: the connection cannot be had or used, or Airflow does not tell.
    """
    async with open_parts(settings, Instruments(version=__version__)) as parts:
        api = await parts.airflow.connect(conn_id)
        return [task async for task in parked_tasks(api)]
