"""The store as the poker, maintenance and the API need it, and the values that it exchanges.

`waitd.stores.Store` implements these protocols, and those that are beside what they serve, such as
`OutboxStore` in `sinks`.

Every method that writes returns when its change is on disk, or raises StoreUnavailable.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from msgspec import Struct

from waitd.core.auth.quotas import Kept
from waitd.core.costs.model import MeasuredUsage
from waitd.core.errors import Conflict
from waitd.core.waits.audit import AuditEntry, Caller
from waitd.core.waits.delivery import DeliveryId
from waitd.core.waits.job_cancel import JobCancel
from waitd.core.waits.submission import Submission
from waitd.core.waits.wait import Outcome, Progress, WaitId, WaitSpec, WaitState, encode_spec
from waitd.ports.costs import CostFilter, CostSums
from waitd.ports.filters import AuditFilter, DeliveryFilter, WaitFilter


# The structs have no gc header: like `WaitSpec`, they are never part of a reference cycle.
class NewWait(Struct, gc=False):
    """A validated wait to be inserted.

    Its construction raises InvalidInput if JSON cannot hold the specification.
    """

    namespace: str
    spec: WaitSpec
    idempotency_key: str | None = None
    #: SHA-256 of the canonical JSON of the request, if it has an idempotency key.
    body_digest: bytes | None = None
    #: The target parsed at submit; passed on to the poker, never stored.
    target: Any = None
    #: The specification as JSON, as it is stored; the constructor sets it.
    spec_json: str = ""

    def __post_init__(self) -> None:
        self.spec_json = encode_spec(self.spec)


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


class StoredWait(Struct, gc=False):
    """One wait as it is stored; never changed in place. Times are Unix seconds."""

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
    #: The parsed target of a wait that was just submitted; None when read from the database.
    target: Any = None
    #: The state of the job that the wait submits; None where it submits none.
    submission: Submission | None = None
    #: The state of cancelling that job; None where it was not requested.
    job_cancel: JobCancel | None = None
    #: What the wait used until its end; None until then, and where it was not measured.
    measured: MeasuredUsage | None = None
    #: Who submitted it; "": not known, or not read.
    principal: str = ""
    #: The length of its stored specification; 0 where that was not read.
    spec_size: int = 0


class UnreadableWait(NamedTuple):
    """A stored wait that cannot be read.

    Attributes:
        id: as text, whatever the column holds.
        namespace: None where it cannot be read either.
        error: why, in a sentence.
        row: the columns as JSON holds them; a blob is `{"base64": …}`. Empty: its page is damaged.
    """

    id: str
    namespace: str | None
    error: str
    row: Mapping[str, Any]


class Inserted(Struct, gc=False):
    """The stored wait that answers a submit. Unless `created`, an earlier submit stored it."""

    wait: StoredWait
    created: bool


class UnstoredOutcome(NamedTuple):
    """The end of a wait as the poker found it."""

    id: WaitId
    progress: Progress
    outcome: Outcome
    finished_at: float


@dataclass(frozen=True, slots=True)
class StoredOutcome:
    """An ended wait that is on disk."""

    wait: StoredWait
    #: The destinations of its deliveries.
    destinations: frozenset[str]


class IdempotentSubmit(NamedTuple):
    """A submit with an idempotency key and the SHA-256 of its canonical JSON."""

    namespace: str
    key: str
    body_digest: bytes


class StoredAuditEntry(NamedTuple):
    """An audit entry and its number; later entries have higher numbers."""

    number: int
    entry: AuditEntry


class Redelivered(NamedTuple):
    """How many deliveries were queued again, and whether the limit left out `more`."""

    deliveries: int
    more: bool


class StoredEvent(NamedTuple):
    """The bytes of the event number `seq`. `event` is None if it is of another namespace."""

    seq: int
    event: bytes | None


class PrunedBytes(NamedTuple):
    """How many ended waits were deleted, and where to go on; `since` is None at the end."""

    waits: int
    since: float | None


class KeptUsage(Protocol):
    """How much callers keep in the store."""

    def get(self, kept: Kept, namespace: str, principal: str | None = None) -> int:
        """How much a principal has in the namespace; None: all of them together."""


class PokerStore(Protocol):
    """What the poker needs of the store."""

    async def finish(self, outcome: UnstoredOutcome) -> StoredOutcome | None:
        """Ends a wait: state, event and deliveries in one transaction.

        None: it had ended before, or its row cannot be read any more.

        Raises:
            StoreUnavailable: nothing was written; call again.
        """

    async def save_progress(self, rows: Sequence[tuple[WaitId, Progress]]) -> None:
        """Saves the progress of waits, except of those that have ended. Raises StoreUnavailable."""

    async def load_waiting(self, after: WaitId | None, limit: int) -> Sequence[StoredWait]:
        """A page of waiting waits in the order of their ids."""

    async def waiting_ids(self, after: WaitId | None, limit: int) -> Sequence[WaitId]:
        """A page of the ids of waiting waits, in their order."""


class MaintenanceStore(Protocol):
    """What maintenance needs of the store."""

    async def prune(self, finished_before: float, limit: int) -> int:
        """Deletes up to `limit` ended waits with no delivery or job open; returns their number."""

    async def prune_bytes(self, most: int, since: float, limit: int) -> PrunedBytes:
        """Deletes up to `limit` ended waits, the longest ended first, until all keep `most` bytes.

        It deletes no wait with a delivery or job open, and looks at no more than a bounded number
        of waits, from those on that ended at `since` (Unix seconds).
        """

    async def prune_audit(self, before: float, limit: int, keep: int) -> int:
        """Deletes up to `limit` audit entries older than `before`, or beyond the newest `keep`."""

    async def save_overhead(self, measured: MeasuredUsage, before: float) -> None:
        """Adds usage that belongs to no wait to today's costs.

        Deletes the costs of days before `before`, Unix seconds.

        Raises StoreUnavailable.
        """

    async def shift_schedules(self, moved: float) -> None:
        """Moves what is scheduled by the wall clock, which has stepped by `moved` seconds.

        With its commit, the listener's `on_clock_stepped` is called. Raises StoreUnavailable.
        """

    async def check_writable(self) -> None:
        """Commits something small. Raises StoreUnavailable."""

    async def check_unreadable(self) -> None:
        """Serves again the waits that were unreadable and have been mended."""

    async def scrub(self, after: str | None, limit: int) -> str | None:
        """Reads a page of waits to find unreadable ones; returns its last id, None at the end."""


class ApiStore(Protocol):
    """What the API needs of the store.

    With `by`, the caller, a change writes an audit entry in the same commit.
    """

    async def insert(
        self, waits: Sequence[NewWait], by: Caller | None = None
    ) -> Sequence["Inserted | Exception"]:
        """Inserts waits in one commit; one answer each: Inserted or Conflict (other body).

        Raises:
            StoreUnavailable: nothing was stored.
        """

    async def find_replays(self, submits: Sequence[IdempotentSubmit]) -> Sequence[Inserted | Conflict | None]:
        """The waits of earlier submits with these keys, one answer each, in order.

        An answer is the wait as it is now, a Conflict (same key, other body), or None.
        """

    async def get(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        """One wait with its newest deliveries. Raises NotFound, Unreadable."""

    async def find(self, filter_: WaitFilter) -> Sequence[StoredWait]:
        """Waits, newest first, each with its newest deliveries; unreadable ones are left out."""

    async def get_unreadable(self, wait_id: str, namespace: str | None = None) -> UnreadableWait | None:
        """One wait that cannot be read; None if there is none with this id."""

    async def find_unreadable(self, filter_: WaitFilter) -> Sequence[UnreadableWait]:
        """Waits that cannot be read, the highest id first; only their kind can be filtered by."""

    async def cancel(
        self, wait_id: str, outcome: Outcome, namespace: str | None = None, by: Caller | None = None
    ) -> StoredWait:
        """Ends a waiting wait as cancelled.

        Raises NotFound, Conflict (also Unreadable), StoreUnavailable.
        """

    async def redeliver(
        self, wait_id: str, namespace: str | None = None, by: Caller | None = None
    ) -> StoredWait:
        """Queues the stored event again for each of the wait's sinks.

        Raises NotFound, Conflict, StoreUnavailable.
        """

    async def find_deliveries(self, filter_: DeliveryFilter) -> Sequence[StoredDelivery]:
        """Deliveries, newest first."""

    async def redeliver_each(
        self, ids: Sequence[str], namespace: str | None = None, by: Caller | None = None
    ) -> Redelivered:
        """Queues the events of all these deliveries again, or of none.

        Raises:
            NotFound: a delivery does not exist.
            Conflict: a delivery is still queued, or its wait was superseded.
            StoreUnavailable: nothing was stored.
        """

    async def redeliver_dead(self, filter_: DeliveryFilter, by: Caller | None = None) -> Redelivered:
        """Queues the events of matching dead deliveries again, the oldest first.

        Leaves out deliveries that were redelivered since, and those of superseded waits. Raises
        StoreUnavailable.
        """

    async def save_signal(self, namespace: str, key: str, payload: Any, by: Caller | None = None) -> None:
        """Saves a signal.

        Raises:
            Conflict: the key has too many different payloads.
            InvalidInput: JSON cannot hold the payload.
            StoreUnavailable: nothing was stored.
        """

    @property
    def usage(self) -> KeptUsage:
        """What each namespace and each principal keeps, except redeliveries."""

    async def count_redeliveries(self, namespace: str) -> KeptUsage:
        """The deliveries of a namespace that were queued again and are not done yet."""

    @property
    def finished_seq(self) -> int:
        """The number of the last event on disk; 0 before the first."""

    @property
    def event_secret(self) -> int:
        """A secret below 2⁶³, drawn once, from which the event ids of a namespace are derived."""

    async def check_resumable(self, seq: int) -> None:
        """Raises NotFound unless the event number `seq` (0: the start) and all later ones exist."""

    async def events_after(self, seq: int, namespace: str | None, limit: int) -> Sequence[StoredEvent]:
        """The next events after number `seq`: up to `limit`, or fewer that are large.

        Raises NotFound if one of them was deleted.
        """

    async def find_costs(self, filter_: CostFilter) -> CostSums:
        """The sums of what ended waits have cost."""

    async def counts(self) -> Mapping[tuple[str, str], int]:
        """The number of waits by (state, kind)."""

    async def save_audit_entry(self, entry: AuditEntry) -> None:
        """Saves an audit entry about a change outside of the store. Raises StoreUnavailable."""

    async def find_audit(self, filter_: AuditFilter) -> Sequence[StoredAuditEntry]:
        """Audit entries, newest first."""
