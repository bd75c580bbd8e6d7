"""Writes the outbox: new deliveries, and the results of delivery attempts."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import uuid_utils

from waitd.core.airflow.callback import mode_delivers
from waitd.core.errors import InvalidInput
from waitd.core.waits.delivery import DeliveryId, DeliveryState, first_attempt_at
from waitd.core.waits.wait import WaitId, WaitState
from waitd.ports import StoredDelivery, StoredWait
from waitd.stores import bulk
from waitd.stores.delivery_codec import encode_sink
from waitd.stores.operations.commands import SaveAttempt
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import IS_QUEUED, deliveries

_COLUMNS = (
    "id",
    "wait_id",
    "namespace",
    "sink",
    "destination",
    "state",
    "attempts",
    "created_at",
    "next_attempt_at",
)
_INSERT = bulk.insert_into(deliveries, _COLUMNS)
_INSERT_AGAIN = bulk.insert_into(deliveries, (*_COLUMNS, "redelivered_by"))
_SAVE_ATTEMPT = bulk.update(
    deliveries,
    ("id", "state", "attempts", "next_attempt_at", "last_error", "last_attempt_at"),
    IS_QUEUED,
)
#: An attempt that is this far in the future was made before the wall clock was set back, in
#: seconds.
_MIN_AHEAD = 5.0
#: The destination of a sink that cannot be parsed now; the deliverer's attempt reports the reason.
UNKNOWN_DESTINATION = "nowhere"


class NewDelivery(NamedTuple):
    """A delivery to be inserted into the outbox."""

    stored: StoredDelivery
    destination: str


def new_deliveries(transaction: Transaction, wait: StoredWait, state: WaitState) -> list[NewDelivery]:
    """A delivery for each sink of `wait` that gets the event of an end in `state`."""
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
    except InvalidInput:  # accepted by an older waitd or under other settings; the wait ends all the same
        destination = UNKNOWN_DESTINATION
    return NewDelivery(stored, destination)


def insert_deliveries(
    transaction: Transaction, new: Sequence[NewDelivery], *, redelivered_by: str | None = None
) -> None:
    """Inserts deliveries into the outbox. `redelivered_by`: who queues them again."""
    rows = [
        (
            delivery.id,
            delivery.wait_id,
            delivery.namespace,
            encode_sink(delivery.sink),
            destination,
            delivery.state,
            delivery.attempts,
            delivery.created_at,
            delivery.next_attempt_at,
        )
        for delivery, destination in new
    ]
    if redelivered_by is None:
        transaction.connection.defer_rows(_INSERT, rows)
    else:
        transaction.connection.defer_rows(_INSERT_AGAIN, [(*row, redelivered_by) for row in rows])


def save_attempts(transaction: Transaction, commands: Sequence[SaveAttempt]) -> None:
    """Saves the results of attempts, except of deliveries that are no longer queued."""
    now = transaction.now
    rows = {
        command.delivery_id: (
            command.delivery_id,
            command.after.state.value,
            command.after.attempts,
            _rebased(command.after.next_attempt_at, command.at, now),
            command.after.last_error,
            min(command.at, now),
        )
        for command in commands
    }
    transaction.connection.defer_rows(_SAVE_ATTEMPT, list(rows.values()))


def _rebased(next_attempt_at: float | None, attempted_at: float, now: float) -> float | None:
    """When to try again, if the wall clock was set back after the attempt: as long from now."""
    ahead = attempted_at - now
    return next_attempt_at if next_attempt_at is None or ahead < _MIN_AHEAD else next_attempt_at - ahead
