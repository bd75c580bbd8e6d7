"""The outbox: new deliveries, what became of their attempts, and delivering anew."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import uuid_utils

from waitd.core.delivery import DeliveryId, DeliveryState, first_attempt_at
from waitd.core.errors import Conflict, InvalidInput
from waitd.core.wait import WaitState
from waitd.ports import StoredDelivery, StoredWait
from waitd.stores import bulk
from waitd.stores.codec import encode_sink, stored_wait
from waitd.stores.operations import Redeliver, SaveAttempt
from waitd.stores.rows import deliveries_of, not_found, seen_from, wait_rows
from waitd.stores.transaction import Transaction

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
    due = first_attempt_at(transaction.now, transaction.rules.ladder)
    made: list[NewDelivery] = []
    for sink in wait.spec.sinks:
        if state is WaitState.CANCELLED and sink.get("kind") == "airflow":
            continue  # whoever cancelled it has moved on; Airflow's task would be resumed or failed for nothing
        stored = StoredDelivery(
            id=DeliveryId(str(uuid_utils.uuid7())),
            wait_id=wait.id,
            namespace=wait.namespace,
            sink=sink,
            state=DeliveryState.QUEUED.value,
            attempts=0,
            created_at=transaction.now,
            next_attempt_at=due,
            last_error=None,
        )
        try:
            destination = transaction.rules.destination_of(wait.namespace, sink)
        except InvalidInput:  # accepted by an older waitd, or under other settings: no reason to lose the end
            destination = NOWHERE
        made.append(NewDelivery(stored, destination))
    return made


async def insert_deliveries(transaction: Transaction, new: Sequence[NewDelivery]) -> None:
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
    await bulk.run(transaction.connection, _INSERT, rows)


async def save_attempts(transaction: Transaction, operations: Sequence[SaveAttempt]) -> None:
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
    await bulk.run(transaction.connection, _SAVE_ATTEMPT, rows)


async def redeliver(transaction: Transaction, operations: Sequence[Redeliver]) -> None:
    """Queues events of ended waits anew, in new rows beside the old ones."""
    rows = await wait_rows(transaction.connection, list({operation.wait_id for operation in operations}))
    again: list[tuple[Redeliver, StoredWait]] = []
    for operation in operations:
        row = seen_from(operation.namespace, rows.get(operation.wait_id))
        if row is None:
            operation.answer = not_found(operation.wait_id)
        elif row.finished_at is None:
            operation.answer = Conflict(f"the wait {operation.wait_id} has not ended yet")
        elif row.superseded:
            operation.answer = Conflict(
                f"the wait {operation.wait_id} was superseded; nothing of it is delivered any more"
            )
        else:
            again.append((operation, stored_wait(row)))
    new = [delivery for _, wait in again for delivery in new_deliveries(transaction, wait, wait.state)]
    await insert_deliveries(transaction, new)
    transaction.redelivered.update(destination for _, destination in new)
    deliveries = await deliveries_of(transaction.connection, [wait.id for _, wait in again])
    for operation, wait in again:
        operation.answer = replace(wait, deliveries=deliveries.get(wait.id, ()))
