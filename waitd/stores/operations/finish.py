"""Ends waits: the state, the event's bytes and the outbox rows, in one transaction.

`WaitEnds` queues the commands; the writer calls `finish` and `cancel` with those of one commit.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from msgspec.structs import replace

from waitd.core.auth.quotas import Kept
from waitd.core.errors import Conflict, Unreadable
from waitd.core.waits.audit import Caller
from waitd.core.waits.job_cancel import JobCancel, job_cancel_at_end
from waitd.core.waits.wait import Outcome, WaitState
from waitd.ports import StoredOutcome, StoredWait, UnstoredOutcome
from waitd.stores import bulk
from waitd.stores.codec import (
    decode_outcome,
    encode_event,
    encode_job_cancel,
    encode_progress,
    sliced,
    well_formed,
)
from waitd.stores.operations import airflow_index, costs
from waitd.stores.operations.commands import Cancel, CommandExecutor, FinishWait
from waitd.stores.operations.outbox import NewDelivery, insert_deliveries, new_deliveries
from waitd.stores.operations.transaction import Transaction
from waitd.stores.queries.waits import decode_one, not_found, rows_by_id, visible_in
from waitd.stores.schema import IS_WAITING, waits
from waitd.stores.usage import Usage

_FINISH = bulk.update(
    waits,
    (
        "id",
        "state",
        "progress",
        "event",
        "finished_at",
        "finished_seq",
        "cpu_seconds",
        "byte_seconds",
        "kept_bytes",
    ),
    IS_WAITING,
)
_CANCEL_JOB = bulk.update(waits, ("id", "job_cancel", "job_cancel_at"), waits.c.job_cancel.is_(None))
_FINAL_STATES = frozenset(WaitState) - {WaitState.WAITING}

log = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Ending:
    """A waiting wait, and how and when (Unix seconds) it ends.

    `deliver`: whether its sinks get the event.
    """

    wait: StoredWait
    outcome: Outcome
    finished_at: float
    deliver: bool = True


class WaitEnds(CommandExecutor):
    """The part of the store that ends waits."""

    async def finish(self, outcome: UnstoredOutcome) -> StoredOutcome | None:
        """See `PokerStore`."""
        return await self._execute(FinishWait(outcome))

    async def cancel(
        self, wait_id: str, outcome: Outcome, namespace: str | None = None, by: Caller | None = None
    ) -> StoredWait:
        """See `ApiStore`."""
        return await self._execute(Cancel(well_formed(wait_id), outcome, namespace, by=by))


async def finish(transaction: Transaction, commands: Sequence[FinishWait]) -> None:
    """Ends waits as the poker found them.

    A wait that has ended before, or whose row cannot be read, gets the answer None.
    """
    first: dict[str, FinishWait] = {}
    for command in commands:
        first.setdefault(command.outcome.id, command)
    rows = await rows_by_id(transaction.connection, list(first), transaction.unreadable)
    endings: list[Ending] = []
    async for part in sliced(list(first)):
        for wait_id in part:
            end, row = first[wait_id].outcome, rows.get(wait_id)
            if row is not None and row.finished_at is None:
                try:
                    wait = decode_one(row, transaction.unreadable)
                except Unreadable as error:
                    log_unstored(end, str(error))
                    continue
                endings.append(Ending(replace(wait, progress=end.progress), end.outcome, end.finished_at))
    finished = await finish_waits(transaction, endings)
    for wait_id, command in first.items():
        command.answer = finished.get(wait_id)


async def cancel(transaction: Transaction, commands: Sequence[Cancel]) -> None:
    """Ends waits on request."""
    wait_ids = list({command.wait_id for command in commands})
    rows = await rows_by_id(transaction.connection, wait_ids, transaction.unreadable)
    damaged = transaction.unreadable.errors("waits")
    first: dict[str, Cancel] = {}
    endings: list[Ending] = []
    for command in commands:
        wait_id = command.wait_id
        row = visible_in(command.namespace, rows.get(wait_id))
        if row is None and wait_id not in rows and wait_id in damaged and command.namespace is None:
            command.answer = Unreadable(wait_id, damaged[wait_id])
        elif row is None:
            command.answer = not_found(wait_id)
        elif row.state in _FINAL_STATES or wait_id in first:
            command.answer = Conflict(f"the wait {wait_id} has ended")
        else:
            try:
                wait = transaction.with_live_progress(decode_one(row, transaction.unreadable))
            except Unreadable as error:
                command.answer = error
                continue
            first[wait_id] = command
            endings.append(Ending(wait, command.outcome, transaction.now))
    finished = await finish_waits(transaction, endings)
    for wait_id, command in first.items():
        command.answer = finished[wait_id].wait


async def finish_waits(transaction: Transaction, endings: Sequence[Ending]) -> dict[str, StoredOutcome]:
    """Ends waiting waits, in this order; returns the stored outcomes by the wait's id.

    After COMMIT the writer tells its listeners, the deliverer among them, of
    `transaction.finished`.
    """
    rows: list[tuple[Any, ...]] = []
    outbox: list[NewDelivery] = []
    cancels: list[tuple[Any, ...]] = []
    finished: dict[str, StoredOutcome] = {}
    async for part in sliced(endings):
        for ending in part:
            wait = ending.wait
            event = encode_event(wait, ending.outcome, ending.finished_at)
            new = new_deliveries(transaction, wait, ending.outcome.state) if ending.deliver else []
            measured = transaction.rules.measure(wait, ending.finished_at - wait.created_at)
            transaction.finished_seq += 1
            progress = encode_progress(wait.progress)
            size = wait.spec_size + len(event) + len(progress or "")
            count_end(transaction.changes, wait, size)
            rows.append(
                (
                    wait.id,
                    ending.outcome.state.value,
                    progress,
                    event,
                    ending.finished_at,
                    transaction.finished_seq,
                    *(measured or (None, None)),
                    size,
                )
            )
            outbox += new
            job_cancel = _job_cancel(ending, transaction.now)
            if job_cancel is not None:
                cancels.append((wait.id, encode_job_cancel(job_cancel), job_cancel.next_attempt_at))
            stored = replace(
                wait,
                state=ending.outcome.state,
                outcome=decode_outcome(event),  # the event may have left out a payload
                finished_at=ending.finished_at,
                deliveries=tuple(delivery.stored for delivery in new),
                job_cancel=job_cancel,
                measured=measured,
            )
            finished[wait.id] = StoredOutcome(stored, frozenset(d.destination for d in new))
    # sent with the transaction's next statement, its COMMIT at the latest
    transaction.connection.defer_rows(_FINISH, rows)
    transaction.connection.defer_rows(_CANCEL_JOB, cancels)
    airflow_index.delete(transaction, (ending.wait for ending in endings))
    insert_deliveries(transaction, outbox)
    await costs.add(transaction, [outcome.wait for outcome in finished.values()])
    transaction.finished += finished.values()
    return finished


def count_end(usage: Usage, wait: StoredWait, size: int) -> None:
    """Counts a wait that has ended and keeps `size` bytes."""
    usage.change(Kept.WAITS, wait.namespace, wait.principal, -1)
    usage.change(Kept.ENDED_WAITS, wait.namespace, wait.principal, 1)
    usage.change(Kept.ENDED_BYTES, wait.namespace, wait.principal, size)


def _job_cancel(ending: Ending, now: float) -> JobCancel | None:
    """Whether and when to cancel the job that the wait submitted; None: it submitted none."""
    submission, submit = ending.wait.submission, ending.wait.spec.submit
    if submission is None or submit is None:
        return None
    return job_cancel_at_end(submission, ending.outcome.state, submit.get("cancel_job_on", ()), now)


def log_unstored(end: UnstoredOutcome, error: str) -> None:
    """Logs an outcome that cannot be stored, because the row of its wait was damaged."""
    log.error(
        "outcome_of_unreadable_wait",
        wait_id=end.id,
        state=end.outcome.state.value,
        reason=end.outcome.reason,
        message=end.outcome.message,
        error=error,
    )
