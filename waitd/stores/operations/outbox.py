"""The outbox: new deliveries, and what became of their attempts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import uuid_utils

from waitd.core.airflow.callback import mode_delivers
from waitd.core.errors import InvalidInput
from waitd.core.waits.delivery import DeliveryId, DeliveryState, first_attempt_at
from waitd.core.waits.wait import WaitId, WaitState
from waitd.ports import StoredDelivery, StoredWait
from waitd.stores.codec import encode_sink
from waitd.stores.operations.requests import SaveAttempt
from waitd.stores.operations.transaction import Transaction
from waitd.stores.sqlite import bulk

_INSERT = bulk.insert_into(
    "deliveries",
    (
        "id",
        "wait_id",
        "namespace",
        "sink",
        "destination",
        "state",
        "attempts",
        "created_at",
        "next_attempt_at",
    ),
)
_SAVE_ATTEMPT = bulk.update(
    "deliveries",
    ("id", "state", "attempts", "next_attempt_at", "last_error", "last_attempt_at"),
    "deliveries.state = 'queued'",
)
#: Where a delivery waits whose sink no longer names a destination; the deliverer finds out why, and says so.
NOWHERE = "nowhere"


class NewDelivery(NamedTuple):
    """A delivery on its way into the outbox."""

    stored: StoredDelivery
    destination: str


def new_deliveries(transaction: Transaction, wait: StoredWait, state: WaitState) -> list[NewDelivery]:
    """A delivery for each sink of `wait` that is to hear of an end in `state`."""
    return [
        new_delivery(transaction, wait.id, wait.namespace, sink)
        for sink in wait.spec.sinks
        if sink.get("kind") != "airflow" or mode_delivers(sink.get("mode"), state)
    ]


def new_delivery(
    transaction: Transaction, wait_id: WaitId, namespace: str, sink: Mapping[str, Any]
) -> NewDelivery:
    """A delivery to one sink, first tried after the first retry delay."""
    stored = StoredDelivery(
        id=DeliveryId(str(uuid_utils.uuid7())),
        wait_id=wait_id,
        namespace=namespace,
        sink=sink,
        state=DeliveryState.QUEUED.value,
        attempts=0,
        created_at=transaction.now,
        next_attempt_at=first_attempt_at(transaction.now, transaction.rules.retry_delays),
        last_error=None,
    )
    try:
        destination = transaction.rules.destination_of(namespace, sink)
    except InvalidInput:  # accepted by an older waitd, or under other settings: no reason to lose the end
        destination = NOWHERE
    return NewDelivery(stored, destination)


def insert_deliveries(transaction: Transaction, new: Sequence[NewDelivery]) -> None:
    """Puts deliveries into the outbox."""
    rows = [
        (
            d.id,
            d.wait_id,
            d.namespace,
            encode_sink(d.sink),
            destination,
            d.state,
            d.attempts,
            d.created_at,
            d.next_attempt_at,
        )
        for d, destination in new
    ]
    bulk.write(transaction.link, _INSERT, rows)


def save_attempts(transaction: Transaction, operations: Sequence[SaveAttempt]) -> None:
    """Keeps what became of attempts; a delivery that is no longer queued (superseded meanwhile) is left alone."""
    rows: list[tuple[Any, ...]] = [
        (
            o.delivery_id,
            o.after.state.value,
            o.after.attempts,
            o.after.next_attempt_at,
            o.after.last_error,
            o.at,
        )
        for o in operations
    ]
    bulk.write(transaction.link, _SAVE_ATTEMPT, rows)
