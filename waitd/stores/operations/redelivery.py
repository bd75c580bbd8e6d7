"""Redelivers events: new outbox rows beside the old ones, with the same event."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from msgspec.structs import replace
from sqlalchemy import select

from waitd.core.auth.quotas import Kept, room_for
from waitd.core.errors import Conflict, LimitReached, NotFound, Unreadable
from waitd.core.waits.delivery import DeliveryState
from waitd.ports import StoredDelivery, StoredWait
from waitd.stores.codec import sliced
from waitd.stores.delivery_codec import UNREADABLE_SINK, DeliveryRow, decode_delivery
from waitd.stores.operations.commands import Command, Redeliver, RedeliverEach
from waitd.stores.operations.outbox import NewDelivery, insert_deliveries, new_deliveries, new_delivery
from waitd.stores.operations.transaction import Transaction
from waitd.stores.queries.waits import decode_one, deliveries_of, not_found, rows_by_id, visible_in
from waitd.stores.schema import HAS_NEWER_DELIVERY, deliveries, waits
from waitd.stores.statements import Statement, one_of, text_list
from waitd.stores.usage import Usage, count_redeliveries

BY_ID = Statement(
    select(waits.c.superseded, HAS_NEWER_DELIVERY.label("has_newer"), *deliveries.c)
    .join(waits, waits.c.id == deliveries.c.wait_id)
    .where(one_of(deliveries.c.id, "ids"))
)


class _Candidate(NamedTuple):
    """A delivery that may be redelivered; `superseded` says whether its wait was superseded."""

    delivery: StoredDelivery
    superseded: bool
    has_newer: bool

    @property
    def is_dead(self) -> bool:
        """Whether the delivery is dead and may be redelivered by `dead_only`."""
        may_be = not self.superseded and not self.has_newer and not self.is_unreadable
        return self.delivery.state == DeliveryState.DEAD and may_be

    @property
    def is_unreadable(self) -> bool:
        """Whether its row cannot be read, so that its sink is unknown."""
        return bool(self.delivery.sink["kind"] == UNREADABLE_SINK)


async def redeliver(transaction: Transaction, commands: Sequence[Redeliver]) -> None:
    """Queues the events of ended waits again, one delivery for each sink."""
    wait_ids = list({command.wait_id for command in commands})
    rows = await rows_by_id(transaction.connection, wait_ids, transaction.unreadable)
    accepted: list[tuple[Redeliver, StoredWait]] = []
    for command in commands:
        row = visible_in(command.namespace, rows.get(command.wait_id))
        if row is None:
            command.answer = not_found(command.wait_id)
        elif row.finished_at is None:
            command.answer = Conflict(f"the wait {command.wait_id} has not ended yet")
        elif row.superseded:
            command.answer = _superseded(command.wait_id)
        else:
            try:
                accepted.append((command, decode_one(row, transaction.unreadable)))
            except Unreadable as error:
                command.answer = error
    queued = await count_redeliveries(transaction.connection, {wait.namespace for _, wait in accepted})
    candidates, accepted = accepted, []
    for command, wait in candidates:
        new = new_deliveries(transaction, wait, wait.state)
        if reached := _queue(transaction, new, command, queued):
            command.answer = reached
        else:
            accepted.append((command, wait))
    by_wait = await deliveries_of(
        transaction.connection, [wait.id for _, wait in accepted], transaction.unreadable
    )
    for command, wait in accepted:
        command.answer = replace(wait, deliveries=by_wait.get(wait.id, ()))


async def redeliver_each(transaction: Transaction, commands: Sequence[RedeliverEach]) -> None:
    """Queues the events of single deliveries again."""
    for command in commands:
        candidates = await _candidates(transaction, command)
        error = None if command.dead_only else _first_error(command, candidates)
        if error is not None:
            command.answer = error
            continue
        chosen = [one.delivery for one in candidates.values() if one.is_dead or not command.dead_only]
        new = [
            new_delivery(transaction, old.wait_id, old.namespace, old.sink)
            async for part in sliced(chosen)
            for old in part
        ]
        queued = await count_redeliveries(transaction.connection, {one.stored.namespace for one in new})
        command.answer = _queue(transaction, new, command, queued) or len(new)


async def _candidates(transaction: Transaction, command: RedeliverEach) -> dict[str, _Candidate]:
    """The requested deliveries that exist in the namespace, by id, in the order of the request."""
    rows = await BY_ID.fetch_all(transaction.connection, ids=text_list(command.ids))
    by_id: dict[str, _Candidate] = {}
    async for part in sliced(rows):
        for superseded, has_newer, *row in part:
            delivery = decode_delivery(DeliveryRow._make(row))
            if command.namespace in {None, delivery.namespace}:
                by_id[delivery.id] = _Candidate(delivery, bool(superseded), bool(has_newer))
    return {delivery_id: by_id[delivery_id] for delivery_id in command.ids if delivery_id in by_id}


def _first_error(command: RedeliverEach, candidates: dict[str, _Candidate]) -> Exception | None:
    for delivery_id in command.ids:
        candidate = candidates.get(delivery_id)
        if candidate is None:
            return NotFound(f"there is no delivery {delivery_id}")
        if candidate.delivery.state == DeliveryState.QUEUED:
            return Conflict(f"the delivery {delivery_id} is still queued")
        if candidate.is_unreadable:
            return Conflict(f"the delivery {delivery_id} cannot be sent: {candidate.delivery.last_error}")
        if candidate.superseded:
            return _superseded(candidate.delivery.wait_id)
    return None


def _queue(
    transaction: Transaction, new: Sequence[NewDelivery], command: Command[Any], queued: Usage
) -> LimitReached | None:
    """Queues all of these deliveries, or none if a limit leaves no room; `queued` counts them."""
    principal = command.by.principal.name if command.by else ""
    needed = Counter(one.stored.namespace for one in new)
    for namespace, count in needed.items():
        share = transaction.rules.limits.share(Kept.REDELIVERIES, namespace)
        used = [queued.get(Kept.REDELIVERIES, namespace, who) for who in (None, principal)]
        room = room_for(Kept.REDELIVERIES, share, namespace, *used)
        if room.left < count:
            return room.reached
    for namespace, count in needed.items():
        queued.change(Kept.REDELIVERIES, namespace, principal, count)
    insert_deliveries(transaction, new, redelivered_by=principal)
    transaction.redelivered.update(destination for _, destination in new)
    return None


def _superseded(wait_id: str) -> Conflict:
    return Conflict(f"the wait {wait_id} was superseded, so its event is not delivered any more")
