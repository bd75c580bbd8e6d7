"""The queries. Each statement in them sees the database as it is at that moment."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    Boolean,
    Float,
    Integer,
    Select,
    Text,
    bindparam,
    func,
    literal,
    literal_column,
    select,
    text,
)

from waitd.core.waits.delivery import DeliveryId, DeliveryState
from waitd.core.waits.wait import WaitId
from waitd.ports import DeliveryFilter, OutboxItem, StoredDelivery, StoredWait, WaitFilter
from waitd.stores.codec import (
    DeliveryRow,
    WaitingRow,
    WaitRow,
    parcel,
    stored_delivery,
    stored_wait,
    waiting_wait,
)
from waitd.stores.operations.redelivery import HAS_NEWER
from waitd.stores.operations.transaction import sliced
from waitd.stores.queries.rows import deliveries_of, not_found, seen_from, wait_rows
from waitd.stores.schema import IS_QUEUED, IS_WAITING, deliveries, waits
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement, one_of, texts
from waitd.stores.text import well_formed

#: How many waits are decoded in one turn of the loop where all are read: some three milliseconds' worth. What is due then comes in between.
AT_A_TURN = 500
#: Each destination with a queued delivery, and when its first is due. Hops from one to the next along the index, so that its cost is the
#: number of destinations and not that of deliveries: a dead destination's backlog does not slow down the others.
_FIRST_DUE = """
    WITH RECURSIVE hop(destination) AS (
        SELECT min(destination) FROM deliveries INDEXED BY deliveries_due WHERE state = 'queued'
        UNION ALL
        SELECT (
            SELECT min(d.destination) FROM deliveries AS d INDEXED BY deliveries_due
            WHERE d.state = 'queued' AND d.destination > hop.destination
        )
        FROM hop WHERE hop.destination IS NOT NULL
    ),
    first_due(destination, due) AS (
        SELECT hop.destination, (
            SELECT min(d.next_attempt_at) FROM deliveries AS d INDEXED BY deliveries_due
            WHERE d.state = 'queued' AND d.destination = hop.destination
        )
        FROM hop WHERE hop.destination IS NOT NULL
    )
"""
DUE_DESTINATIONS = Statement(text(_FIRST_DUE + " SELECT destination FROM first_due WHERE due <= :now"))  # noqa: S608 - constants
NEXT_ATTEMPT_AT = Statement(text(_FIRST_DUE + " SELECT min(due) FROM first_due"))  # noqa: S608 - constants
DUE_ITEMS = Statement(
    select(waits.c.event, *deliveries.c)
    .join(waits, waits.c.id == deliveries.c.wait_id)
    .where(
        IS_QUEUED,
        deliveries.c.destination == bindparam("destination", type_=Text),
        deliveries.c.next_attempt_at <= bindparam("now", type_=Float),
        ~one_of(deliveries.c.id, "leave_out"),
    )
    .order_by(deliveries.c.next_attempt_at)
    .limit(bindparam("limit", type_=Integer))
)
LOAD_WAITING = Statement(
    select(*(waits.c[name] for name in WaitingRow._fields))
    .where(IS_WAITING, waits.c.id > bindparam("after", type_=Text))
    .order_by(waits.c.id)
    .limit(bindparam("limit", type_=Integer))
)
WAITING_IDS = Statement(
    select(waits.c.id)
    .where(IS_WAITING, waits.c.id > bindparam("after", type_=Text))
    .order_by(waits.c.id)
    .limit(bindparam("limit", type_=Integer))
)
COUNTS = Statement(select(waits.c.state, waits.c.kind, func.count()).group_by(waits.c.state, waits.c.kind))
DELIVERY_COUNTS = Statement(select(deliveries.c.state, func.count()).group_by(deliveries.c.state))


async def get(link: ConnectionThread, wait_id: str, namespace: str | None) -> StoredWait:
    """One wait with its deliveries, oldest first.

    Raises:
        NotFound: there is none, or it lies in another namespace.
    """
    wait_id = well_formed(wait_id)
    row = seen_from(namespace, (await wait_rows(link, [wait_id])).get(wait_id))
    if row is None:
        raise not_found(wait_id)
    if row.finished_at is None:  # no deliveries then; and where it has ended, all of them are there by now
        return stored_wait(row)
    return stored_wait(row, (await deliveries_of(link, [wait_id])).get(wait_id, ()))


async def find(link: ConnectionThread, wanted: WaitFilter) -> list[StoredWait]:
    """Waits that meet the filter, newest first, with their deliveries."""
    rows = [WaitRow._make(row) for row in await Statement(waits_that(wanted)).run(link)]
    outbox = await deliveries_of(link, [row.id for row in rows if row.finished_at is not None])
    return await _decoded(rows, outbox)


def waits_that(wanted: WaitFilter) -> Select[Any]:
    """The query for their rows."""
    query = select(waits).order_by(waits.c.id.desc()).limit(wanted.limit)
    if wanted.namespace is not None:
        query = query.where(waits.c.namespace == well_formed(wanted.namespace))
    if wanted.state is not None:
        query = query.where(waits.c.state == well_formed(wanted.state))
    if wanted.kind is not None:
        query = query.where(waits.c.kind == well_formed(wanted.kind))
    if wanted.before is not None:
        query = query.where(waits.c.id < well_formed(wanted.before))
    for name, value in (wanted.labels or {}).items():
        # Compared as values, never put into a JSON path: a path has no way to escape every name.
        label = func.json_each(waits.c.spec, "$.labels").table_valued("key", "value", joins_implicitly=True)
        query = query.where(
            select(literal(1))
            .where(label.c.key == well_formed(name), label.c.value == literal(well_formed(value), Text))
            .exists()
        )
    return query


async def find_deliveries(link: ConnectionThread, wanted: DeliveryFilter) -> list[StoredDelivery]:
    """Deliveries that meet the filter, newest first."""
    query = select(deliveries).order_by(deliveries.c.id.desc()).limit(wanted.limit)
    found: list[StoredDelivery] = []
    async for part in sliced(await Statement(_narrowed(query, wanted)).run(link)):
        found += [stored_delivery(DeliveryRow._make(row)) for row in part]
    return found


async def dead_deliveries(link: ConnectionThread, wanted: DeliveryFilter) -> list[DeliveryId]:
    """Dead deliveries that meet the filter and nothing came after, the oldest first; one more than its limit, where there are more."""
    query = (
        select(deliveries.c.id)
        .join(waits, waits.c.id == deliveries.c.wait_id)
        .where(waits.c.superseded == literal_column("0", Boolean), ~HAS_NEWER)
        .order_by(deliveries.c.id)
        .limit(wanted.limit + 1)
    )
    narrowed = _narrowed(query, replace(wanted, state=DeliveryState.DEAD.value))
    return [DeliveryId(delivery_id) for (delivery_id,) in await Statement(narrowed).run(link)]


def _narrowed(query: Select[Any], wanted: DeliveryFilter) -> Select[Any]:
    if wanted.namespace is not None:
        query = query.where(deliveries.c.namespace == well_formed(wanted.namespace))
    if wanted.state is not None:
        query = query.where(deliveries.c.state == well_formed(wanted.state))
    if wanted.sink is not None:
        query = query.where(func.json_extract(deliveries.c.sink, "$.kind") == well_formed(wanted.sink))
    if wanted.wait_id is not None:
        query = query.where(deliveries.c.wait_id == well_formed(wanted.wait_id))
    if wanted.before is not None:
        query = query.where(deliveries.c.id < well_formed(wanted.before))
    return query


async def load_waiting(link: ConnectionThread, after: WaitId | None, limit: int) -> list[StoredWait]:
    """A page of waiting waits in the order of their ids."""
    rows = await LOAD_WAITING.run(link, after=after or "", limit=limit)
    found: list[StoredWait] = []
    async for part in sliced(rows, AT_A_TURN):
        found += [waiting_wait(WaitingRow._make(row)) for row in part]
    return found


async def waiting_ids(link: ConnectionThread, after: WaitId | None, limit: int) -> list[WaitId]:
    """A page of the ids of waiting waits, in their order."""
    return [WaitId(wait_id) for (wait_id,) in await WAITING_IDS.run(link, after=after or "", limit=limit)]


async def due_destinations(link: ConnectionThread, now: float) -> list[str]:
    """Destinations with a queued delivery that is due at `now` (Unix seconds)."""
    return [destination for (destination,) in await DUE_DESTINATIONS.run(link, now=now)]


async def next_attempt_at(link: ConnectionThread) -> float | None:
    """When the earliest queued delivery is due, Unix seconds."""
    ((due,),) = await NEXT_ATTEMPT_AT.run(link)
    return None if due is None else float(due)


async def due_items(
    link: ConnectionThread, destination: str, now: float, limit: int, leave_out: frozenset[DeliveryId]
) -> list[OutboxItem]:
    """Up to `limit` deliveries to one destination that are due, the longest due first."""
    rows = await DUE_ITEMS.run(
        link, destination=destination, now=now, limit=limit, leave_out=texts(leave_out)
    )
    return [parcel(DeliveryRow._make(row), event) for event, *row in rows]


async def counts(link: ConnectionThread) -> Mapping[tuple[str, str], int]:
    """How many waits there are by (state, kind)."""
    return {(state, kind): count for state, kind, count in await COUNTS.run(link)}


async def delivery_counts(link: ConnectionThread) -> Mapping[str, int]:
    """How many deliveries there are by state."""
    return {state: count for state, count in await DELIVERY_COUNTS.run(link)}  # noqa: C416 - mypy knows the pair only so


async def _decoded(
    rows: Sequence[WaitRow], outbox: Mapping[str, tuple[StoredDelivery, ...]]
) -> list[StoredWait]:
    found: list[StoredWait] = []
    async for part in sliced(rows):
        found += [stored_wait(row, outbox.get(row.id, ())) for row in part]
    return found
