"""Reads the event log: the events of ended waits in the order of their numbers."""

from typing import Any

import structlog
from sqlalchemy import Integer, Text, bindparam, case, func, literal_column, or_, select

from waitd.core.errors import NotFound
from waitd.ports import StoredEvent
from waitd.stores.codec import decode_outcome
from waitd.stores.connection import StoreConnection
from waitd.stores.schema import FINISHED_SEQ, PRUNED_SEQ, waits, watermarks
from waitd.stores.statements import Statement
from waitd.stores.unreadable import DECODE_ERRORS

log = structlog.get_logger(__name__)

#: A read stops at this size, in bytes, because each of hundreds of readers holds one.
PART_BYTES = 128 * 1024

_namespace = bindparam("namespace", type_=Text)
#: Reads no event of other namespaces, so that a page costs the same for every reader.
EVENTS_AFTER = Statement(
    select(
        waits.c.finished_seq,
        case((or_(_namespace.is_(None), waits.c.namespace == _namespace), waits.c.event)),
    )
    .where(waits.c.finished_seq > bindparam("after", type_=Integer))
    .order_by(waits.c.finished_seq)
    .limit(bindparam("limit", type_=Integer))
)
EXISTS = Statement(select(literal_column("1")).where(waits.c.finished_seq == bindparam("seq", type_=Integer)))
_LAST_STORED = Statement(select(func.max(waits.c.finished_seq)).where(waits.c.finished_seq.is_not(None)))
_LAST_NUMBER = Statement(
    select(func.max(waits.c.finished_seq)).where(func.typeof(waits.c.finished_seq) == "integer")
)
_WATERMARK = Statement(select(watermarks.c.value).where(watermarks.c.name == bindparam("name", type_=Text)))


async def last_finished_seq(connection: StoreConnection) -> int:
    """The last event number that was assigned, pruned events included; 0 before the first."""
    ((stored,),) = await _LAST_STORED.fetch_all(connection)
    if stored is not None and not isinstance(stored, int):  # a text or a blob is above all numbers
        ((stored,),) = await _LAST_NUMBER.fetch_all(connection)
    return max(stored or 0, await watermark(connection, FINISHED_SEQ))


async def check_resumable(connection: StoreConnection, seq: int) -> None:
    """See `ApiStore.check_resumable`."""
    if seq and not await EXISTS.fetch_all(connection, seq=seq):
        raise NotFound(f"there is no event {seq}, or it was deleted after its retention")
    await _check_complete(connection, seq)


async def events_after(
    connection: StoreConnection, seq: int, namespace: str | None, limit: int
) -> list[StoredEvent]:
    """See `ApiStore.events_after`."""
    rows = await EVENTS_AFTER.fetch_part(connection, PART_BYTES, after=seq, namespace=namespace, limit=limit)
    await _check_complete(connection, seq)  # after the read, to notice events deleted meanwhile
    return [StoredEvent(seq, event if _is_event(event) else None) for seq, event in rows]


def _is_event(stored: Any) -> bool:
    """Whether it is an event; what is none is left out of the log."""
    try:
        decode_outcome(stored)
    except DECODE_ERRORS:
        return False
    return isinstance(stored, bytes)


async def _check_complete(connection: StoreConnection, seq: int) -> None:
    if await watermark(connection, PRUNED_SEQ) > seq:
        raise NotFound(f"some events after {seq} were deleted after their retention")


async def watermark(connection: StoreConnection, name: str) -> int:
    """The number that is kept under this name; 0 if there is none."""
    rows = await _WATERMARK.fetch_all(connection, name=name)
    value = rows[0][0] if rows else 0
    if not isinstance(value, int) or value < 0:
        log.error("row_unreadable", table="watermarks", id=name, consequence="it counts as 0")
        return 0
    return value
