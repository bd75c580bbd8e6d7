"""Writes that change no state: what waits have learned, deleting what is old, and trying whether the database takes a write."""

from collections.abc import Sequence

from sqlalchemy import Float, Integer, bindparam, delete, exists, select, text

from waitd.stores.operations.requests import CheckWritable, Prune, SaveProgress
from waitd.stores.operations.transaction import Transaction, sliced
from waitd.stores.progress import encode_progress
from waitd.stores.schema import HAS_ENDED, HAS_JOB_TO_CANCEL, IS_QUEUED, deliveries, waits
from waitd.stores.sqlite import bulk
from waitd.stores.sqlite.statements import Statement, one_of, texts

_SAVE_PROGRESS = bulk.update("waits", ("id", "progress"), "waits.state = 'waiting'")
#: The last number given to an end; kept when rows are deleted, so that it is never given twice.
FINISHED_SEQ = "finished_seq"
#: The highest number of an end whose row was deleted; whoever has read less than that has missed one.
PRUNED_SEQ = "pruned_seq"
_LAST_CHECK = "last_check"

PRUNABLE = Statement(
    select(waits.c.id, waits.c.finished_seq)
    .where(
        HAS_ENDED,
        waits.c.finished_at < bindparam("before", type_=Float),
        ~exists().where(deliveries.c.wait_id == waits.c.id, IS_QUEUED),
        ~HAS_JOB_TO_CANCEL,
    )
    .order_by(waits.c.finished_at)
    .limit(bindparam("limit", type_=Integer))
)
_DELETE_DELIVERIES = Statement(delete(deliveries).where(one_of(deliveries.c.wait_id, "ids")))
_DELETE_WAITS = Statement(delete(waits).where(one_of(waits.c.id, "ids")))
_SET_WATERMARK = (
    "INSERT INTO watermarks (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = "
)
_SET = Statement(text(_SET_WATERMARK + "excluded.value"))
_RAISE = Statement(text(_SET_WATERMARK + "max(value, excluded.value)"))


async def save_progress(transaction: Transaction, operations: Sequence[SaveProgress]) -> None:
    """Keeps what waits have learned; those that have ended meanwhile keep what they ended with."""
    latest = {wait_id: progress for operation in operations for wait_id, progress in operation.progress}
    rows: list[tuple[str, str | None]] = []
    async for part in sliced(list(latest.items())):
        rows += [(wait_id, encode_progress(progress)) for wait_id, progress in part]
    bulk.write(transaction.link, _SAVE_PROGRESS, rows)


async def prune(transaction: Transaction, operations: Sequence[Prune]) -> None:
    """Deletes ended waits whose deliveries are all settled, the longest ended first."""
    for operation in operations:
        rows = await PRUNABLE.run(transaction.link, before=operation.finished_before, limit=operation.limit)
        operation.answer = len(rows)
        if rows:
            ids = texts(wait_id for wait_id, _ in rows)
            _DELETE_DELIVERIES.write(transaction.link, ids=ids)
            _DELETE_WAITS.write(transaction.link, ids=ids)
            _SET.write(transaction.link, name=FINISHED_SEQ, value=transaction.finished_seq)
            _RAISE.write(transaction.link, name=PRUNED_SEQ, value=max(seq for _, seq in rows))


def check_writable(transaction: Transaction, operations: Sequence[CheckWritable]) -> None:
    """Writes a row, so that COMMIT has something to put on disk."""
    if operations:
        _SET.write(transaction.link, name=_LAST_CHECK, value=int(transaction.now))
