"""Saves progress, deletes old waits, and checks that the database takes a write."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import orjson
from sqlalchemy import Float, Integer, Text, bindparam, delete, exists, select, text

from waitd.core.auth.quotas import Kept
from waitd.stores import bulk
from waitd.stores.codec import encode_progress, sliced
from waitd.stores.connection import StoreConnection
from waitd.stores.operations.commands import CheckWritable, DeleteEnded, PruneWaits, SaveProgress
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import (
    FINISHED_SEQ,
    HAS_ENDED,
    HAS_JOB_TO_CANCEL,
    IS_QUEUED,
    IS_WAITING,
    LAST_CHECK,
    PRUNED_SEQ,
    deliveries,
    waits,
)
from waitd.stores.sql_functions import WaitHandle, text_items
from waitd.stores.statements import Statement, one_of, text_list

_SAVE_PROGRESS = bulk.update(waits, ("id", "progress"), IS_WAITING)
_same = waits.alias()
_SETTLED = select(
    waits.c.id, waits.c.finished_seq, waits.c.namespace, waits.c.principal, waits.c.kept_bytes
).where(
    HAS_ENDED,
    ~exists().where(deliveries.c.wait_id == waits.c.id, IS_QUEUED),
    ~HAS_JOB_TO_CANCEL,
    # Not one with a damaged id: it would not be found to be deleted, and fail the others.
    exists().where(_same.c.id == waits.c.id),
)
PRUNABLE = Statement(
    _SETTLED.where(waits.c.finished_at < bindparam("before", type_=Float))
    .order_by(waits.c.finished_at)
    .limit(bindparam("limit", type_=Integer))
)
_HANDLE = WaitHandle()
_handles = text_items(bindparam("handles", type_=Text))
SETTLED = Statement(_SETTLED.where(_HANDLE.in_(select(_handles.c.value))))
#: Reads the index alone.
LONGEST_ENDED = Statement(
    select(_HANDLE, waits.c.finished_at, waits.c.namespace, waits.c.kept_bytes)
    .where(HAS_ENDED, waits.c.finished_at >= bindparam("since", type_=Float))
    .order_by(waits.c.finished_at)
    .limit(bindparam("limit", type_=Integer))
)
#: How many ended waits one call of `prune_bytes` looks at.
EXAMINED_ROWS = 20_000
_DELETE_DELIVERIES = Statement(delete(deliveries).where(one_of(deliveries.c.wait_id, "ids")))
_DELETE_WAITS = Statement(delete(waits).where(one_of(waits.c.id, "ids")))
_UPSERT_WATERMARK = (
    "INSERT INTO watermarks (name, value) VALUES (:name, :value) ON CONFLICT (name) DO UPDATE SET value = "
)
_SET_WATERMARK = Statement(text(_UPSERT_WATERMARK + "excluded.value"))
_RAISE_WATERMARK = Statement(
    text(
        _UPSERT_WATERMARK + "CASE WHEN watermarks.value > excluded.value"
        " THEN watermarks.value ELSE excluded.value END"
    )
)


async def save_progress(transaction: Transaction, commands: Sequence[SaveProgress]) -> None:
    """Saves the progress of waits; a wait that has ended meanwhile keeps its final progress."""
    latest = {wait_id: progress for command in commands for wait_id, progress in command.progress}
    rows = [
        (wait_id, encode_progress(progress))
        async for part in sliced(list(latest.items()))
        for wait_id, progress in part
    ]
    transaction.connection.defer_rows(_SAVE_PROGRESS, rows)


async def prune(transaction: Transaction, commands: Sequence[PruneWaits]) -> None:
    """Deletes ended waits whose deliveries and job are settled, the longest ended first."""
    for command in commands:
        rows = await PRUNABLE.fetch_all(transaction.connection, before=command.before, limit=command.limit)
        command.answer = _delete(transaction, rows)


async def delete_ended(transaction: Transaction, commands: Sequence[DeleteEnded]) -> None:
    """Deletes those of the chosen waits whose deliveries and job are settled now."""
    for command in commands:
        handles = orjson.dumps(command.handles).decode()
        command.answer = _delete(
            transaction, await SETTLED.fetch_all(transaction.connection, handles=handles)
        )


def _delete(transaction: Transaction, rows: Sequence[tuple[Any, ...]]) -> int:
    """Deletes the waits of `_SETTLED`, but no damaged rows; returns their number."""
    rows = [row for row in rows if _is_readable(*row)]
    if rows:
        connection = transaction.connection
        ids = text_list(row[0] for row in rows)
        _DELETE_DELIVERIES.defer(connection, ids=ids)
        _DELETE_WAITS.defer(connection, must_change=len(rows), ids=ids)
        _SET_WATERMARK.defer(connection, must_change=1, name=FINISHED_SEQ, value=transaction.finished_seq)
        _RAISE_WATERMARK.defer(connection, must_change=1, name=PRUNED_SEQ, value=max(row[1] for row in rows))
        for _, _, namespace, principal, size in rows:
            transaction.changes.change(Kept.ENDED_WAITS, namespace, principal or "", -1)
            transaction.changes.change(Kept.ENDED_BYTES, namespace, principal or "", -(size or 0))
    return len(rows)


def _is_readable(wait_id: Any, finished_seq: Any, namespace: Any, principal: Any, size: Any) -> bool:
    return (
        isinstance(wait_id, str)
        and isinstance(finished_seq, int)
        and isinstance(namespace, str)
        and isinstance(principal, str | None)
        and isinstance(size, int | None)
    )


class LongestEnded(NamedTuple):
    """Waits that may be deleted, by handle, and when the next one ended; None: there is none."""

    handles: Sequence[int | str]
    next_at: float | None


async def find_longest_ended(
    connection: StoreConnection, excess: Mapping[str, int], since: float, limit: int
) -> LongestEnded:
    """Chooses up to `limit` ended waits, until each namespace loses its `excess` of bytes."""
    rows = await LONGEST_ENDED.fetch_all(connection, since=since, limit=EXAMINED_ROWS)
    left = dict(excess)
    chosen: list[int | str] = []
    for handle, finished_at, namespace, size in rows:
        if not isinstance(finished_at, float) or not isinstance(size, int | None):
            continue  # the row is damaged
        if len(chosen) == limit or not left:
            return LongestEnded(chosen, finished_at)
        if namespace in left:
            chosen.append(handle)
            left[namespace] -= size or 0
            if left[namespace] <= 0:
                del left[namespace]
        elif namespace in excess:  # it loses this one, too, if one of those chosen cannot be deleted
            return LongestEnded(chosen, finished_at)
    readable = [row[1] for row in rows if isinstance(row[1], float)] if len(rows) == EXAMINED_ROWS else []
    return LongestEnded(chosen, readable[-1] if readable else None)


def check_writable(transaction: Transaction, commands: Sequence[CheckWritable]) -> None:
    """Writes a row, so that COMMIT has something to put on disk."""
    if commands:
        _SET_WATERMARK.defer(
            transaction.connection, must_change=1, name=LAST_CHECK, value=int(transaction.now)
        )
