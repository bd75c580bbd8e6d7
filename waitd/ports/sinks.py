"""What the deliverer needs of a sink and of the outbox."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from waitd.core.waits.delivery import AfterAttempt, DeliveryId, Receipt
from waitd.core.waits.wait import WaitId


class SinkTarget(Protocol):
    """A sink's parsed parameters."""

    @property
    def destination(self) -> str:
        """The destination, whose deliveries share a concurrency limit.

        For example: `webhook https://example.org`.
        """

    @property
    def conn_id(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class OutboxItem:
    """One delivery from the outbox: the stored event and its sink."""

    id: DeliveryId
    wait_id: WaitId
    namespace: str
    sink: Mapping[str, Any]
    event: bytes
    attempts: int
    #: When the wait ended or the redelivery was requested, Unix seconds.
    created_at: float


class Sink(Protocol):
    """Delivers events to one kind of destination."""

    def parse(self, params: Mapping[str, Any]) -> SinkTarget:
        """Parses a sink's parameters (without `kind`).

        Raises:
            InvalidInput: with pointers relative to `params`.
        """

    def signed(self, target: Any) -> bool | None:
        """Whether deliveries will be signed, as far as known; None: this sink never signs."""

    async def deliver(self, target: Any, item: OutboxItem) -> Receipt:
        """Makes one attempt.

        The caller limits its time; every error is a `Receipt`, never an exception.
        """


class OutboxStore(Protocol):
    """What the deliverer needs of the store."""

    async def due_destinations(self, now: float) -> Sequence[str]:
        """Destinations with a queued delivery that is due at `now` (Unix seconds)."""

    async def next_attempt_at(self) -> float | None:
        """When the earliest queued delivery is due, Unix seconds."""

    async def due_items(
        self, destination: str, now: float, limit: int, exclude: frozenset[DeliveryId]
    ) -> Sequence[OutboxItem]:
        """Up to `limit` due deliveries, the longest due first, except those in `exclude`."""

    async def clamp_attempts(self) -> None:
        """Makes each retry due no later than its own delay from now.

        They would be due far too late if the wall clock was set back while the daemon was down.
        Raises StoreUnavailable.
        """

    async def save_attempt(self, delivery_id: DeliveryId, after: AfterAttempt, at: float) -> None:
        """Saves the result of an attempt, unless the delivery is no longer queued.

        Raises StoreUnavailable.
        """
