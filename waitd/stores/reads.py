"""The store's methods that read."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from waitd.core.auth.api_key import ApiKey
from waitd.core.auth.principal import ALL_NAMESPACES
from waitd.core.errors import Conflict
from waitd.core.waits.wait import WaitId
from waitd.ports import (
    AirflowWait,
    AuditFilter,
    CostFilter,
    CostSums,
    DeliveryFilter,
    IdempotentSubmit,
    Inserted,
    Signal,
    StoredAuditEntry,
    StoredDelivery,
    StoredEvent,
    StoredWait,
    UnreadableWait,
    WaitFilter,
)
from waitd.stores.connection import StoreConnection
from waitd.stores.database import Database
from waitd.stores.queries import (
    administration,
    airflow_waits,
    costs,
    deliveries,
    event_log,
    unreadable,
    wait_keys,
    waits,
)
from waitd.stores.usage import Usage, count_redeliveries

P = ParamSpec("P")
T = TypeVar("T")


class StoreReads:
    """The part of `Store` that reads; rows that cannot be read are set aside."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._unreadable = database.unreadable

    async def _read(
        self,
        query: Callable[Concatenate[StoreConnection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Runs a query of the daemon's own on a reading connection."""
        async with self._database.reading() as connection:
            return await query(connection, *args, **kwargs)

    async def _read_for(
        self,
        namespace: str | None,
        query: Callable[Concatenate[StoreConnection, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Runs a query of a caller who sees this namespace; None: all of them."""
        async with self._database.reading(namespace or ALL_NAMESPACES) as connection:
            return await query(connection, *args, **kwargs)

    async def get(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        """See `ApiStore`."""
        return await self._read_for(namespace, waits.get, wait_id, namespace, self._unreadable)

    async def find(self, filter_: WaitFilter) -> Sequence[StoredWait]:
        """See `ApiStore`."""
        return await self._read_for(filter_.namespace, waits.find, filter_, self._unreadable)

    async def get_unreadable(self, wait_id: str, namespace: str | None = None) -> UnreadableWait | None:
        """See `ApiStore`."""
        return await self._read_for(namespace, unreadable.get, wait_id, namespace, self._unreadable)

    async def find_unreadable(self, filter_: WaitFilter) -> Sequence[UnreadableWait]:
        """See `ApiStore`."""
        return await self._read_for(filter_.namespace, unreadable.find, filter_, self._unreadable)

    async def check_unreadable(self) -> None:
        """See `MaintenanceStore`."""
        await self._read(unreadable.check, self._unreadable)

    async def scrub(self, after: str | None, limit: int) -> str | None:
        """See `MaintenanceStore`."""
        return await self._read(waits.scrub, after, limit, self._unreadable)

    def unreadable_counts(self) -> Mapping[str, int]:
        """The number of unreadable rows by table."""
        return self._unreadable.counts()

    async def find_replays(self, submits: Sequence[IdempotentSubmit]) -> Sequence[Inserted | Conflict | None]:
        """See `ApiStore`."""
        namespace = submits[0].namespace if submits else None
        return await self._read_for(namespace, wait_keys.find_replays, submits, self._unreadable)

    async def load_waiting(self, after: WaitId | None, limit: int) -> Sequence[StoredWait]:
        """See `PokerStore`."""
        return await self._read(waits.load_waiting, after, limit, self._unreadable)

    async def waiting_ids(self, after: WaitId | None, limit: int) -> Sequence[WaitId]:
        """See `PokerStore`."""
        return await self._read(waits.waiting_ids, after, limit, self._unreadable)

    async def jobs_to_cancel(self, after: WaitId | None, limit: int) -> Sequence[StoredWait]:
        """See `JobStore`."""
        return await self._read(waits.jobs_to_cancel, after, limit, self._unreadable)

    async def counts(self) -> Mapping[tuple[str, str], int]:
        """See `ApiStore`."""
        return await self._read(waits.counts)

    async def find_deliveries(self, filter_: DeliveryFilter) -> Sequence[StoredDelivery]:
        """See `ApiStore`."""
        return await self._read_for(filter_.namespace, deliveries.find, filter_)

    async def delivery_counts(self) -> Mapping[str, int]:
        """The number of deliveries by state."""
        return await self._read(deliveries.counts)

    async def due_destinations(self, now: float) -> Sequence[str]:
        """See `OutboxStore`."""
        return await self._read(deliveries.due_destinations, now)

    async def next_attempt_at(self) -> float | None:
        """See `OutboxStore`."""
        return await self._read(deliveries.next_attempt_at)

    async def count_redeliveries(self, namespace: str) -> Usage:
        """See `ApiStore`."""
        return await self._read_for(namespace, count_redeliveries, [namespace])

    async def check_resumable(self, seq: int) -> None:
        """See `ApiStore`."""
        await self._read_for(None, event_log.check_resumable, seq)

    async def events_after(self, seq: int, namespace: str | None, limit: int) -> Sequence[StoredEvent]:
        """See `ApiStore`."""
        return await self._read_for(namespace, event_log.events_after, seq, namespace, limit)

    async def find_costs(self, filter_: CostFilter) -> CostSums:
        """See `ApiStore`."""
        return await self._read_for(filter_.namespace, costs.find, filter_)

    async def find_audit(self, filter_: AuditFilter) -> Sequence[StoredAuditEntry]:
        """See `ApiStore`."""
        return await self._read_for(None, administration.find_audit, filter_, self._unreadable)

    async def api_keys(self) -> Sequence[ApiKey]:
        """See `KeyStore`."""
        return await self._read(administration.all_api_keys, self._unreadable)

    async def signals(self, namespace: str, key: str) -> Sequence[Any]:
        """See `SignalStore`."""
        return await self._read(administration.signal_payloads, namespace, key, self._unreadable)

    async def signal_keys(self) -> Sequence[Signal]:
        """See `SignalStore`."""
        return await self._read(administration.signal_keys)

    async def airflow_connections(self) -> Sequence[str]:
        """See `SweepStore`."""
        return await self._read(airflow_waits.connections)

    async def find_airflow_waits(
        self, conn_id: str, after: WaitId | None, limit: int
    ) -> Sequence[AirflowWait]:
        """See `SweepStore`."""
        return await self._read(airflow_waits.find, conn_id, after, limit)
