"""The store, as the sweep that looks for gone Airflow tasks needs it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from waitd.core.waits.wait import Outcome, WaitId


class AirflowWait(NamedTuple):
    """A waiting wait, and the one of its sinks that tells the Airflow that was asked for: its parameters with `kind`."""

    wait_id: WaitId
    sink: Mapping[str, Any]


class SweepStore(Protocol):
    """Waiting waits by which Airflow they will tell, and their end."""

    async def airflow_connections(self) -> Sequence[str]:
        """The conn_ids by which waits that are waiting will tell an Airflow."""

    async def find_airflow_waits(
        self, conn_id: str, after: WaitId | None, limit: int
    ) -> Sequence[AirflowWait]:
        """A page of the waiting waits that will tell this one, in the order of their ids."""

    async def cancel(self, wait_id: str, outcome: Outcome) -> object:
        """Ends a waiting wait as cancelled. Raises NotFound, Conflict, StoreUnavailable."""
