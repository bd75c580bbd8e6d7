"""Delivering anew: new rows of the outbox beside the old ones, with the same event."""

from collections.abc import Sequence
from typing import NamedTuple

from msgspec.structs import replace
from sqlalchemy import ColumnElement, exists, select

from waitd.core.errors import Conflict, NotFound
from waitd.core.waits.delivery import DeliveryState
from waitd.ports import StoredDelivery, StoredWait
from waitd.stores.codec import DeliveryRow, stored_delivery, stored_wait
from waitd.stores.operations.outbox import NewDelivery, insert_deliveries, new_deliveries, new_delivery
from waitd.stores.operations.requests import Redeliver, RedeliverEach
from waitd.stores.operations.transaction import Transaction, sliced
from waitd.stores.queries.rows import deliveries_of, not_found, seen_from, wait_rows
from waitd.stores.schema import deliveries, waits
from waitd.stores.sqlite.statements import Statement, one_of, texts

_newer = deliveries.alias("newer")
#: Whether the same wait has a newer delivery to the same sink. Of many dead ones only the newest is delivered anew, so that asking
#: again and again does not double what is on its way.
HAS_NEWER: ColumnElement[bool] = exists().where(
    _newer.c.wait_id == deliveries.c.wait_id,
    _newer.c.sink == deliveries.c.sink,
    _newer.c.id > deliveries.c.id,
)
BY_ID = Statement(
    select(waits.c.superseded, HAS_NEWER.label("has_newer"), *deliveries.c)
    .join(waits, waits.c.id == deliveries.c.wait_id)
    .where(one_of(deliveries.c.id, "ids"))
)


class _Candidate(NamedTuple):
    """A delivery that may go out anew; `superseded` tells of its wait."""

    delivery: StoredDelivery
    superseded: bool
    has_newer: bool


async def redeliver(transaction: Transaction, operations: Sequence[Redeliver]) -> None:
    """Queues events of ended waits anew, in new rows beside the old ones."""
    rows = await wait_rows(transaction.link, list({operation.wait_id for operation in operations}))
    again: list[tuple[Redeliver, StoredWait]] = []
    for operation in operations:
        row = seen_from(operation.namespace, rows.get(operation.wait_id))
        if row is None:
            operation.answer = not_found(operation.wait_id)
        elif row.finished_at is None:
            operation.answer = Conflict(f"the wait {operation.wait_id} has not ended yet")
        elif row.superseded:
            operation.answer = _superseded(operation.wait_id)
        else:
            again.append((operation, stored_wait(row)))
    new = [delivery for _, wait in again for delivery in new_deliveries(transaction, wait, wait.state)]
    _queue(transaction, new)
    deliveries = await deliveries_of(transaction.link, [wait.id for _, wait in again])
    for operation, wait in again:
        operation.answer = replace(wait, deliveries=deliveries.get(wait.id, ()))


async def redeliver_each(transaction: Transaction, operations: Sequence[RedeliverEach]) -> None:
    """Queues the events of single deliveries anew."""
    for operation in operations:
        found = await _candidates(transaction, operation)
        if operation.dead_only:
            chosen = [candidate.delivery for candidate in found.values() if _is_dead_for_good(candidate)]
        elif why_not := _why_not(operation, found):
            operation.answer = why_not
            continue
        else:
            chosen = [candidate.delivery for candidate in found.values()]
        new: list[NewDelivery] = []
        async for part in sliced(chosen):
            new += [new_delivery(transaction, old.wait_id, old.namespace, old.sink) for old in part]
        _queue(transaction, new)
        operation.answer = len(new)


async def _candidates(transaction: Transaction, operation: RedeliverEach) -> dict[str, _Candidate]:
    """Those that there are, by id, in the order that was asked for."""
    rows = await BY_ID.run(transaction.link, ids=texts(operation.ids))
    found: dict[str, _Candidate] = {}
    async for part in sliced(rows):
        for superseded, has_newer, *row in part:
            delivery = stored_delivery(DeliveryRow._make(row))
            if operation.namespace in {None, delivery.namespace}:
                found[delivery.id] = _Candidate(delivery, bool(superseded), bool(has_newer))
    return {wanted: found[wanted] for wanted in operation.ids if wanted in found}


def _is_dead_for_good(candidate: _Candidate) -> bool:
    is_dead = candidate.delivery.state == DeliveryState.DEAD
    return is_dead and not candidate.superseded and not candidate.has_newer


def _why_not(operation: RedeliverEach, found: dict[str, _Candidate]) -> Exception | None:
    for wanted in operation.ids:
        candidate = found.get(wanted)
        if candidate is None:
            return NotFound(f"there is no delivery {wanted}")
        if candidate.delivery.state == DeliveryState.QUEUED:
            return Conflict(f"the delivery {wanted} is still queued")
        if candidate.superseded:
            return _superseded(candidate.delivery.wait_id)
    return None


def _queue(transaction: Transaction, new: Sequence[NewDelivery]) -> None:
    insert_deliveries(transaction, new)
    transaction.redelivered.update(destination for _, destination in new)


def _superseded(wait_id: str) -> Conflict:
    return Conflict(f"the wait {wait_id} was superseded; nothing of it is delivered any more")
