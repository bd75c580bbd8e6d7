"""The store, as each consumer needs it, and the rows that it gives and takes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from waitd.core.costs.model import MeasuredUsage
from waitd.core.errors import Conflict
from waitd.core.waits.audit import AuditEntry, Caller
from waitd.core.waits.delivery import AfterAttempt, DeliveryId
from waitd.core.waits.submission import JobCancel, Submission
from waitd.core.waits.wait import Outcome, Progress, WaitId, WaitSpec, WaitState, encode_spec
from waitd.ports.costs import CostFilter, CostSums
from waitd.ports.sinks import OutboxItem


class NewWait(Struct, gc=False):
    """A checked wait on its way into the store."""

    namespace: str
    spec: WaitSpec
    #: The specification as it is kept.
    text: str
    idempotency_key: str | None = None
    #: SHA-256 of the canonical JSON as sent, where there is a key.
    body_digest: bytes | None = None
    #: The target as parsed at submit; handed through to the poker, never stored.
    target: Any = None

    @classmethod
    def of(
        cls,
        namespace: str,
        spec: WaitSpec,
        idempotency_key: str | None = None,
        body_digest: bytes | None = None,
        target: Any = None,
    ) -> "NewWait":
        """One of these. Raises InvalidInput: its specification cannot be kept."""
        return cls(namespace, spec, encode_spec(spec), idempotency_key, body_digest, target)


@dataclass(frozen=True, slots=True)
class StoredDelivery:
    """One row of the outbox, as the API shows it. Times are Unix seconds."""

    id: DeliveryId
    wait_id: WaitId
    namespace: str
    sink: Mapping[str, Any]
    state: str
    attempts: int
    created_at: float
    next_attempt_at: float | None
    last_error: str | None


# Structs, as `WaitSpec`; the collector passes them over, since nothing that they hold leads back to them.
class StoredWait(Struct, gc=False):
    """One wait as the store knows it; nobody changes one. Times are Unix seconds."""

    id: WaitId
    namespace: str
    spec: WaitSpec
    state: WaitState
    created_at: float
    deadline: float
    progress: Progress
    outcome: Outcome | None = None
    finished_at: float | None = None
    deliveries: tuple[StoredDelivery, ...] = ()
    #: The parsed target of a wait that was submitted just now; None where it was read from the store.
    target: Any = None
    #: What is known of the job that it submits itself; None where it submits none.
    submission: Submission | None = None
    #: How far the cancelling of that job has come; None where it is not wanted.
    job_cancel: JobCancel | None = None
    #: What waitd used for it until its end; None until then, and where it was not measured.
    measured: MeasuredUsage | None = None


class Inserted(Struct, gc=False):
    """What became of a submitted wait: stored now, or the same one as before."""

    wait: StoredWait
    created: bool


class UnstoredOutcome(NamedTuple):
    """A wait that the poker saw end."""

    id: WaitId
    progress: Progress
    outcome: Outcome
    finished_at: float


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """A wait whose end is on disk."""

    wait: StoredWait
    #: Destinations that have something to deliver now.
    destinations: frozenset[str]


@dataclass(frozen=True, slots=True)
class WaitFilter:
    """Which waits to list, newest first."""

    namespace: str | None = None
    state: str | None = None
    kind: str | None = None
    labels: Mapping[str, str] | None = None
    before: WaitId | None = None
    limit: int = 100


class IdempotentSubmit(NamedTuple):
    """A submit under its caller's key: the namespace in which the key counts, and the SHA-256 of the canonical JSON as sent."""

    namespace: str
    key: str
    body_digest: bytes


@dataclass(frozen=True, slots=True)
class DeliveryFilter:
    """Which deliveries to list, newest first. `sink` is its kind."""

    namespace: str | None = None
    state: str | None = None
    sink: str | None = None
    wait_id: str | None = None
    before: DeliveryId | None = None
    limit: int = 100


class AuditFilter(NamedTuple):
    """Which lines of the audit to list, newest first. `before`: only those with a lower number."""

    principal: str | None = None
    action: str | None = None
    subject: str | None = None
    before: int | None = None
    limit: int = 100


class StoredAuditEntry(NamedTuple):
    """A line of the audit and its number; later ones have higher numbers."""

    number: int
    change: AuditEntry


class Redelivered(NamedTuple):
    """How many new deliveries were queued; `more`: whether the limit left out others."""

    deliveries: int
    more: bool


class StoredEvent(NamedTuple):
    """The end number `seq`: its event as it is delivered, or None where it belongs to another namespace than the one asked for."""

    seq: int
    event: bytes | None


class PokerStore(Protocol):
    """What the poker needs of the store."""

    async def finish(self, ending: UnstoredOutcome) -> StoredOutcome | None:
        """Ends a wait: state, event and outbox rows in one transaction. None: it had ended before (cancelled, superseded).

        Raises:
            StoreUnavailable: nothing was written; call again.
        """

    async def save_progress(self, rows: Sequence[tuple[WaitId, Progress]]) -> None:
        """Keeps what waits have learned; rows that have ended meanwhile are left alone. Raises StoreUnavailable."""

    async def load_waiting(self, after: WaitId | None, limit: int) -> Sequence[StoredWait]:
        """A page of waiting waits in the order of their ids."""

    async def waiting_ids(self, after: WaitId | None, limit: int) -> Sequence[WaitId]:
        """A page of the ids of waiting waits, in their order."""


class JobStore(Protocol):
    """What those who submit and cancel jobs need of the store."""

    async def save_submission(
        self, wait_id: WaitId, submission: Submission, *, only_waiting: bool = False
    ) -> bool:
        """Keeps what is known of a wait's job; with `only_waiting` not once the wait has ended. Whether it was kept. Raises
        StoreUnavailable.
        """

    async def save_job_cancel(self, wait_id: WaitId, job_cancel: JobCancel) -> None:
        """Keeps how far the cancelling of an ended wait's job has come. Raises StoreUnavailable."""

    async def jobs_to_cancel(self, after: WaitId | None, limit: int) -> Sequence[StoredWait]:
        """A page of ended waits whose jobs are still to be cancelled, in the order of their ids."""

    async def get(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        """One wait. Raises NotFound."""


class OutboxStore(Protocol):
    """What the deliverer needs of the store."""

    async def due_destinations(self, now: float) -> Sequence[str]:
        """Destinations with a queued delivery whose time has come."""

    async def next_attempt_at(self) -> float | None:
        """When the earliest queued delivery is due, Unix seconds."""

    async def due_items(
        self, destination: str, now: float, limit: int, leave_out: frozenset[DeliveryId]
    ) -> Sequence[OutboxItem]:
        """Up to `limit` due deliveries to one destination, the longest due first, but those already in hand."""

    async def save_attempt(self, delivery_id: DeliveryId, after: AfterAttempt, at: float) -> None:
        """Keeps what became of an attempt; a delivery that is no longer queued is left alone. Raises StoreUnavailable."""


class MaintenanceStore(Protocol):
    """What the keeper needs of the store."""

    async def prune(self, finished_before: float, limit: int) -> int:
        """Deletes up to `limit` ended waits whose deliveries are all settled; returns how many."""

    async def prune_audit(self, before: float, limit: int) -> int:
        """Deletes up to `limit` of the oldest lines of the audit, those from before a moment (Unix seconds); returns how many."""

    async def save_overhead(self, measured: MeasuredUsage) -> None:
        """Adds what the process used that belonged to no wait to today's sums; deletes old ones. Raises StoreUnavailable."""

    async def check_writable(self) -> None:
        """Commits something small. Raises StoreUnavailable."""


class ApiStore(Protocol):
    """What the API needs of the store. `by` says who changes something: a line of the audit tells of it, in the same commit."""

    async def insert(
        self, waits: Sequence[NewWait], by: Caller | None = None
    ) -> Sequence["Inserted | Exception"]:
        """Stores waits in one durable commit; one answer each, in order: Added, or a Conflict (same key, other body).

        Raises:
            StoreUnavailable: nothing was stored.
        """

    async def replays(self, submits: Sequence[IdempotentSubmit]) -> Sequence[Inserted | Conflict | None]:
        """What came in under these keys before, one answer each, in order: the wait as it is now, a Conflict (same key, other body),
        or None.
        """

    async def get(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        """One wait with its newest deliveries. Raises NotFound."""

    async def find(self, wanted: WaitFilter) -> Sequence[StoredWait]:
        """Waits, newest first, each with its newest deliveries."""

    async def cancel(
        self, wait_id: str, outcome: Outcome, namespace: str | None = None, by: Caller | None = None
    ) -> StoredWait:
        """Ends a waiting wait as cancelled. Raises NotFound, Conflict, StoreUnavailable."""

    async def redeliver(
        self, wait_id: str, namespace: str | None = None, by: Caller | None = None
    ) -> StoredWait:
        """Adds a new delivery of the stored event for each of the wait's sinks. Raises NotFound, Conflict, StoreUnavailable."""

    async def find_deliveries(self, wanted: DeliveryFilter) -> Sequence[StoredDelivery]:
        """Deliveries, newest first."""

    async def redeliver_each(
        self, ids: Sequence[str], namespace: str | None = None, by: Caller | None = None
    ) -> Redelivered:
        """Adds a new delivery of the same event beside each of these, or beside none. Raises NotFound, Conflict (one is still queued,
        or its wait was superseded), StoreUnavailable.
        """

    async def redeliver_dead(self, wanted: DeliveryFilter, by: Caller | None = None) -> Redelivered:
        """The same for dead ones that match, the oldest first, up to the filter's limit: those that were not delivered anew since.
        Deliveries of superseded waits stay dead. Raises StoreUnavailable.
        """

    async def save_signal(self, namespace: str, key: str, payload: Any, by: Caller | None = None) -> None:
        """Keeps a signal. Raises Conflict (too many different ones under the key), InvalidInput (no JSON), StoreUnavailable."""

    @property
    def finished_seq(self) -> int:
        """The number of the last end on disk; 0 before the first."""

    @property
    def event_secret(self) -> int:
        """A number below 2⁶³ that this store drew once and nobody is told: those who see one namespace see ends numbered by it."""

    async def check_resumable(self, seq: int) -> None:
        """Raises NotFound where the end number `seq` was never given, or it or a later one was pruned. 0 stands before the first."""

    async def events_after(self, seq: int, namespace: str | None, limit: int) -> Sequence[StoredEvent]:
        """The ends after number `seq`, in their order. Raises NotFound where one of them was pruned."""

    async def find_costs(self, wanted: CostFilter) -> CostSums:
        """What ended waits have cost, added up by the day."""

    async def counts(self) -> Mapping[tuple[str, str], int]:
        """How many waits there are by (state, kind)."""

    async def save_audit_entry(self, change: AuditEntry) -> None:
        """Keeps a line of the audit about what the store has no part in. Raises StoreUnavailable."""

    async def find_audit(self, wanted: AuditFilter) -> Sequence[StoredAuditEntry]:
        """Lines of the audit, newest first."""
