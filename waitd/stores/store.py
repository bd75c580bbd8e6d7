"""The store, as `waitd.ports` declares it.

Its bases have the writes on the way of a wait: `Writer` has `insert`, and `WaitEnds` has `finish`.
"""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from waitd.core.auth.api_key import ApiKey
from waitd.core.auth.quotas import Kept, KeptLimits
from waitd.core.costs.model import MeasuredUsage
from waitd.core.disk_room import DiskSpace
from waitd.core.waits.audit import AuditEntry, Caller
from waitd.core.waits.delivery import RETRY_DELAYS, AfterAttempt, DeliveryId, DeliveryState
from waitd.core.waits.job_cancel import JobCancel
from waitd.core.waits.retention import excess_bytes
from waitd.core.waits.submission import Submission
from waitd.core.waits.wait import Progress, WaitId
from waitd.ports import (
    DeliveryFilter,
    OutboxItem,
    PrunedBytes,
    Redelivered,
    SignalKey,
    StoredWait,
    StoreListener,
)
from waitd.stores.codec import well_formed
from waitd.stores.database import Database
from waitd.stores.operations import maintenance, signals
from waitd.stores.operations.commands import (
    CheckWritable,
    ClampAttempts,
    DeleteApiKeys,
    DeleteEnded,
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
from waitd.stores.operations.finish import WaitEnds
from waitd.stores.operations.transaction import CostRules, StoreRules
from waitd.stores.queries import (
    deliveries,
)
from waitd.stores.writer import Writer

P = ParamSpec("P")
T = TypeVar("T")


class Store(WaitEnds, Writer):
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
        listeners: Sequence[StoreListener] = (),
        live_progress: Callable[[WaitId], Progress | None] = lambda _: None,
        measure: Callable[[StoredWait, float], MeasuredUsage | None] = lambda _, __: None,
        now: Callable[[], float] = time.time,
        retry_delays: Sequence[float] = RETRY_DELAYS,
        costs: CostRules | None = None,
        limits: KeptLimits | None = None,
    ) -> None:
        """Starts the writer on the running loop.

        Args:
            database: an open database; `close` closes it.
            destination_of: the destination of a sink, by its namespace and its parameters with
                `kind`.
                A delivery whose sink it refuses with `InvalidInput` is stored all the same.
            listeners: what is called about every change, in this order.
            live_progress: the progress of a wait up to its last poke, where that is not stored.
            measure: what a wait that ends after so many seconds has used; None: not measured.
            now: the wall clock, Unix seconds.
            retry_delays: pauses before each delivery attempt, seconds.
            costs: how costs are summed.
            limits: how much each namespace and each principal may keep; None: any amount.
        """
        rules = StoreRules(
            now,
            retry_delays,
            destination_of,
            costs or CostRules(),
            live_progress,
            measure,
            limits or KeptLimits(),
        )
        super().__init__(database, rules, listeners)

    @property
    def event_secret(self) -> int:
        """See `ApiStore`."""
        return self._database.event_secret

    @property
    def loss(self) -> str:
        """What happened to the database's files under the daemon; "" if nothing."""
        return self._database.loss

    async def check_files(self) -> None:
        """Looks whether the database's files are still those that were opened."""
        await self._database.check_files()

    async def disk_space(self) -> DiskSpace | None:
        """See `Database.disk_space`."""
        return await self._database.disk_space()

    async def save_progress(self, rows: Sequence[tuple[WaitId, Progress]]) -> None:
        """See `PokerStore`."""
        await self._execute(SaveProgress(rows))

    async def save_attempt(self, delivery_id: DeliveryId, after: AfterAttempt, at: float) -> None:
        """See `OutboxStore`."""
        await self._execute(SaveAttempt(delivery_id, after, at))

    async def redeliver(
        self, wait_id: str, namespace: str | None = None, by: Caller | None = None
    ) -> StoredWait:
        """See `ApiStore`. A superseded wait is a Conflict: its event is not delivered any more."""
        return await self._execute(Redeliver(well_formed(wait_id), namespace, by=by))

    async def redeliver_each(
        self, ids: Sequence[str], namespace: str | None = None, by: Caller | None = None
    ) -> Redelivered:
        """See `ApiStore`."""
        unique = list(dict.fromkeys(map(well_formed, ids)))
        return Redelivered(await self._execute(RedeliverEach(unique, namespace, by=by)), more=False)

    async def redeliver_dead(self, filter_: DeliveryFilter, by: Caller | None = None) -> Redelivered:
        """See `ApiStore`."""
        # The search may take long, so it runs outside of the transaction, which checks the result
        # again.
        ids = await self._read_for(filter_.namespace, deliveries.find_dead, filter_)
        chosen = ids[: filter_.limit]
        command = RedeliverEach(chosen, filter_.namespace, dead_only=True, by=by)
        return Redelivered(await self._execute(command), more=len(ids) > len(chosen))

    async def prune(self, finished_before: float, limit: int) -> int:
        """See `MaintenanceStore`."""
        return await self._execute(PruneWaits(finished_before, limit))

    async def prune_bytes(self, most: int, since: float, limit: int) -> PrunedBytes:
        """See `MaintenanceStore`."""
        excess = excess_bytes(self.usage.by_namespace(Kept.ENDED_BYTES), most)
        if not excess:
            return PrunedBytes(0, None)
        # The search runs outside of the transaction, which checks the result again.
        chosen = await self._read(maintenance.find_longest_ended, excess, since, limit)
        handles, next_at = chosen
        deleted = await self._execute(DeleteEnded(handles)) if handles else 0
        if deleted and deleted == len(handles):
            return PrunedBytes(deleted, next_at)
        if (
            not deleted and next_at is not None and next_at <= since
        ):  # many ended together, and cannot be deleted yet
            next_at = math.nextafter(since, math.inf)
        return PrunedBytes(deleted, next_at)

    async def prune_audit(self, before: float, limit: int, keep: int) -> int:
        """See `MaintenanceStore`."""
        return await self._execute(PruneAudit(before, limit, keep))

    async def save_audit_entry(self, entry: AuditEntry) -> None:
        """See `ApiStore`."""
        await self._execute(SaveAuditEntry(entry))

    async def save_api_keys(self, keys: Sequence[ApiKey], entry: AuditEntry | None = None) -> None:
        """See `KeyStore`."""
        await self._execute(SaveApiKeys(keys, entry))

    async def delete_api_keys(self, key_ids: Sequence[str]) -> None:
        """See `KeyStore`."""
        await self._execute(DeleteApiKeys(key_ids))

    async def save_submission(
        self, wait_id: WaitId, submission: Submission, *, only_waiting: bool = False
    ) -> bool:
        """See `JobStore`."""
        return await self._execute(SaveSubmission(wait_id, submission, only_waiting))

    async def save_job_cancel(self, wait_id: WaitId, job_cancel: JobCancel) -> None:
        """See `JobStore`."""
        await self._execute(SaveJobCancel(wait_id, job_cancel))

    async def save_signal(self, namespace: str, key: str, payload: Any, by: Caller | None = None) -> None:
        """See `ApiStore`."""
        await self._execute(signals.make_command(namespace, key, payload, by))

    async def prune_signals(self, before: float, limit: int) -> Sequence[SignalKey]:
        """See `SignalStore`."""
        return await self._execute(PruneSignals(before, limit))

    async def save_overhead(self, measured: MeasuredUsage, before: float) -> None:
        """See `MaintenanceStore`."""
        await self._execute(SaveOverhead(measured, before))

    async def shift_schedules(self, moved: float) -> None:
        """See `MaintenanceStore`."""
        await self._execute(ShiftSchedules(moved))

    async def clamp_attempts(self) -> None:
        """See `OutboxStore`."""
        await self._execute(ClampAttempts())

    async def check_writable(self) -> None:
        """See `MaintenanceStore`."""
        await self._execute(CheckWritable())

    async def due_items(
        self, destination: str, now: float, limit: int, exclude: frozenset[DeliveryId]
    ) -> Sequence[OutboxItem]:
        """See `OutboxStore`."""
        items, broken = await self._read(
            deliveries.due_items, destination, now, limit, exclude, self._unreadable
        )
        for delivery_id, error in broken.items():
            self._unreadable.add("deliveries", delivery_id, error)
            dead = AfterAttempt(DeliveryState.DEAD, 0, None, f"It cannot be read: {error}")
            await self.save_attempt(delivery_id, dead, now)
        return items
