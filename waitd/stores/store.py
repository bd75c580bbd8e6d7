"""The store's face: what `waitd.ports` asks of it."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

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
    UnstoredOutcome,
    WaitFilter,
)
from waitd.stores.database import Database
from waitd.stores.operations import airflow_index as telling
from waitd.stores.operations import audit, jobs, keys, signals
from waitd.stores.operations import costs as summed
from waitd.stores.operations import insert as adding
from waitd.stores.operations.requests import (
    Cancel,
    CheckWritable,
    DeleteKeys,
    FinishWait,
    Prune,
    PruneAudit,
    PruneSignals,
    Redeliver,
    RedeliverEach,
    SaveAttempt,
    SaveAuditEntry,
    SaveJobCancel,
    SaveKeys,
    SaveOverhead,
    SaveProgress,
    SaveSubmission,
)
from waitd.stores.operations.transaction import CostRules, RetentionRules
from waitd.stores.queries import event_log as following
from waitd.stores.queries import reading
from waitd.stores.text import well_formed
from waitd.stores.writer import Writer


class Store:
    """Waits and the outbox in one SQLite file, which is this store's alone. Implements `PokerStore`, `OutboxStore`, `KeeperStore`,
    `KeyStore`, `JobStore`, `SignalStore` and `ApiStore`; what each call promises is said there.

    Every call that writes returns when its change is on disk, and raises `StoreUnavailable` where it is not, and never will be.
    """

    def __init__(
        self, database: Database, writer: Writer, now: Callable[[], float], event_secret: int
    ) -> None:
        self._database = database
        self._writer = writer
        self._now = now
        self._event_secret = event_secret

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        destination_of: Callable[[str, Mapping[str, Any]], str],
        now: Callable[[], float] = time.time,
        retry_delays: Sequence[float] = RETRY_DELAYS,
        costs: CostRules = CostRules(),  # noqa: B008 - a NamedTuple does not change
    ) -> "Store":
        """Opens the database, made and migrated where needed, and starts the writer on the running loop.

        Args:
            url: a SQLAlchemy URL, `sqlite+aiosqlite:///PATH`; without a path the database lives in memory.
            destination_of: (namespace, a sink's parameters with its `kind`) to its destination; an `InvalidInput` loses no delivery.
            now: the wall clock, Unix seconds.
            retry_delays: pauses before each delivery attempt, seconds.
            costs: how costs are added up.

        Raises:
            StoreUnusable: the database is another daemon's, of a newer waitd, or none that can be opened.
            StoreUnavailable: it cannot be opened now: full disk, locked by another program.
        """
        database = await Database.open(url)
        try:
            async with database.reading() as link:
                finished_seq = await following.last_finished_seq(link)
                event_secret = await following.event_secret(link)
        except BaseException:
            await database.close()
            raise
        writer = Writer(database, RetentionRules(now, retry_delays, destination_of, costs), finished_seq)
        writer.start()
        return cls(database, writer, now, event_secret)

    async def close(self) -> None:
        """Writes what is queued, then closes the file. Later calls that write raise `StoreUnavailable`."""
        await self._writer.close()
        await self._database.close()

    # ---------------------------------------------------------------- news, told by the writer

    @property
    def on_added(self) -> Callable[[Sequence[StoredWait]], None]:
        """Called on the loop with waits that are new and waiting: after COMMIT and before their callers have their answer."""
        return self._writer.on_added

    @on_added.setter
    def on_added(self, listener: Callable[[Sequence[StoredWait]], None]) -> None:
        self._writer.on_added = listener

    @property
    def on_ended(self) -> Callable[[Sequence[StoredOutcome]], None]:
        """The same with every wait that ended: finished, cancelled or superseded (also one that `on_added` never named, because a
        newer one took its key in the same transaction).
        """
        return self._writer.on_ended

    @on_ended.setter
    def on_ended(self, listener: Callable[[Sequence[StoredOutcome]], None]) -> None:
        self._writer.on_ended = listener

    @property
    def on_redelivered(self) -> Callable[[frozenset[str]], None]:
        """The same with the destinations that `redeliver` queued something for."""
        return self._writer.on_redelivered

    @on_redelivered.setter
    def on_redelivered(self, listener: Callable[[frozenset[str]], None]) -> None:
        self._writer.on_redelivered = listener

    @property
    def on_signals(self) -> Callable[[Sequence[Signal]], None]:
        """The same with signals that came."""
        return self._writer.on_signals

    @on_signals.setter
    def on_signals(self, listener: Callable[[Sequence[Signal]], None]) -> None:
        self._writer.on_signals = listener

    @property
    def measured(self) -> Callable[[StoredWait, float], MeasuredUsage | None]:
        """Asked, while a wait ends, what it has used in so many seconds; None where that is not measured."""
        return self._writer.measured

    @measured.setter
    def measured(self, ask: Callable[[StoredWait, float], MeasuredUsage | None]) -> None:
        self._writer.measured = ask

    @property
    def live_progress(self) -> Callable[[WaitId], Progress | None]:
        """Asked, while a wait is being cancelled or superseded, what it has learned so far; None where nobody holds it. Its row may lag
        behind by a minute.
        """
        return self._writer.live_progress

    @live_progress.setter
    def live_progress(self, ask: Callable[[WaitId], Progress | None]) -> None:
        self._writer.live_progress = ask

    @property
    def finished_seq(self) -> int:
        """See `ApiStore`."""
        return self._writer.finished_seq

    @property
    def event_secret(self) -> int:
        """See `ApiStore`."""
        return self._event_secret

    @property
    def failing(self) -> bool:
        """True while the last write could not be made."""
        return self._writer.failing

    # ---------------------------------------------------------------- writes

    async def insert(
        self, waits: Sequence[NewWait], by: Caller | None = None
    ) -> Sequence[Inserted | Exception]:
        """See `ApiStore`. A wait that cannot be kept as JSON is answered with `InvalidInput`, the others are stored."""
        operation = await adding.prepare(waits, self._now(), by)
        answers: Sequence[Inserted | Exception] = await self._writer.do(operation)
        return answers

    async def finish(self, ending: UnstoredOutcome) -> StoredOutcome | None:
        """See `PokerStore`."""
        ended: StoredOutcome | None = await self._writer.do(FinishWait(ending))
        return ended

    async def save_progress(self, rows: Sequence[tuple[WaitId, Progress]]) -> None:
        """See `PokerStore`."""
        await self._writer.do(SaveProgress(rows))

    async def save_attempt(self, delivery_id: DeliveryId, after: AfterAttempt, at: float) -> None:
        """See `OutboxStore`."""
        await self._writer.do(SaveAttempt(delivery_id, after, at))

    async def cancel(
        self, wait_id: str, outcome: Outcome, namespace: str | None = None, by: Caller | None = None
    ) -> StoredWait:
        """See `ApiStore`."""
        wait: StoredWait = await self._writer.do(Cancel(well_formed(wait_id), outcome, namespace, by=by))
        return wait

    async def redeliver(
        self, wait_id: str, namespace: str | None = None, by: Caller | None = None
    ) -> StoredWait:
        """See `ApiStore`. A superseded wait is a Conflict too: nothing of it is delivered any more."""
        wait: StoredWait = await self._writer.do(Redeliver(well_formed(wait_id), namespace, by=by))
        return wait

    async def redeliver_each(
        self, ids: Sequence[str], namespace: str | None = None, by: Caller | None = None
    ) -> Redelivered:
        """See `ApiStore`."""
        wanted = list(dict.fromkeys(map(well_formed, ids)))
        count: int = await self._writer.do(RedeliverEach(wanted, namespace, by=by))
        return Redelivered(count, more=False)

    async def redeliver_dead(self, wanted: DeliveryFilter, by: Caller | None = None) -> Redelivered:
        """See `ApiStore`."""
        # They are looked for outside of the transaction, which then looks at these few only: the search may take long.
        async with self._database.reading() as link:
            ids = await reading.dead_deliveries(link, wanted)
        chosen = ids[: wanted.limit]
        count: int = await self._writer.do(RedeliverEach(chosen, wanted.namespace, dead_only=True, by=by))
        return Redelivered(count, more=len(ids) > len(chosen))

    async def prune(self, finished_before: float, limit: int) -> int:
        """See `KeeperStore`."""
        count: int = await self._writer.do(Prune(finished_before, limit))
        return count

    async def prune_audit(self, before: float, limit: int) -> int:
        """See `KeeperStore`."""
        count: int = await self._writer.do(PruneAudit(before, limit))
        return count

    async def save_audit_entry(self, change: AuditEntry) -> None:
        """See `ApiStore`."""
        await self._writer.do(SaveAuditEntry(change))

    async def save_api_keys(self, keys: Sequence[ApiKey], change: AuditEntry | None = None) -> None:
        """See `KeyStore`."""
        await self._writer.do(SaveKeys(keys, change))

    async def delete_api_keys(self, key_ids: Sequence[str]) -> None:
        """See `KeyStore`."""
        await self._writer.do(DeleteKeys(key_ids))

    async def save_submission(
        self, wait_id: WaitId, submission: Submission, *, only_waiting: bool = False
    ) -> bool:
        """See `JobStore`."""
        kept: bool = await self._writer.do(SaveSubmission(wait_id, submission, only_waiting))
        return kept

    async def save_job_cancel(self, wait_id: WaitId, job_cancel: JobCancel) -> None:
        """See `JobStore`."""
        await self._writer.do(SaveJobCancel(wait_id, job_cancel))

    async def save_signal(self, namespace: str, key: str, payload: Any, by: Caller | None = None) -> None:
        """See `SignalStore`. Raises InvalidInput where the payload is no JSON."""
        await self._writer.do(signals.prepare(namespace, key, payload, by))

    async def prune_signals(self, before: float, limit: int) -> Sequence[SignalKey]:
        """See `SignalStore`."""
        keys: Sequence[SignalKey] = await self._writer.do(PruneSignals(before, limit))
        return keys

    async def save_overhead(self, measured: MeasuredUsage) -> None:
        """See `KeeperStore`."""
        await self._writer.do(SaveOverhead(measured))

    async def check_writable(self) -> None:
        """See `KeeperStore`."""
        await self._writer.do(CheckWritable())

    # ---------------------------------------------------------------- reads; StoreUnavailable where the file cannot be read now

    async def get(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        """See `ApiStore`."""
        async with self._database.reading() as link:
            return await reading.get(link, wait_id, namespace)

    async def find(self, wanted: WaitFilter) -> Sequence[StoredWait]:
        """See `ApiStore`."""
        async with self._database.reading() as link:
            return await reading.find(link, wanted)

    async def replays(self, submits: Sequence[IdempotentSubmit]) -> Sequence[Inserted | Conflict | None]:
        """See `ApiStore`."""
        async with self._database.reading() as link:
            return await adding.replays(link, submits)

    async def find_deliveries(self, wanted: DeliveryFilter) -> Sequence[StoredDelivery]:
        """See `ApiStore`."""
        async with self._database.reading() as link:
            return await reading.find_deliveries(link, wanted)

    async def check_resumable(self, seq: int) -> None:
        """See `ApiStore`."""
        async with self._database.reading() as link:
            await following.check_resumable(link, seq)

    async def events_after(self, seq: int, namespace: str | None, limit: int) -> Sequence[StoredEvent]:
        """See `ApiStore`."""
        async with self._database.reading() as link:
            return await following.events_after(link, seq, namespace, limit)

    async def api_keys(self) -> Sequence[ApiKey]:
        """See `KeyStore`."""
        async with self._database.reading() as link:
            return await keys.stored(link)

    async def find_audit(self, wanted: AuditFilter) -> Sequence[StoredAuditEntry]:
        """See `ApiStore`."""
        async with self._database.reading() as link:
            return await audit.find(link, wanted)

    async def jobs_to_cancel(self, after: WaitId | None, limit: int) -> Sequence[StoredWait]:
        """See `JobStore`."""
        async with self._database.reading() as link:
            return await jobs.to_cancel(link, after, limit)

    async def signals(self, namespace: str, key: str) -> Sequence[Any]:
        """See `SignalStore`."""
        async with self._database.reading() as link:
            return await signals.of_key(link, namespace, key)

    async def signal_keys(self) -> Sequence[Signal]:
        """See `SignalStore`."""
        async with self._database.reading() as link:
            return await signals.keys(link)

    async def find_costs(self, wanted: CostFilter) -> CostSums:
        """See `ApiStore`."""
        async with self._database.reading() as link:
            return await summed.find(link, wanted)

    async def counts(self) -> Mapping[tuple[str, str], int]:
        """See `ApiStore`."""
        async with self._database.reading() as link:
            return await reading.counts(link)

    async def delivery_counts(self) -> Mapping[str, int]:
        """How many deliveries there are by state."""
        async with self._database.reading() as link:
            return await reading.delivery_counts(link)

    async def load_waiting(self, after: WaitId | None, limit: int) -> Sequence[StoredWait]:
        """See `PokerStore`."""
        async with self._database.reading() as link:
            return await reading.load_waiting(link, after, limit)

    async def waiting_ids(self, after: WaitId | None, limit: int) -> Sequence[WaitId]:
        """See `PokerStore`."""
        async with self._database.reading() as link:
            return await reading.waiting_ids(link, after, limit)

    async def due_destinations(self, now: float) -> Sequence[str]:
        """See `OutboxStore`."""
        async with self._database.reading() as link:
            return await reading.due_destinations(link, now)

    async def next_attempt_at(self) -> float | None:
        """See `OutboxStore`."""
        async with self._database.reading() as link:
            return await reading.next_attempt_at(link)

    async def due_items(
        self, destination: str, now: float, limit: int, leave_out: frozenset[DeliveryId]
    ) -> Sequence[OutboxItem]:
        """See `OutboxStore`."""
        async with self._database.reading() as link:
            return await reading.due_items(link, destination, now, limit, leave_out)

    async def airflow_connections(self) -> Sequence[str]:
        """See `SweptStore`."""
        async with self._database.reading() as link:
            return await telling.airflow_connections(link)

    async def find_airflow_waits(
        self, conn_id: str, after: WaitId | None, limit: int
    ) -> Sequence[AirflowWait]:
        """See `SweptStore`."""
        async with self._database.reading() as link:
            return await telling.find_airflow_waits(link, conn_id, after, limit)
