"""What waitd needs of those who deliver: a sink and its destinations."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from waitd.core.waits.delivery import DeliveryId, Receipt
from waitd.core.waits.wait import WaitId


class SinkTarget(Protocol):
    """A sink's parsed parameters."""

    @property
    def destination(self) -> str:
        """Whom the event goes to, e.g. `webhook https://example.org`; deliveries to one destination share its concurrency."""

    @property
    def conn_id(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class OutboxItem:
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

    async def deliver(self, target: Any, parcel: OutboxItem) -> Receipt:
        """One attempt. The caller bounds it in time; every trouble is a `Refused` or `Gone`, never an exception."""
