"""Reads the outbox: what is due where, and deliveries by filter."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sqlalchemy import Boolean, Float, Integer, Select, Text, bindparam, func, literal_column, select, text

from waitd.core.waits.delivery import DeliveryId, DeliveryState
from waitd.ports import DeliveryFilter, OutboxItem, StoredDelivery
from waitd.stores.codec import DeliveryRow, decode_delivery, decode_outbox_item, sliced, well_formed
from waitd.stores.schema import HAS_NEWER_DELIVERY, IS_QUEUED, deliveries, waits
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement, having, one_of, text_list

#: Each destination with a queued delivery, and when its first one is due. Jumps from one
#: destination to the next along the index: the cost grows with destinations, not deliveries, so
#: that a dead destination's backlog does not slow down the others.
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
        ~one_of(deliveries.c.id, "exclude"),
    )
    .order_by(deliveries.c.next_attempt_at)
    .limit(bindparam("limit", type_=Integer))
)
COUNTS = Statement(select(deliveries.c.state, func.count()).group_by(deliveries.c.state))


async def find(connection: ConnectionThread, filter_: DeliveryFilter) -> list[StoredDelivery]:
    """Deliveries that match the filter, newest first."""
    query = select(deliveries).order_by(deliveries.c.id.desc()).limit(filter_.limit)
    rows = await Statement(_matching(query, filter_)).fetch_all(connection)
    return [decode_delivery(DeliveryRow._make(row)) async for part in sliced(rows) for row in part]


async def find_dead(connection: ConnectionThread, filter_: DeliveryFilter) -> list[DeliveryId]:
    """Dead deliveries that match the filter and may be redelivered, oldest first.

    Deliveries of superseded waits and those with a newer delivery to the same sink are left out.
    Returns one id more than the filter's limit where there are more.
    """
    query = (
        select(deliveries.c.id)
        .join(waits, waits.c.id == deliveries.c.wait_id)
        .where(waits.c.superseded == literal_column("0", Boolean), ~HAS_NEWER_DELIVERY)
        .order_by(deliveries.c.id)
        .limit(filter_.limit + 1)
    )
    dead = _matching(query, replace(filter_, state=DeliveryState.DEAD.value))
    return [DeliveryId(delivery_id) for (delivery_id,) in await Statement(dead).fetch_all(connection)]


def _matching(query: Select[Any], filter_: DeliveryFilter) -> Select[Any]:
    query = query.where(
        *having(
            (deliveries.c.namespace, filter_.namespace),
            (deliveries.c.state, filter_.state),
            (func.json_extract(deliveries.c.sink, "$.kind"), filter_.sink),
            (deliveries.c.wait_id, filter_.wait_id),
        )
    )
    return query if filter_.before is None else query.where(deliveries.c.id < well_formed(filter_.before))


async def due_destinations(connection: ConnectionThread, now: float) -> list[str]:
    """Destinations with a queued delivery that is due at `now` (Unix seconds)."""
    return [destination for (destination,) in await DUE_DESTINATIONS.fetch_all(connection, now=now)]


async def next_attempt_at(connection: ConnectionThread) -> float | None:
    """When the earliest queued delivery is due, Unix seconds."""
    ((due,),) = await NEXT_ATTEMPT_AT.fetch_all(connection)
    return None if due is None else float(due)


async def due_items(
    connection: ConnectionThread, destination: str, now: float, limit: int, exclude: frozenset[DeliveryId]
) -> list[OutboxItem]:
    """Up to `limit` deliveries to one destination that are due, the longest due first."""
    rows = await DUE_ITEMS.fetch_all(
        connection, destination=destination, now=now, limit=limit, exclude=text_list(exclude)
    )
    return [decode_outbox_item(DeliveryRow._make(row), event) for event, *row in rows]


async def counts(connection: ConnectionThread) -> Mapping[str, int]:
    """The number of deliveries by state."""
    return {state: count for state, count in await COUNTS.fetch_all(connection)}  # noqa: C416 - mypy cannot infer dict() here
