"""Saves the jobs of waits: the mark before a submit, the handle after it, the cancelling."""

from collections.abc import Sequence
from typing import Any

from waitd.stores import bulk
from waitd.stores.codec import encode_job_cancel, encode_submission
from waitd.stores.operations.commands import SaveJobCancel, SaveSubmission
from waitd.stores.operations.transaction import Transaction
from waitd.stores.queries.waits import rows_by_id
from waitd.stores.schema import HAS_JOB_TO_CANCEL, waits

_SAVE_SUBMISSION = bulk.update(waits, ("id", "submission"))
_SAVE_JOB_CANCEL = bulk.update(waits, ("id", "job_cancel", "job_cancel_at"), HAS_JOB_TO_CANCEL)


async def save_submissions(transaction: Transaction, commands: Sequence[SaveSubmission]) -> None:
    """Saves the state of jobs; with `only_waiting` not for ended waits.

    The answer is whether it was saved.
    """
    rows = await rows_by_id(
        transaction.connection,
        [command.wait_id for command in commands if command.only_waiting],
        transaction.unreadable,
    )
    saved: dict[str, tuple[Any, ...]] = {}  # one row a wait: of two in one statement, either could win
    for command in commands:
        row = rows.get(command.wait_id)
        waiting = row is not None and row.finished_at is None
        command.answer = waiting or not command.only_waiting
        if command.answer:
            saved[command.wait_id] = (command.wait_id, encode_submission(command.submission))
    transaction.connection.defer_rows(_SAVE_SUBMISSION, list(saved.values()))


def save_job_cancels(transaction: Transaction, commands: Sequence[SaveJobCancel]) -> None:
    """Saves the state of cancelling jobs."""
    rows = {
        command.wait_id: (
            command.wait_id,
            encode_job_cancel(command.job_cancel),
            command.job_cancel.next_attempt_at,
        )
        for command in commands
    }
    transaction.connection.defer_rows(_SAVE_JOB_CANCEL, list(rows.values()))
