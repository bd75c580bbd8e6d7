"""Jobs that waits submit themselves: the mark before a call, the handle after it, and the cancelling of jobs after their wait's end."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Integer, Text, bindparam, select

from waitd.core.waits.wait import WaitId
from waitd.ports import StoredWait
from waitd.stores.codec import WaitRow, encode_job_cancel, encode_submission, stored_wait
from waitd.stores.operations.requests import SaveJobCancel, SaveSubmission
from waitd.stores.operations.transaction import Transaction
from waitd.stores.queries.rows import wait_rows
from waitd.stores.schema import HAS_JOB_TO_CANCEL, waits
from waitd.stores.sqlite import bulk
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement

_SAVE_SUBMISSION = bulk.update("waits", ("id", "submission"), "1 = 1")
_SAVE_JOB_CANCEL = bulk.update(
    "waits", ("id", "job_cancel", "job_cancel_at"), "waits.job_cancel_at IS NOT NULL"
)
JOBS_TO_CANCEL = Statement(
    select(waits)
    .where(HAS_JOB_TO_CANCEL, waits.c.id > bindparam("after", type_=Text))
    .order_by(waits.c.id)
    .limit(bindparam("limit", type_=Integer))
)


async def save_submissions(transaction: Transaction, operations: Sequence[SaveSubmission]) -> None:
    """Keeps what is known of jobs; a mark only for waits that still wait. The answer says whether it was kept."""
    marks = [operation.wait_id for operation in operations if operation.only_waiting]
    rows = await wait_rows(transaction.link, marks)
    kept: list[tuple[Any, ...]] = []
    for operation in operations:
        row = rows.get(operation.wait_id)
        waiting = row is not None and row.finished_at is None
        operation.answer = waiting or not operation.only_waiting
        if operation.answer:
            kept.append((operation.wait_id, encode_submission(operation.submission)))
    # The same wait twice in one statement would leave it to chance which one stays.
    bulk.write(transaction.link, _SAVE_SUBMISSION, list({row[0]: row for row in kept}.values()))


def save_job_cancels(transaction: Transaction, operations: Sequence[SaveJobCancel]) -> None:
    """Keeps how far the cancelling of jobs has come."""
    rows = {
        operation.wait_id: (
            operation.wait_id,
            encode_job_cancel(operation.job_cancel),
            operation.job_cancel.next_attempt_at,
        )
        for operation in operations
    }
    bulk.write(transaction.link, _SAVE_JOB_CANCEL, list(rows.values()))


async def to_cancel(link: ConnectionThread, after: WaitId | None, limit: int) -> list[StoredWait]:
    """A page of ended waits whose jobs are still to be cancelled, in the order of their ids."""
    rows = await JOBS_TO_CANCEL.run(link, after=after or "", limit=limit)
    return [stored_wait(WaitRow._make(row)) for row in rows]
