"""The seams: what each part needs of another, as small Protocols declared for the consumer. No implementation lives here."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from waitd.core.connection import Connection
from waitd.core.delivery import AfterAttempt, DeliveryId, Receipt
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

    async def get(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        """One wait with its deliveries. Raises NotFound."""

    async def find(self, wanted: WaitFilter) -> Sequence[StoredWait]:
        """Waits, newest first, without their deliveries."""

    async def cancel(self, wait_id: str, outcome: Outcome, namespace: str | None = None) -> StoredWait:
        """Ends a waiting wait as cancelled. Raises NotFound, Conflict, StoreUnavailable."""

    async def redeliver(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        """Adds a new delivery of the stored event for each of the wait's sinks. Raises NotFound, Conflict, StoreUnavailable."""

    async def counts(self) -> Mapping[tuple[str, str], int]:
        """How many waits there are by (state, kind)."""


# ---------------------------------------------------------------- the engine, as the API needs it


class Live(NamedTuple):
    """What the poker knows of a wait in hand that the store may not know yet. Times are Unix seconds."""

    progress: Progress
    next_poke_at: float


class Poking(Protocol):
    """What the API needs of the poker."""

    def room(self) -> int:
        """How many more waits would be accepted now."""

    def live(self, wait_id: str) -> Live | None:
        """What is known of a wait in hand; None where it is not held."""

    def poke_now(self, wait_id: str) -> bool:
        """Makes a wait in hand due at once; False where it is not held."""
