"""Reads waits that cannot be decoded as what their columns hold."""

from collections.abc import Iterator
from typing import Any

from sqlalchemy import ColumnElement, bindparam, select

from waitd.ports import ListPart, UnreadableWait, WaitFilter
from waitd.stores.codec import WaitRow, decode_wait
from waitd.stores.connection import StoreConnection
from waitd.stores.schema import waits
from waitd.stores.sql_functions import as_bytes, stored_type, stored_value
from waitd.stores.statements import Statement
from waitd.stores.unreadable import (
    DECODE_ERRORS,
    UnreadableRows,
    describe_error,
    display_id,
    unreadable_wait,
)


def _raw(row_id: ColumnElement[Any]) -> Statement:
    """The types and values of all columns."""
    columns = [read(column) for column in waits.c for read in (stored_type, stored_value)]
    same = row_id.is_not_distinct_from(bindparam("row_id", type_=row_id.type))  # finds NULL, too
    return Statement(select(*columns).where(same))


_RAW = _raw(waits.c.id)
#: For ids that are no valid text, which cannot be a parameter. Reads the whole table.
_RAW_BY_BYTES = _raw(as_bytes(waits.c.id))


async def find(
    connection: StoreConnection, filter_: WaitFilter, unreadable: UnreadableRows
) -> ListPart[UnreadableWait]:
    """See `ApiStore.find_unreadable`. A wait that was mended or deleted is not listed any more."""
    found: ListPart[UnreadableWait] = ListPart()
    size = 0
    for row_id in sorted(unreadable.errors("waits"), key=display_id, reverse=True):
        if filter_.labels or (filter_.before is not None and display_id(row_id) >= filter_.before):
            continue
        matching = [
            wait
            for wait in await _read(connection, row_id, unreadable)
            if filter_.namespace in {None, wait.namespace} and filter_.kind in {None, wait.row.get("kind")}
        ]
        found += matching
        size += sum(len(str(wait.row)) for wait in matching)
        if len(found) >= filter_.limit:
            break
        if size >= filter_.most_bytes:
            found.cut = True
            break
    del found[filter_.limit :]
    return found


async def get(
    connection: StoreConnection, wait_id: str, namespace: str | None, unreadable: UnreadableRows
) -> UnreadableWait | None:
    """One unreadable wait; None if there is none with this id in the namespace."""
    if wait_id not in unreadable.errors("waits"):
        return None
    for wait in await _read(connection, wait_id, unreadable):
        if namespace in {None, wait.namespace}:
            return wait
    return None


async def check(connection: StoreConnection, unreadable: UnreadableRows) -> None:
    """Forgets the waits that were mended or deleted."""
    for row_id in unreadable.errors("waits"):
        await _read(connection, row_id, unreadable)


async def _read(connection: StoreConnection, row_id: Any, unreadable: UnreadableRows) -> list[UnreadableWait]:
    """The rows with this id, which is one unless the id is NULL."""
    try:
        query = _RAW_BY_BYTES if isinstance(row_id, bytes) else _RAW
        rows = await query.fetch_all(connection, row_id=row_id)
    except Exception as damage:
        if not connection.is_damage(damage):
            raise
        return [unreadable_wait(row_id, describe_error(damage), {})]
    found = []
    for row in rows:
        columns = dict(zip(WaitRow._fields, zip(row[::2], row[1::2], strict=True), strict=True))
        try:
            decode_wait(WaitRow._make(_decoded(columns)))
        except DECODE_ERRORS as still:
            found.append(unreadable_wait(row_id, describe_error(still), columns))
    if not found:
        unreadable.discard("waits", row_id)
    return found


def _decoded(columns: dict[str, tuple[str, Any]]) -> Iterator[Any]:
    for kind, value in columns.values():
        yield value.decode() if kind == "text" else value
