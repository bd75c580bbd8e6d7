"""The seams: what each part needs of another, as small Protocols declared for the consumer. No implementation lives here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from waitd.core.aws_request_signature import Signer
from waitd.core.connection import Connection
from waitd.core.delivery import AfterAttempt, DeliveryId, Receipt
from waitd.core.errors import Conflict
from waitd.core.verdict import Verdict
from waitd.core.wait import Outcome, Progress, WaitId, WaitSpec, WaitState

# ---------------------------------------------------------------- probes


class Target(Protocol):
    """Something a probe can poke: parsed parameters, immutable, small, sharing what it can with its equals."""

    @property
    def key(self) -> str:
        """The coalescing key: waits with equal keys may share one request, and lie on the same grid. "" shares with none."""

    @property
    def conn_id(self) -> str | None:
        """The connection that it names, or None."""

    @property
    def request_timeout(self) -> float:
        """Seconds that one poke may take."""


class Pokeable(Protocol):
    """What a probe sees of a wait in hand."""

    @property
    def target(self) -> Any: ...
    @property
    def progress(self) -> Progress: ...


class Probe(Protocol):
    """Pokes one kind of target."""

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> Target:
        """The target that these parameters name.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """

    def origin(self, target: Any) -> str:
        """Which queue the target waits in: its origin (scheme, host, port) where that is known, else its connection."""

    async def poke(self, group: Sequence[Pokeable]) -> Sequence[Verdict]:
        """One look on behalf of waits with equal keys; a verdict for each, in order.

        The caller bounds it by `request_timeout` and cancels it; every other trouble is an `Unreachable`, never an exception.
        """


# ---------------------------------------------------------------- sinks


class SinkTarget(Protocol):
    """A sink's parsed parameters."""

    @property
    def destination(self) -> str:
        """Whom the event goes to, e.g. `webhook https://example.org`; deliveries to one destination share its concurrency."""

    @property
    def conn_id(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Parcel:
    """One delivery on its way: the stored event and where it goes."""

    id: DeliveryId
    wait_id: WaitId
    namespace: str
    sink: Mapping[str, Any]
    event: bytes
    attempts: int
    #: When the delivery was made (the outcome's moment, or the redelivery's), Unix seconds.
    created_at: float


class Sink(Protocol):
    """Delivers events to one kind of destination."""

    def parse(self, params: Mapping[str, Any]) -> SinkTarget:
        """The destination that these parameters (without `kind`) name.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """

    def signed(self, target: Any) -> bool | None:
        """Whether deliveries will be signed, as far as it is known; None where the sink knows no signatures."""

    async def deliver(self, target: Any, parcel: Parcel) -> Receipt:
        """One attempt. The caller bounds it in time; every trouble is a `Refused` or `Gone`, never an exception."""


# ---------------------------------------------------------------- connections


class Connections(Protocol):
    """Where a conn_id becomes an address and credentials, at the moment of use."""

    async def get(self, conn_id: str) -> Connection:
        """The connection, from the cache or its resolver.

        Raises:
            UnknownConnection: every resolver answered, none knows it.
            ConnectionUnavailable: a resolver is down.
        """

    async def refreshed(self, conn_id: str) -> Connection:
        """The connection, looked up anew (at most once in 30 s each); raises as `get` does."""

    def peek(self, conn_id: str) -> Connection | None:
        """What the cache holds now, without asking anybody."""


@dataclass(frozen=True, slots=True, eq=False)
class Authorization:
    """What makes a request the connection's own, to be sent to its origin only. The same object while nothing has changed."""

    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    #: Signs each request; what it gives is sent beside the other headers.
    signer: Signer | None = field(default=None, repr=False)


class HttpConnections(Connections, Protocol):
    """Connections for those who speak HTTP to them."""

    def at_hand(self, connection: Connection) -> Authorization | None:
        """What its requests carry, where that needs no asking; None: `await authorize(connection)`.

        Raises:
            ValueError: the connection cannot be used for HTTP; the message quotes no secret.
        """

    async def authorize(
        self, connection: Connection, *, refused: Authorization | None = None
    ) -> Authorization:
        """What its requests carry, fetched where it has to be.

        `refused` is what the target did not take: it is not handed out again where something newer can be had (asked for at most once
        in 30 s).

        Raises:
            ConnectionUnavailable: whoever gives out tokens or keys does not answer, or refuses.
            ValueError: as `at_hand`.
        """


# ---------------------------------------------------------------- the store, as each consumer needs it


@dataclass(frozen=True, slots=True)
class NewWait:
    """A checked wait on its way into the store."""

    namespace: str
    spec: WaitSpec
    idempotency_key: str | None = None
    #: SHA-256 of the canonical JSON as sent, where there is a key.
    body_digest: bytes | None = None
    #: The target as parsed at submit; handed through to the poker, never stored.
    target: Any = None


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


@dataclass(frozen=True, slots=True)
class StoredWait:
    """One wait as the store knows it. Times are Unix seconds."""

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


@dataclass(frozen=True, slots=True)
class Added:
    """What became of a submitted wait: stored now, or the same one as before."""

    wait: StoredWait
    created: bool


class Ending(NamedTuple):
    """A wait that the poker saw end."""

    id: WaitId
    progress: Progress
    outcome: Outcome
    finished_at: float


@dataclass(frozen=True, slots=True)
class Ended:
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


class Keyed(NamedTuple):
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

    async def finish(self, ending: Ending) -> Ended | None:
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


class OutboxStore(Protocol):
    """What the deliverer needs of the store."""

    async def due_destinations(self, now: float) -> Sequence[str]:
        """Destinations with a queued delivery whose time has come."""

    async def next_attempt_at(self) -> float | None:
        """When the earliest queued delivery is due, Unix seconds."""

    async def due_parcels(
        self, destination: str, now: float, limit: int, leave_out: frozenset[DeliveryId]
    ) -> Sequence[Parcel]:
        """Up to `limit` due deliveries to one destination, the longest due first, but those already in hand."""

    async def save_attempt(self, delivery_id: DeliveryId, after: AfterAttempt, at: float) -> None:
        """Keeps what became of an attempt; a delivery that is no longer queued is left alone. Raises StoreUnavailable."""


class KeeperStore(Protocol):
    """What the keeper needs of the store."""

    async def prune(self, finished_before: float, limit: int) -> int:
        """Deletes up to `limit` ended waits whose deliveries are all settled; returns how many."""

    async def check_writable(self) -> None:
        """Commits something small. Raises StoreUnavailable."""


class ApiStore(Protocol):
    """What the API needs of the store."""

    async def add(self, waits: Sequence[NewWait]) -> Sequence["Added | Exception"]:
        """Stores waits in one durable commit; one answer each, in order: Added, or a Conflict (same key, other body).

        Raises:
            StoreUnavailable: nothing was stored.
        """

    async def replays(self, submits: Sequence[Keyed]) -> Sequence[Added | Conflict | None]:
        """What came in under these keys before, one answer each, in order: the wait as it is now, a Conflict (same key, other body),
        or None.
        """

    async def get(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        """One wait with its newest deliveries. Raises NotFound."""

    async def find(self, wanted: WaitFilter) -> Sequence[StoredWait]:
        """Waits, newest first, each with its newest deliveries."""

    async def cancel(self, wait_id: str, outcome: Outcome, namespace: str | None = None) -> StoredWait:
        """Ends a waiting wait as cancelled. Raises NotFound, Conflict, StoreUnavailable."""

    async def redeliver(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        """Adds a new delivery of the stored event for each of the wait's sinks. Raises NotFound, Conflict, StoreUnavailable."""

    async def find_deliveries(self, wanted: DeliveryFilter) -> Sequence[StoredDelivery]:
        """Deliveries, newest first."""

    async def redeliver_each(self, ids: Sequence[str], namespace: str | None = None) -> Redelivered:
        """Adds a new delivery of the same event beside each of these, or beside none. Raises NotFound, Conflict (one is still queued,
        or its wait was superseded), StoreUnavailable.
        """

    async def redeliver_dead(self, wanted: DeliveryFilter) -> Redelivered:
        """The same for dead ones that match, the oldest first, up to the filter's limit: those that were not delivered anew since.
        Deliveries of superseded waits stay dead. Raises StoreUnavailable.
        """

    @property
    def finished_seq(self) -> int:
        """The number of the last end on disk; 0 before the first."""

    async def check_resumable(self, seq: int) -> None:
        """Raises NotFound where the end number `seq` was never given, or it or a later one was pruned. 0 stands before the first."""

    async def events_after(self, seq: int, namespace: str | None, limit: int) -> Sequence[StoredEvent]:
        """The ends after number `seq`, in their order. Raises NotFound where one of them was pruned."""

    async def counts(self) -> Mapping[tuple[str, str], int]:
        """How many waits there are by (state, kind)."""


# ---------------------------------------------------------------- the engine, as the API needs it


class WaitingOn(NamedTuple):
    """Where a wait in hand stands now, and who throttles it. Times are Unix seconds.

    Attributes:
        stage: `scheduled`; `queued`, it is due and waits for a place; `poking`; `ending`, its outcome is on its way to disk.
        since: when it became due; None while it is scheduled.
        held_up_by: what a queued one waits for: `origin_limit`, `unproven_origins` (too many pokes are at origins that have not
            answered yet, as this one has not), `poke_concurrency`; None: nothing, its turn is next.
        origin: where it queues.
        origin_limit: how many pokes at once the origin gets now.
        origin_running: how many it has.
        origin_held_down: whether that is because of three timeouts in a row.
        quiet_until: until when the last answer asked to be left alone (`Retry-After`, as sent); None where it did not.
    """

    stage: str
    since: float | None
    held_up_by: str | None
    origin: str
    origin_limit: int
    origin_running: int
    origin_held_down: bool
    quiet_until: float | None


class Live(NamedTuple):
    """What the poker knows of a wait in hand that the store may not know yet. Times are Unix seconds."""

    progress: Progress
    next_poke_at: float
    waiting_on: WaitingOn | None = None


class Poking(Protocol):
    """What the API needs of the poker."""

    def room(self) -> int:
        """How many more waits would be accepted now."""

    def live(self, wait_id: str) -> Live | None:
        """What is known of a wait in hand; None where it is not held."""

    def poke_now(self, wait_id: str) -> bool:
        """Makes a wait in hand due at once; False where it is not held."""
