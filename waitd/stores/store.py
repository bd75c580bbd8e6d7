"""The store's public methods, as `waitd.ports` declares them."""

import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

from waitd.core.auth.api_key import ApiKey
from waitd.core.costs.model import MeasuredUsage
from waitd.core.errors import Conflict
from waitd.core.waits.audit import AuditEntry, Caller
from waitd.core.waits.delivery import RETRY_DELAYS, AfterAttempt, DeliveryId
from waitd.core.waits.submission import JobCancel, Submission
from waitd.core.waits.wait import Outcome, Progress, WaitId
from waitd.ports import (
    AirflowWait,
    AuditFilter,
    CostFilter,
    CostSums,
    DeliveryFilter,
    IdempotentSubmit,
    Inserted,
    NewWait,
    OutboxItem,
    Redelivered,
    Signal,
    SignalKey,
    StoredAuditEntry,
    StoredDelivery,
    StoredEvent,
    StoredOutcome,
    StoredWait,
    StoreListener,
    UnstoredOutcome,
    WaitFilter,
)
from waitd.stores.codec import well_formed
from waitd.stores.database import Database
from waitd.stores.operations import insert, signals
from waitd.stores.operations.commands import (
    Cancel,
    CheckWritable,
    ClampAttempts,
    DeleteApiKeys,
    FinishWait,
    PruneAudit,
    PruneSignals,
    PruneWaits,
    Redeliver,
    RedeliverEach,
    SaveApiKeys,
    SaveAttempt,
    SaveAuditEntry,
    SaveJobCancel,
    SaveOverhead,
    SaveProgress,
    SaveSubmission,
    ShiftSchedules,
)
from waitd.stores.operations.transaction import CostRules, StoreRules
from waitd.stores.queries import administration, airflow_waits, costs, deliveries, event_log, waits
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")


class Store:
    """Waits and the outbox in one database. Implements every store protocol of `waitd.ports`.

    The protocols document the methods. A method that writes returns when its change is on disk; it
    raises `StoreUnavailable` if the change is not on disk and never will be. A method that reads
    raises `StoreUnavailable` if the file cannot be read now.
    """

    def __init__(
        self,
        database: Database,
        *,
        destination_of: Callable[[str, Mapping[str, Any]], str],
        listener: StoreListener | None = None,
        now: Callable[[], float] = time.time,
        retry_delays: Sequence[float] = RETRY_DELAYS,
        costs: CostRules | None = None,
    ) -> None:
        """Starts the writer on the running loop.

        Args:
            database: an open database; `close` closes it.
            destination_of: the destination of a sink, by its namespace and its parameters with
                `kind`.
                A delivery whose sink it refuses with `InvalidInput` is stored all the same.
            listener: what is called about every change.
            now: the wall clock, Unix seconds.
            retry_delays: pauses before each delivery attempt, seconds.
            costs: how costs are summed.
        """
        self._database = database
        self._now = now
        rules = StoreRules(now, retry_delays, destination_of, costs or CostRules())
        self._writer = Writer(database, rules, listener or StoreListener())

    async def close(self) -> None:
        """Commits what is queued, then closes the database.

        Later writes raise `StoreUnavailable`.
        """
        await self._writer.close()
        await self._database.close()

    @property
    def finished_seq(self) -> int:
        """See `ApiStore`."""
        return self._writer.finished_seq

    @property
    def event_secret(self) -> int:
        """See `ApiStore`."""
        return self._database.event_secret

    @property
    def failing(self) -> bool:
        """Whether the last write failed."""
        return self._writer.failing

    # ---------------------------------------------------------------- writes

    async def insert(
        self, new_waits: Sequence[NewWait], by: Caller | None = None
    ) -> Sequence[Inserted | Exception]:
        """See `ApiStore`.

        A wait with invalid text gets `InvalidInput` as its answer; the others are stored.
        """
        return await self._writer.execute(await insert.prepare(new_waits, self._now(), by))

    async def finish(self, outcome: UnstoredOutcome) -> StoredOutcome | None:
        """See `PokerStore`."""
        return await self._writer.execute(FinishWait(outcome))

    async def save_progress(self, rows: Sequence[tuple[WaitId, Progress]]) -> None:
        """See `PokerStore`."""
        await self._writer.execute(SaveProgress(rows))

    async def save_attempt(self, delivery_id: DeliveryId, after: AfterAttempt, at: float) -> None:
        """See `OutboxStore`."""
        await self._writer.execute(SaveAttempt(delivery_id, after, at))

    async def cancel(
        self, wait_id: str, outcome: Outcome, namespace: str | None = None, by: Caller | None = None
    ) -> StoredWait:
        """See `ApiStore`."""
        return await self._writer.execute(Cancel(well_formed(wait_id), outcome, namespace, by=by))

    async def redeliver(
        self, wait_id: str, namespace: str | None = None, by: Caller | None = None
    ) -> StoredWait:
        """See `ApiStore`. A superseded wait is a Conflict: its event is not delivered any more."""
        return await self._writer.execute(Redeliver(well_formed(wait_id), namespace, by=by))

    async def redeliver_each(
        self, ids: Sequence[str], namespace: str | None = None, by: Caller | None = None
    ) -> Redelivered:
        """See `ApiStore`."""
        unique = list(dict.fromkeys(map(well_formed, ids)))
        return Redelivered(await self._writer.execute(RedeliverEach(unique, namespace, by=by)), more=False)

    async def redeliver_dead(self, filter_: DeliveryFilter, by: Caller | None = None) -> Redelivered:
        """See `ApiStore`."""
        # The search may take long, so it runs outside of the transaction, which checks the result
        # again.
        ids = await self._read(deliveries.find_dead, filter_)
        chosen = ids[: filter_.limit]
        command = RedeliverEach(chosen, filter_.namespace, dead_only=True, by=by)
        return Redelivered(await self._writer.execute(command), more=len(ids) > len(chosen))

    async def prune(self, finished_before: float, limit: int) -> int:
        """See `MaintenanceStore`."""
        return await self._writer.execute(PruneWaits(finished_before, limit))

    async def prune_audit(self, before: float, limit: int) -> int:
        """See `MaintenanceStore`."""
        return await self._writer.execute(PruneAudit(before, limit))

    async def save_audit_entry(self, entry: AuditEntry) -> None:
        """See `ApiStore`."""
        await self._writer.execute(SaveAuditEntry(entry))

    async def save_api_keys(self, keys: Sequence[ApiKey], entry: AuditEntry | None = None) -> None:
        """See `KeyStore`."""
        await self._writer.execute(SaveApiKeys(keys, entry))

    async def delete_api_keys(self, key_ids: Sequence[str]) -> None:
        """See `KeyStore`."""
        await self._writer.execute(DeleteApiKeys(key_ids))

    async def save_submission(
        self, wait_id: WaitId, submission: Submission, *, only_waiting: bool = False
    ) -> bool:
        """See `JobStore`."""
        return await self._writer.execute(SaveSubmission(wait_id, submission, only_waiting))

    async def save_job_cancel(self, wait_id: WaitId, job_cancel: JobCancel) -> None:
        """See `JobStore`."""
        await self._writer.execute(SaveJobCancel(wait_id, job_cancel))

    async def save_signal(self, namespace: str, key: str, payload: Any, by: Caller | None = None) -> None:
        """See `ApiStore`."""
        await self._writer.execute(signals.prepare(namespace, key, payload, by))

    async def prune_signals(self, before: float, limit: int) -> Sequence[SignalKey]:
        """See `SignalStore`."""
        return await self._writer.execute(PruneSignals(before, limit))

    async def save_overhead(self, measured: MeasuredUsage) -> None:
        """See `MaintenanceStore`."""
        await self._writer.execute(SaveOverhead(measured))

    async def shift_schedules(self, moved: float) -> None:
        """See `MaintenanceStore`."""
        await self._writer.execute(ShiftSchedules(moved))

    async def clamp_attempts(self) -> None:
        """See `OutboxStore`."""
        await self._writer.execute(ClampAttempts())

    async def check_writable(self) -> None:
        """See `MaintenanceStore`."""
        await self._writer.execute(CheckWritable())

    # ---------------------------------------------------------------- reads

    async def _read(
        self,
        query: Callable[Concatenate[ConnectionThread, P], Awaitable[T]],
        *args: P.args,
        **kwargs: P.kwargs,
    ) -> T:
        """Runs a query on a reading connection."""
        async with self._database.reading() as connection:
            return await query(connection, *args, **kwargs)

    async def get(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        """See `ApiStore`."""
        return await self._read(waits.get, wait_id, namespace)

    async def find(self, filter_: WaitFilter) -> Sequence[StoredWait]:
        """See `ApiStore`."""
        return await self._read(waits.find, filter_)

    async def find_replays(self, submits: Sequence[IdempotentSubmit]) -> Sequence[Inserted | Conflict | None]:
        """See `ApiStore`."""
        return await self._read(waits.find_replays, submits)

    async def load_waiting(self, after: WaitId | None, limit: int) -> Sequence[StoredWait]:
        """See `PokerStore`."""
        return await self._read(waits.load_waiting, after, limit)

    async def waiting_ids(self, after: WaitId | None, limit: int) -> Sequence[WaitId]:
        """See `PokerStore`."""
        return await self._read(waits.waiting_ids, after, limit)

    async def jobs_to_cancel(self, after: WaitId | None, limit: int) -> Sequence[StoredWait]:
        """See `JobStore`."""
        return await self._read(waits.jobs_to_cancel, after, limit)

    async def counts(self) -> Mapping[tuple[str, str], int]:
        """See `ApiStore`."""
        return await self._read(waits.counts)

    async def find_deliveries(self, filter_: DeliveryFilter) -> Sequence[StoredDelivery]:
        """See `ApiStore`."""
        return await self._read(deliveries.find, filter_)

    async def delivery_counts(self) -> Mapping[str, int]:
        """The number of deliveries by state."""
        return await self._read(deliveries.counts)

    async def due_destinations(self, now: float) -> Sequence[str]:
        """See `OutboxStore`."""
        return await self._read(deliveries.due_destinations, now)

    async def next_attempt_at(self) -> float | None:
        """See `OutboxStore`."""
        return await self._read(deliveries.next_attempt_at)

    async def due_items(
        self, destination: str, now: float, limit: int, exclude: frozenset[DeliveryId]
    ) -> Sequence[OutboxItem]:
        """See `OutboxStore`."""
        return await self._read(deliveries.due_items, destination, now, limit, exclude)

    async def check_resumable(self, seq: int) -> None:
        """See `ApiStore`."""
        await self._read(event_log.check_resumable, seq)

    async def events_after(self, seq: int, namespace: str | None, limit: int) -> Sequence[StoredEvent]:
        """See `ApiStore`."""
        return await self._read(event_log.events_after, seq, namespace, limit)

    async def find_costs(self, filter_: CostFilter) -> CostSums:
        """See `ApiStore`."""
        return await self._read(costs.find, filter_)

    async def find_audit(self, filter_: AuditFilter) -> Sequence[StoredAuditEntry]:
        """See `ApiStore`."""
        return await self._read(administration.find_audit, filter_)

    async def api_keys(self) -> Sequence[ApiKey]:
        """See `KeyStore`."""
        return await self._read(administration.all_api_keys)

    async def signals(self, namespace: str, key: str) -> Sequence[Any]:
        """See `SignalStore`."""
        return await self._read(administration.signal_payloads, namespace, key)

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
