"""Ends in the order of their numbers, for those who follow them."""

from sqlalchemy import Integer, Text, bindparam, case, func, literal_column, or_, select
from sqlalchemy.ext.asyncio import AsyncConnection

from waitd.core.errors import NotFound
from waitd.ports import StoredEvent
from waitd.stores.statements import Statement
from waitd.stores.tables import waits, watermarks
from waitd.stores.upkeep import FINISHED_SEQ, PRUNED_SEQ

#: Drawn when the database was made.
DRAWN = "event_secret"

_namespace = bindparam("namespace", type_=Text)
#: Events of other namespaces are counted and not read, so that a page costs the same whoever asks.
EVENTS_AFTER = Statement(
    select(
        waits.c.finished_seq,
        case((or_(_namespace.is_(None), waits.c.namespace == _namespace), waits.c.event)),
    )
    .where(waits.c.finished_seq > bindparam("after", type_=Integer))
    .order_by(waits.c.finished_seq)
    .limit(bindparam("limit", type_=Integer))
)
IS_KEPT = Statement(
    select(literal_column("1")).where(waits.c.finished_seq == bindparam("seq", type_=Integer))
)
_LAST_KEPT = Statement(select(func.max(waits.c.finished_seq)).where(waits.c.finished_seq.is_not(None)))
_WATERMARK = Statement(select(watermarks.c.value).where(watermarks.c.name == bindparam("name", type_=Text)))


async def last_finished_seq(connection: AsyncConnection) -> int:
    """The last number given to an end, pruned ones included; 0 before the first."""
    ((kept,),) = await _LAST_KEPT.run(connection)
    return max(kept or 0, await _watermark(connection, FINISHED_SEQ))


async def event_secret(connection: AsyncConnection) -> int:
    """See `ApiStore.event_secret`."""
    return await _watermark(connection, DRAWN)


async def check_resumable(connection: AsyncConnection, seq: int) -> None:
    """See `ApiStore.check_resumable`."""
    if seq and not await IS_KEPT.run(connection, seq=seq):
        raise NotFound(f"there is no event {seq}, or not any more")
    await _check_complete(connection, seq)


async def events_after(
    connection: AsyncConnection, seq: int, namespace: str | None, limit: int
) -> list[StoredEvent]:
    """See `ApiStore.events_after`."""
    rows = await EVENTS_AFTER.run(connection, after=seq, namespace=namespace, limit=limit)
    await _check_complete(connection, seq)  # after the rows: what was deleted meanwhile is noticed
    return [StoredEvent._make(row) for row in rows]


async def _check_complete(connection: AsyncConnection, seq: int) -> None:
    if await _watermark(connection, PRUNED_SEQ) > seq:
        raise NotFound(f"not all events after {seq} are kept any more")


async def _watermark(connection: AsyncConnection, name: str) -> int:
    rows = await _WATERMARK.run(connection, name=name)
    return int(rows[0][0]) if rows else 0
