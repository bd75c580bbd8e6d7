"""Reads the outbox: what is due where, and deliveries by filter."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import (
    ColumnElement,
    Float,
    Integer,
    Select,
    Subquery,
    Text,
    bindparam,
    false,
    func,
    literal_column,
    select,
)

from waitd.core.waits.delivery import DeliveryId, DeliveryState
from waitd.ports import DeliveryFilter, ListPart, OutboxItem, StoredDelivery
from waitd.stores.codec import sliced, well_formed
from waitd.stores.connection import StoreConnection
from waitd.stores.delivery_codec import DeliveryRow, decode_delivery, decode_outbox_item
from waitd.stores.schema import HAS_NEWER_DELIVERY, IS_QUEUED, deliveries, waits
from waitd.stores.sql_functions import RowId, by_index, json_text, without_index
from waitd.stores.statements import Statement, having, one_of, text_list
from waitd.stores.unreadable import DECODE_ERRORS, UnreadableRows, describe_error

_NOW = bindparam("now", type_=Float)
_DUE_INDEX = "deliveries_due"
_each = deliveries.alias("d")


def _queued(*columns: ColumnElement[Any]) -> Select[Any]:
    """`columns` of `_each`, which is read by its index."""
    is_queued = _each.c.state == literal_column("'queued'", Text)
    return by_index(select(*columns).where(is_queued), _each, _DUE_INDEX)


def _first_due() -> Subquery:
    """Each destination with a queued delivery, and when its first one is due.

    Jumps from one destination to the next along the index: the cost grows with destinations, not
    deliveries, so that a dead destination's backlog does not slow down the others.
    """
    hop = _queued(func.min(_each.c.destination).label("destination")).cte("hop", recursive=True)
    later = _queued(func.min(_each.c.destination)).where(_each.c.destination > hop.c.destination)
    hop = hop.union_all(select(later.correlate(hop).scalar_subquery()).where(hop.c.destination.is_not(None)))
    first = _queued(func.min(_each.c.next_attempt_at)).where(_each.c.destination == hop.c.destination)
    return (
        select(hop.c.destination, first.correlate(hop).scalar_subquery().label("due"))
        .where(hop.c.destination.is_not(None))
        .subquery("first_due")
    )


_FIRST_DUE = _first_due()
DUE_DESTINATIONS = Statement(select(_FIRST_DUE.c.destination).where(_FIRST_DUE.c.due <= _NOW))
NEXT_ATTEMPT_AT = Statement(select(func.min(_FIRST_DUE.c.due)))
_ALL_DUE_DESTINATIONS = Statement(
    without_index(
        select(deliveries.c.destination)
        .where(IS_QUEUED)
        .group_by(deliveries.c.destination)
        .having(func.min(deliveries.c.next_attempt_at) <= _NOW),
        deliveries,
    )
)
_NEXT_OF_ALL = Statement(
    without_index(select(func.min(deliveries.c.next_attempt_at)).where(IS_QUEUED), deliveries)
)
DUE_ITEMS = Statement(
    select(waits.c.event, *deliveries.c)
    .join(waits, waits.c.id == deliveries.c.wait_id)
    .where(
        IS_QUEUED,
        deliveries.c.destination == bindparam("destination", type_=Text),
        deliveries.c.next_attempt_at <= _NOW,
        ~one_of(deliveries.c.id, "exclude"),
    )
    .order_by(deliveries.c.next_attempt_at)
    .limit(bindparam("limit", type_=Integer))
)
_ROW_ID = RowId("deliveries")
_DUE_ROW_IDS = Statement(
    by_index(
        select(_ROW_ID)
        .where(
            IS_QUEUED,
            deliveries.c.destination == bindparam("destination", type_=Text),
            deliveries.c.next_attempt_at <= _NOW,
        )
        .order_by(deliveries.c.next_attempt_at)
        .limit(bindparam("limit", type_=Integer)),
        deliveries,
        _DUE_INDEX,
    )
)
_BY_ROW_ID = Statement(select(*deliveries.c).where(bindparam("row_id", type_=Integer) == _ROW_ID))
_EVENTS = Statement(select(waits.c.id, waits.c.event).where(one_of(waits.c.id, "ids")))
COUNTS = Statement(select(deliveries.c.state, func.count()).group_by(deliveries.c.state))


async def find(connection: StoreConnection, filter_: DeliveryFilter) -> ListPart[StoredDelivery]:
    """Deliveries that match the filter, newest first."""
    query = select(deliveries).order_by(deliveries.c.id.desc()).limit(filter_.limit)
    rows = await Statement(_matching(query, filter_)).fetch_part(connection, filter_.most_bytes)
    found = ListPart([decode_delivery(DeliveryRow._make(row)) async for part in sliced(rows) for row in part])
    found.cut = rows.cut
    return found


async def find_dead(connection: StoreConnection, filter_: DeliveryFilter) -> list[DeliveryId]:
    """Dead deliveries that match the filter and may be redelivered, oldest first.

    Deliveries of superseded waits and those with a newer delivery to the same sink are left out.
    Returns one id more than the filter's limit where there are more.
    """
    query = (
        select(deliveries.c.id)
        .join(waits, waits.c.id == deliveries.c.wait_id)
        .where(waits.c.superseded == false(), ~HAS_NEWER_DELIVERY)
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
            (json_text(deliveries.c.sink, "kind"), filter_.sink),
            (deliveries.c.wait_id, filter_.wait_id),
        )
    )
    return query if filter_.before is None else query.where(deliveries.c.id < well_formed(filter_.before))


async def due_destinations(connection: StoreConnection, now: float) -> list[str]:
    """Destinations with a queued delivery that is due at `now` (Unix seconds)."""
    rows = await _by_index_or_all(connection, DUE_DESTINATIONS, _ALL_DUE_DESTINATIONS, now=now)
    return [destination for (destination,) in rows]


async def next_attempt_at(connection: StoreConnection) -> float | None:
    """When the earliest queued delivery is due, Unix seconds."""
    ((due,),) = await _by_index_or_all(connection, NEXT_ATTEMPT_AT, _NEXT_OF_ALL)
    return float(due) if isinstance(due, (int, float)) else None


async def _by_index_or_all(
    connection: StoreConnection, by_index: Statement, of_all: Statement, **params: Any
) -> list[tuple[Any, ...]]:
    """The rows of a query by the index, or if it has a torn page, of one that reads the table."""
    try:
        return await by_index.fetch_all(connection, **params)
    except Exception as error:
        if not connection.is_damage(error):
            raise
        return await of_all.fetch_all(connection, **params)


async def due_items(  # noqa: PLR0917 - what `OutboxStore` passes
    connection: StoreConnection,
    destination: str,
    now: float,
    limit: int,
    exclude: frozenset[DeliveryId],
    unreadable: UnreadableRows,
) -> tuple[list[OutboxItem], dict[Any, str]]:
    """Up to `limit` deliveries to one destination that are due, the longest due first.

    Also the ids of those that cannot be read, each with the reason.
    """
    params = {"destination": destination, "now": now}
    excluded = exclude | frozenset(filter(_is_text, unreadable.errors("deliveries")))
    try:
        rows = await DUE_ITEMS.fetch_all(connection, **params, limit=limit, exclude=text_list(excluded))
    except Exception as error:
        if not connection.is_damage(error):
            raise
        rows = await _each_due(connection, params, limit + len(excluded), excluded, unreadable)
    items: list[OutboxItem] = []
    broken: dict[Any, str] = {}
    for event, *row in rows:
        try:
            items.append(decode_outbox_item(DeliveryRow._make(row), event))
        except DECODE_ERRORS as error:
            broken[row[0]] = describe_error(error)
    return items, broken


def _is_text(value: object) -> bool:
    return isinstance(value, str)


async def _each_due(
    connection: StoreConnection,
    params: dict[str, Any],
    limit: int,
    excluded: frozenset[str],
    unreadable: UnreadableRows,
) -> list[tuple[Any, ...]]:
    """The due deliveries one by one, without those on a damaged page; the index knows all."""
    due: list[tuple[Any, DeliveryRow]] = []
    for (row_id,) in await _DUE_ROW_IDS.fetch_all(connection, **params, limit=limit):
        try:
            rows = await _BY_ROW_ID.fetch_all(connection, row_id=row_id)
        except Exception as error:
            if not connection.is_damage(error):
                raise
            unreadable.add("deliveries", row_id, error)
        else:
            due += [(row_id, row) for row in map(DeliveryRow._make, rows) if row.id not in excluded]
    events = await _events(connection, list({row.wait_id for _, row in due if _is_text(row.wait_id)}))
    for row_id, row in due:
        if row.wait_id not in events:
            unreadable.add("deliveries", row_id, "the row of its wait cannot be read")
    return [(events[row.wait_id], *row) for _, row in due if row.wait_id in events]


async def _events(connection: StoreConnection, wait_ids: Sequence[str]) -> dict[str, Any]:
    """The events of waits by id, without those on a damaged page."""
    try:
        rows = await _EVENTS.fetch_all(connection, ids=text_list(wait_ids))
    except Exception as error:
        if not connection.is_damage(error):
            raise
        if len(wait_ids) <= 1:
            return {}
        middle = len(wait_ids) // 2
        return await _events(connection, wait_ids[:middle]) | await _events(connection, wait_ids[middle:])
    return {row[0]: row[1] for row in rows}


async def counts(connection: StoreConnection) -> Mapping[str, int]:
    """The number of deliveries by state."""
    return {state: count for state, count in await COUNTS.fetch_all(connection)}  # noqa: C416 - mypy cannot infer dict() here
