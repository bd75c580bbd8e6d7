"""Reads waits: by id, by filter, and all that wait. Rows that cannot be read are set aside."""

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sqlalchemy import Integer, Select, Text, bindparam, func, literal, literal_column, select

from waitd.core.errors import NotFound, Unreadable
from waitd.core.waits.wait import WaitId, WaitState
from waitd.ports import ListPart, StoredDelivery, StoredWait, WaitFilter
from waitd.stores.codec import WaitingRow, WaitRow, decode_wait, decode_waiting, sliced, well_formed
from waitd.stores.connection import StoreConnection
from waitd.stores.delivery_codec import DeliveryRow, decode_delivery
from waitd.stores.schema import HAS_JOB_TO_CANCEL, IS_WAITING, deliveries, waits
from waitd.stores.sql_functions import json_pairs
from waitd.stores.statements import Statement, having, one_of, text_list
from waitd.stores.unreadable import DECODE_ERRORS, UnreadableRows, describe_error

#: How many waits are decoded before other tasks run, where all are read: about three milliseconds'
#: worth.
LOAD_SLICE = 500
#: How many deliveries are read with a wait, the newest; a wait may be redelivered any number of
#: times.
MAX_DELIVERIES = 64
#: The newest eight always; older ones while their sinks' parameters fit into so many bytes.
MAX_SINKS, MAX_SINK_BYTES = 8, 65_536
#: Under this name the waits are set aside whose deliveries are on a damaged page.
DELIVERIES_OF = "deliveries of waits"

_AFTER, _LIMIT = bindparam("after", type_=Text), bindparam("limit", type_=Integer)
BY_ID = Statement(select(waits).where(one_of(waits.c.id, "ids")))
_NEWEST_FIRST = func.row_number().over(partition_by=deliveries.c.wait_id, order_by=deliveries.c.id.desc())
_NEWER_BYTES = func.sum(func.length(deliveries.c.sink)).over(
    partition_by=deliveries.c.wait_id, order_by=deliveries.c.id.desc()
)
_RANKED = (
    select(deliveries, _NEWEST_FIRST.label("rank"), _NEWER_BYTES.label("bytes"))
    .where(one_of(deliveries.c.wait_id, "ids"))
    .subquery()
)
DELIVERIES = Statement(
    select(*(_RANKED.c[column.name] for column in deliveries.c))
    .where(
        _RANKED.c.rank <= literal_column(str(MAX_DELIVERIES)),
        (_RANKED.c.bytes <= literal_column(str(MAX_SINK_BYTES)))
        | (_RANKED.c.rank <= literal_column(str(MAX_SINKS))),
    )
    .order_by(_RANKED.c.id)
)
WAITING = Statement(
    select(*(waits.c[name] for name in WaitingRow._fields))
    .where(IS_WAITING, waits.c.id > _AFTER)
    .order_by(waits.c.id)
    .limit(_LIMIT)
)
WAITING_IDS = Statement(
    select(waits.c.id).where(IS_WAITING, waits.c.id > _AFTER).order_by(waits.c.id).limit(_LIMIT)
)
JOBS_TO_CANCEL = Statement(
    select(waits).where(HAS_JOB_TO_CANCEL, waits.c.id > _AFTER).order_by(waits.c.id).limit(_LIMIT)
)
ALL = Statement(select(waits).where(waits.c.id > _AFTER).order_by(waits.c.id).limit(_LIMIT))
_STATES = frozenset(WaitState)
COUNTS = Statement(select(waits.c.state, waits.c.kind, func.count()).group_by(waits.c.state, waits.c.kind))


async def rows_by_id(
    connection: StoreConnection, wait_ids: Sequence[str], unreadable: UnreadableRows
) -> dict[str, WaitRow]:
    """The rows of these waits, by id, without those that are on a damaged page."""

    async def fetch(ids: Sequence[str]) -> list[tuple[Any, ...]]:
        return await BY_ID.fetch_all(connection, ids=text_list(ids))

    async def fetch_each() -> list[tuple[Any, ...]]:
        return [
            row for wait_id in wait_ids for row in await _undamaged(connection, wait_id, fetch, unreadable)
        ]

    rows = await _whole_or_each(connection, fetch(wait_ids), fetch_each) if wait_ids else []
    return {row[0]: WaitRow._make(row) for row in rows}


async def _whole_or_each(
    connection: StoreConnection,
    whole: Awaitable[list[tuple[Any, ...]]],
    fetch_each: Callable[[], Awaitable[list[tuple[Any, ...]]]],
) -> list[tuple[Any, ...]]:
    """The rows of a query; one by one if a damaged one among them makes the query fail."""
    try:
        return await whole
    except Exception as error:
        if not connection.is_damage(error):
            raise
    return await fetch_each()


async def _undamaged(
    connection: StoreConnection,
    wait_id: Any,
    fetch: Callable[[Sequence[str]], Awaitable[list[tuple[Any, ...]]]],
    unreadable: UnreadableRows,
    table: str = "waits",
) -> list[tuple[Any, ...]]:
    try:
        return await fetch([wait_id])
    except Exception as error:
        if not connection.is_damage(error):
            raise
        unreadable.add(table, wait_id, error)
        return []


async def _page(
    connection: StoreConnection,
    query: Statement,
    unreadable: UnreadableRows,
    most_bytes: float = math.inf,
    **params: Any,
) -> list[tuple[Any, ...]]:
    """A page of rows of waits; the first column is the id, and the only one of damaged rows.

    If a row is damaged, the ids are read from an index and the rows one by one.
    """

    async def fetch(ids: Sequence[str]) -> list[tuple[Any, ...]]:
        one = select(*query.select.selected_columns).where(one_of(waits.c.id, "ids"))
        return await Statement(one).fetch_all(connection, ids=text_list(ids))

    async def fetch_each() -> list[tuple[Any, ...]]:
        ids = await Statement(query.select.with_only_columns(waits.c.id)).fetch_all(connection, **params)
        return [
            row
            for (wait_id,) in ids
            for row in await _undamaged(connection, wait_id, fetch, unreadable) or [(wait_id,)]
        ]

    whole = (
        query.fetch_all(connection, **params)
        if most_bytes == math.inf
        else query.fetch_part(connection, most_bytes, **params)
    )
    return await _whole_or_each(connection, whole, fetch_each)


async def _decoded_page(  # noqa: PLR0917 - what its callers pass on
    connection: StoreConnection,
    query: Statement,
    decode: Callable[[tuple[Any, ...]], StoredWait],
    unreadable: UnreadableRows,
    after: WaitId | None,
    limit: int,
) -> list[StoredWait]:
    """Up to `limit` waits after an id; unreadable rows do not count."""
    result: list[StoredWait] = []
    position: Any = after or ""
    while len(result) < limit:
        size = limit - len(result)
        rows = await _page(connection, query, unreadable, after=position, limit=size)
        async for part in sliced(rows, LOAD_SLICE):
            result += unreadable.readable("waits", (row for row in part if len(row) > 1), decode)
        if len(rows) < size:
            break
        position = _last_id(rows)
    return result


def _last_id(rows: Sequence[tuple[Any, ...]]) -> Any:
    """The last id of a page, after which the next page begins.

    An id that is no valid text cannot be a parameter; so that is the last one that is.
    """
    return next((row[0] for row in reversed(rows) if isinstance(row[0], str)), rows[-1][0])


def _text_below(row_id: bytes, before: str | None) -> str:
    """The `before` of the page after an id that is no valid text, where the newest are first."""
    if before is None:  # it may be a BLOB, and every BLOB comes before the texts
        return "\U0010ffff"
    # Valid ids are ASCII, and below the first byte that is not.
    return row_id.decode(errors="replace").partition("\ufffd")[0] + "\x7f"


async def deliveries_of(
    connection: StoreConnection, wait_ids: Sequence[str], unreadable: UnreadableRows
) -> dict[str, tuple[StoredDelivery, ...]]:
    """The newest `MAX_DELIVERIES` deliveries of each wait, oldest first, by the wait's id."""

    async def fetch(ids: Sequence[str]) -> list[tuple[Any, ...]]:
        return await DELIVERIES.fetch_all(connection, ids=text_list(ids))

    async def fetch_each() -> list[tuple[Any, ...]]:
        return [
            row
            for wait_id in wait_ids
            for row in await _undamaged(connection, wait_id, fetch, unreadable, DELIVERIES_OF)
        ]

    rows = await _whole_or_each(connection, fetch(wait_ids), fetch_each) if wait_ids else []
    by_wait: dict[str, list[StoredDelivery]] = {}
    async for part in sliced(rows):
        for row in map(DeliveryRow._make, part):
            by_wait.setdefault(row.wait_id, []).append(decode_delivery(row))
    return {wait_id: tuple(items) for wait_id, items in by_wait.items()}


def visible_in(namespace: str | None, row: WaitRow | None) -> WaitRow | None:
    """The row if it belongs to the namespace; None stands for any namespace."""
    return row if row is not None and namespace in {None, row.namespace} else None


def not_found(wait_id: str) -> NotFound:
    """The error for a wait that does not exist or belongs to another namespace."""
    return NotFound(f"there is no wait {wait_id}")


async def get(
    connection: StoreConnection, wait_id: str, namespace: str | None, unreadable: UnreadableRows
) -> StoredWait:
    """One wait with its newest deliveries, oldest first.

    Raises:
        NotFound: it does not exist, or it belongs to another namespace.
        Unreadable: its row cannot be read.
    """
    wait_id = well_formed(wait_id)
    stored = (await rows_by_id(connection, [wait_id], unreadable)).get(wait_id)
    if stored is None and namespace is None and (error := unreadable.errors("waits").get(wait_id)):
        raise Unreadable(wait_id, error)
    row = visible_in(namespace, stored)
    if row is None:
        raise not_found(wait_id)
    ended = row.finished_at is not None  # deliveries are written in the transaction that ends a wait
    by_wait = await deliveries_of(connection, [wait_id], unreadable) if ended else {}
    return decode_one(row, unreadable, by_wait.get(wait_id, ()))


def decode_one(
    row: WaitRow, unreadable: UnreadableRows, deliveries: tuple[StoredDelivery, ...] = ()
) -> StoredWait:
    """The wait in a row. Raises Unreadable, and sets the row aside."""
    try:
        return decode_wait(row, deliveries)
    except DECODE_ERRORS as error:
        unreadable.add("waits", row.id, error)
        raise Unreadable(row.id, describe_error(error)) from None


async def find(
    connection: StoreConnection, filter_: WaitFilter, unreadable: UnreadableRows
) -> ListPart[StoredWait]:
    """Waits that match the filter, newest first, each with its newest deliveries."""
    result: ListPart[StoredWait] = ListPart()
    while len(result) < filter_.limit and not result.cut:
        page = replace(filter_, limit=filter_.limit - len(result))
        rows = await _page(connection, Statement(matching(page)), unreadable, filter_.most_bytes)
        cut = isinstance(rows, ListPart) and rows.cut
        whole = [WaitRow._make(row) for row in rows if len(row) > 1]
        ended = [row.id for row in whole if row.finished_at is not None and isinstance(row.id, str)]
        by_wait = await deliveries_of(connection, ended, unreadable)

        def decode(row: WaitRow, by_wait: Mapping[str, tuple[StoredDelivery, ...]] = by_wait) -> StoredWait:
            return decode_wait(row, by_wait.get(row.id, ()))

        async for part in sliced(whole):
            result += unreadable.readable("waits", part, decode)
        result.cut = cut and bool(result)  # what is unreadable must not end a list
        last = _last_id(rows) if cut or len(rows) == page.limit else None
        if last is None:
            break
        before = last if isinstance(last, str) else _text_below(last, filter_.before)
        filter_ = replace(filter_, before=WaitId(before))
    return result


def matching(filter_: WaitFilter) -> Select[Any]:
    """The query for the rows that match the filter."""
    conditions = having(
        (waits.c.namespace, filter_.namespace), (waits.c.state, filter_.state), (waits.c.kind, filter_.kind)
    )
    query = select(waits).where(*conditions).order_by(waits.c.id.desc()).limit(filter_.limit)
    if filter_.before is not None:
        query = query.where(waits.c.id < well_formed(filter_.before))
    for name, value in (filter_.labels or {}).items():
        # Compared as values: a JSON path cannot escape every label's name.
        label = json_pairs(waits.c.spec, "labels")
        query = query.where(
            select(literal(1))
            .where(label.c.key == well_formed(name), label.c.value == literal(well_formed(value), Text))
            .exists()
        )
    return query


async def load_waiting(
    connection: StoreConnection, after: WaitId | None, limit: int, unreadable: UnreadableRows
) -> list[StoredWait]:
    """A page of waiting waits in the order of their ids."""
    return await _decoded_page(connection, WAITING, decode_waiting, unreadable, after, limit)


async def waiting_ids(
    connection: StoreConnection, after: WaitId | None, limit: int, unreadable: UnreadableRows
) -> list[WaitId]:
    """A page of the ids of waiting waits, in their order; empty at the end."""
    position: Any = after or ""
    while rows := await WAITING_IDS.fetch_all(connection, after=position, limit=limit):
        known = unreadable.errors("waits")
        if ids := [wait_id for (wait_id,) in rows if wait_id not in known]:
            return ids
        position = _last_id(rows)
    return []


async def jobs_to_cancel(
    connection: StoreConnection, after: WaitId | None, limit: int, unreadable: UnreadableRows
) -> list[StoredWait]:
    """A page of ended waits whose jobs have yet to be cancelled, in the order of their ids."""
    return await _decoded_page(
        connection, JOBS_TO_CANCEL, lambda row: decode_wait(WaitRow._make(row)), unreadable, after, limit
    )


async def scrub(
    connection: StoreConnection, after: str | None, limit: int, unreadable: UnreadableRows
) -> str | None:
    """See `MaintenanceStore`."""
    rows = await _page(connection, ALL, unreadable, after=after or "", limit=limit)
    async for part in sliced([row for row in rows if len(row) > 1]):
        for _ in unreadable.readable("waits", map(WaitRow._make, part), decode_wait):
            pass
    return rows[-1][0] if len(rows) == limit else None


async def counts(connection: StoreConnection) -> Mapping[tuple[str, str], int]:
    """The number of waits by (state, kind)."""
    rows = await COUNTS.fetch_all(connection)
    return {(state, kind): n for state, kind, n in rows if state in _STATES and isinstance(kind, str)}
