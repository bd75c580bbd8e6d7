"""The store as the sweep for Airflow tasks that are gone needs it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Protocol

from waitd.core.waits.wait import Outcome, WaitId


class AirflowWait(NamedTuple):
    """A waiting wait and its sink to an Airflow connection: the sink's parameters with `kind`."""

    wait_id: WaitId
    sink: Mapping[str, Any]


class SweepStore(Protocol):
    """Finds waiting waits by Airflow connection, and cancels them."""

    async def airflow_connections(self) -> Sequence[str]:
        """The conn_ids of the Airflow sinks of waiting waits."""

    async def find_airflow_waits(
        self, conn_id: str, after: WaitId | None, limit: int
    ) -> Sequence[AirflowWait]:
        """A page of the waiting waits with a sink to this connection, in the order of their ids."""

    async def cancel(self, wait_id: str, outcome: Outcome) -> object:
        """Ends a waiting wait as cancelled. Raises NotFound, Conflict, StoreUnavailable."""
