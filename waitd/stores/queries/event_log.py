"""Ends in the order of their numbers, for those who follow them."""

from sqlalchemy import Integer, Text, bindparam, case, func, literal_column, or_, select

from waitd.core.errors import NotFound
from waitd.ports import StoredEvent
from waitd.stores.operations.maintenance import FINISHED_SEQ, PRUNED_SEQ
from waitd.stores.schema import waits, watermarks
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement

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


async def last_finished_seq(link: ConnectionThread) -> int:
    """The last number given to an end, pruned ones included; 0 before the first."""
    ((kept,),) = await _LAST_KEPT.run(link)
    return max(kept or 0, await _watermark(link, FINISHED_SEQ))


async def event_secret(link: ConnectionThread) -> int:
    """See `ApiStore.event_secret`."""
    return await _watermark(link, DRAWN)


async def check_resumable(link: ConnectionThread, seq: int) -> None:
    """See `ApiStore.check_resumable`."""
    if seq and not await IS_KEPT.run(link, seq=seq):
        raise NotFound(f"there is no event {seq}, or not any more")
    await _check_complete(link, seq)


async def events_after(
    link: ConnectionThread, seq: int, namespace: str | None, limit: int
) -> list[StoredEvent]:
    """See `ApiStore.events_after`."""
    rows = await EVENTS_AFTER.run(link, after=seq, namespace=namespace, limit=limit)
    await _check_complete(link, seq)  # after the rows: what was deleted meanwhile is noticed
    return [StoredEvent._make(row) for row in rows]


async def _check_complete(link: ConnectionThread, seq: int) -> None:
    if await _watermark(link, PRUNED_SEQ) > seq:
        raise NotFound(f"not all events after {seq} are kept any more")


async def _watermark(link: ConnectionThread, name: str) -> int:
    rows = await _WATERMARK.run(link, name=name)
    return int(rows[0][0]) if rows else 0
