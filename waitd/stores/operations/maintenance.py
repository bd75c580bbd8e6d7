"""Saves progress, deletes old waits, and checks that the database takes a write."""

from collections.abc import Sequence

from sqlalchemy import Float, Integer, bindparam, delete, exists, select, text

from waitd.core.auth.quotas import Kept
from waitd.stores.codec import encode_progress, sliced
from waitd.stores.operations.commands import CheckWritable, PruneWaits, SaveProgress
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import (
    FINISHED_SEQ,
    HAS_ENDED,
    HAS_JOB_TO_CANCEL,
    IS_QUEUED,
    LAST_CHECK,
    PRUNED_SEQ,
    deliveries,
    waits,
)
from waitd.stores.sqlite import bulk
from waitd.stores.sqlite.statements import Statement, one_of, text_list

_SAVE_PROGRESS = bulk.update("waits", ("id", "progress"), "waits.state = 'waiting'")
PRUNABLE = Statement(
    select(waits.c.id, waits.c.finished_seq, waits.c.namespace, waits.c.principal, waits.c.kept_bytes)
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
_UPSERT_WATERMARK = (
    "INSERT INTO watermarks (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = "
)
_SET_WATERMARK = Statement(text(_UPSERT_WATERMARK + "excluded.value"))
_RAISE_WATERMARK = Statement(text(_UPSERT_WATERMARK + "max(value, excluded.value)"))


async def save_progress(transaction: Transaction, commands: Sequence[SaveProgress]) -> None:
    """Saves the progress of waits; a wait that has ended meanwhile keeps its final progress."""
    latest = {wait_id: progress for command in commands for wait_id, progress in command.progress}
    rows = [
        (wait_id, encode_progress(progress))
        async for part in sliced(list(latest.items()))
        for wait_id, progress in part
    ]
    bulk.defer(transaction.connection, _SAVE_PROGRESS, rows)


async def prune(transaction: Transaction, commands: Sequence[PruneWaits]) -> None:
    """Deletes ended waits whose deliveries and job are settled, the longest ended first."""
    connection = transaction.connection
    for command in commands:
        rows = await PRUNABLE.fetch_all(connection, before=command.before, limit=command.limit)
        command.answer = len(rows)
        if rows:
            ids = text_list(row[0] for row in rows)
            _DELETE_DELIVERIES.defer(connection, ids=ids)
            _DELETE_WAITS.defer(connection, ids=ids)
            _SET_WATERMARK.defer(connection, name=FINISHED_SEQ, value=transaction.finished_seq)
            _RAISE_WATERMARK.defer(connection, name=PRUNED_SEQ, value=max(row[1] for row in rows))
            for _, _, namespace, principal, size in rows:
                transaction.changes.change(Kept.ENDED_WAITS, namespace, principal or "", -1)
                transaction.changes.change(Kept.ENDED_BYTES, namespace, principal or "", -(size or 0))


def check_writable(transaction: Transaction, commands: Sequence[CheckWritable]) -> None:
    """Writes a row, so that COMMIT has something to put on disk."""
    if commands:
        _SET_WATERMARK.defer(transaction.connection, name=LAST_CHECK, value=int(transaction.now))
