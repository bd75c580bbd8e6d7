"""Converts deliveries to rows of the outbox, and back."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec
import orjson

from waitd.core.waits.delivery import DeliveryId, DeliveryState
from waitd.core.waits.wait import WaitId
from waitd.ports import OutboxItem, StoredDelivery
from waitd.stores.codec import check_times, decode_outcome, plain_json

#: What a delivery's sink is called if its row cannot be read.
UNREADABLE_SINK = "unreadable"


class DeliveryRow(NamedTuple):
    """A row of `deliveries`: its columns, in their order."""

    id: str
    wait_id: str
    namespace: str
    sink: str
    destination: str
    state: str
    attempts: int
    created_at: float
    next_attempt_at: float | None
    last_attempt_at: float | None
    last_error: str | None
    redelivered_by: str | None = None


def encode_sink(sink: Mapping[str, Any]) -> str:
    """The stored form of a sink's parameters."""
    return orjson.dumps(sink, default=plain_json).decode()


def decode_delivery(row: DeliveryRow) -> StoredDelivery:
    """The delivery in a row; a row that makes no sense is a dead delivery that says so."""
    try:
        row = msgspec.convert(tuple(row), DeliveryRow)
        state, sink = DeliveryState(row.state), _decode_sink(row.sink)
        check_times(row.created_at, row.next_attempt_at or 0.0)
    except (ValueError, TypeError, KeyError) as error:
        return StoredDelivery(
            id=DeliveryId(str(row.id)),
            wait_id=WaitId(str(row.wait_id)),
            namespace=str(row.namespace),
            sink={"kind": UNREADABLE_SINK},
            state=DeliveryState.DEAD.value,
            attempts=0,
            created_at=0.0,
            next_attempt_at=None,
            last_error=f"The stored row of this delivery cannot be read: {error}",
        )
    return StoredDelivery(
        id=DeliveryId(row.id),
        wait_id=WaitId(row.wait_id),
        namespace=row.namespace,
        sink=sink,
        state=state.value,
        attempts=row.attempts,
        created_at=row.created_at,
        next_attempt_at=row.next_attempt_at,
        last_error=row.last_error,
    )


def _decode_sink(stored: str) -> Mapping[str, Any]:
    sink: Mapping[str, Any] = orjson.loads(stored)
    if not isinstance(sink["kind"], str):
        raise TypeError("its sink has no kind")
    return sink


def decode_outbox_item(row: DeliveryRow, event: bytes) -> OutboxItem:
    """The delivery in a row, with its wait's event. Raises one of `DECODE_ERRORS`."""
    row = msgspec.convert(tuple(row), DeliveryRow)
    decode_outcome(event)
    return OutboxItem(
        id=DeliveryId(row.id),
        wait_id=WaitId(row.wait_id),
        namespace=row.namespace,
        sink=_decode_sink(row.sink),
        event=event,
        attempts=row.attempts,
        created_at=row.created_at,
    )
