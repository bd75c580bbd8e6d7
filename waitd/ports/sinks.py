"""What the deliverer needs of a sink."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from waitd.core.waits.delivery import DeliveryId, Receipt
from waitd.core.waits.wait import WaitId


class SinkTarget(Protocol):
    """A sink's parsed parameters."""

    @property
    def destination(self) -> str:
        """The destination, e.g.

        `webhook https://example.org`; its deliveries share a concurrency limit.
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
