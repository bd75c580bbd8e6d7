"""Reads waits that cannot be decoded as what their columns hold."""

import sqlite3
from collections.abc import Iterator
from typing import Any

from sqlalchemy import LargeBinary, case, cast, func, literal_column, select

from waitd.ports import ListPart, UnreadableWait, WaitFilter
from waitd.stores.codec import WaitRow, decode_wait
from waitd.stores.schema import waits
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement
from waitd.stores.unreadable import (
    DECODE_ERRORS,
    UnreadableRows,
    describe_error,
    display_id,
    is_damage,
    unreadable_wait,
)


def _raw(row_id: str) -> str:
    """The types and values of all columns. Texts come as bytes, since they may not be UTF-8."""
    columns: list[Any] = []
    for column in waits.c:
        kind = func.typeof(column)
        columns += [kind, case((kind == literal_column("'text'"), cast(column, LargeBinary)), else_=column)]
    # IS finds NULL, too; SQLAlchemy would compare with a value of the column's own type.
    return Statement(select(*columns).where(literal_column(f"{row_id} IS ?"))).sql


_RAW = _raw("waits.id")
#: For ids that are no valid text, which cannot be a parameter. Reads the whole table.
_RAW_BY_BYTES = _raw("CAST(waits.id AS BLOB)")


async def find(
    connection: ConnectionThread, filter_: WaitFilter, unreadable: UnreadableRows
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
    connection: ConnectionThread, wait_id: str, namespace: str | None, unreadable: UnreadableRows
) -> UnreadableWait | None:
    """One unreadable wait; None if there is none with this id in the namespace."""
    if wait_id not in unreadable.errors("waits"):
        return None
    for wait in await _read(connection, wait_id, unreadable):
        if namespace in {None, wait.namespace}:
            return wait
    return None


async def check(connection: ConnectionThread, unreadable: UnreadableRows) -> None:
    """Forgets the waits that were mended or deleted."""
    for row_id in unreadable.errors("waits"):
        await _read(connection, row_id, unreadable)


async def _read(
    connection: ConnectionThread, row_id: Any, unreadable: UnreadableRows
) -> list[UnreadableWait]:
    """The rows with this id, which is one unless the id is NULL."""
    try:
        query = _RAW_BY_BYTES if isinstance(row_id, bytes) else _RAW
        rows = await connection.fetch_all(query, [row_id])
    except sqlite3.Error as damage:
        if not is_damage(damage):
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
