"""Ending waits: the state, the event's bytes and the outbox rows, together."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from msgspec.structs import replace

from waitd.core.errors import Conflict
from waitd.core.waits.submission import JobCancel, job_cancel_at_end
from waitd.core.waits.wait import Outcome, WaitState
from waitd.ports import StoredOutcome, StoredWait
from waitd.stores.codec import WaitRow, encode_job_cancel, event_bytes, outcome_in, stored_wait
from waitd.stores.operations import airflow_index as telling
from waitd.stores.operations import costs
from waitd.stores.operations.outbox import NewDelivery, insert_deliveries, new_deliveries
from waitd.stores.operations.requests import Cancel, FinishWait
from waitd.stores.operations.transaction import Transaction, sliced
from waitd.stores.progress import encode_progress
from waitd.stores.queries.rows import not_found, seen_from, wait_rows
from waitd.stores.sqlite import bulk

_END = bulk.update(
    "waits",
    ("id", "state", "progress", "event", "finished_at", "finished_seq", "cpu_seconds", "byte_seconds"),
    "waits.state = 'waiting'",
)
_CANCEL_JOB = bulk.update("waits", ("id", "job_cancel", "job_cancel_at"), "waits.job_cancel IS NULL")


@dataclass(frozen=True, slots=True)
class End:
    """A waiting wait, and how and when (Unix seconds) it ends. `deliver` says whether its sinks are to hear of it."""

    wait: StoredWait
    outcome: Outcome
    finished_at: float
    deliver: bool = True


async def end(transaction: Transaction, ends: Sequence[End]) -> dict[str, StoredOutcome]:
    """Ends waits that are waiting, in this order; what became of each, by id."""
    updates: list[tuple[Any, ...]] = []
    outbox: list[NewDelivery] = []
    jobs: list[tuple[Any, ...]] = []
    ended: dict[str, StoredOutcome] = {}
    async for part in sliced(ends):
        for item in part:
            event = event_bytes(item.wait, item.outcome, item.finished_at)
            new = new_deliveries(transaction, item.wait, item.outcome.state) if item.deliver else []
            measured = transaction.measured(item.wait, item.finished_at - item.wait.created_at)
            transaction.finished_seq += 1
            updates.append(
                (
                    item.wait.id,
                    item.outcome.state.value,
                    encode_progress(item.wait.progress),
                    event,
                    item.finished_at,
                    transaction.finished_seq,
                    *(measured or (None, None)),
                )
            )
            outbox += new
            job_cancel = _job_cancel(item, transaction.now)
            if job_cancel is not None:
                jobs.append((item.wait.id, encode_job_cancel(job_cancel), job_cancel.next_attempt_at))
            wait = replace(_as_ended(item, event, new, job_cancel), measured=measured)
            ended[item.wait.id] = StoredOutcome(wait, frozenset(d.destination for d in new))
    bulk.write(transaction.link, _END, updates)
    bulk.write(transaction.link, _CANCEL_JOB, jobs)
    telling.forget(transaction, (item.wait for item in ends))
    insert_deliveries(transaction, outbox)
    await costs.add(transaction, [e.wait for e in ended.values()])
    transaction.ended += ended.values()
    return ended


def _job_cancel(item: End, now: float) -> JobCancel | None:
    """What is to be done about the job that the wait submitted, if it did."""
    submission, submit = item.wait.submission, item.wait.spec.submit
    if submission is None or submit is None:
        return None
    return job_cancel_at_end(submission, item.outcome.state, submit.get("cancel_job_on", ()), now)


def _as_ended(
    item: End, event: bytes, new: Sequence[NewDelivery], job_cancel: JobCancel | None
) -> StoredWait:
    return replace(
        item.wait,
        state=item.outcome.state,
        outcome=outcome_in(event),  # as it is on disk, where a payload may have been left out
        finished_at=item.finished_at,
        deliveries=tuple(delivery.stored for delivery in new),
        job_cancel=job_cancel,
    )


async def finish(transaction: Transaction, operations: Sequence[FinishWait]) -> None:
    """Ends what the poker saw end; a wait that had ended before is answered with None."""
    first: dict[str, FinishWait] = {}
    for operation in operations:
        first.setdefault(operation.ending.id, operation)
    rows = await wait_rows(transaction.link, list(first))
    ends: list[End] = []
    async for part in sliced(
        [operation.ending for wait_id, operation in first.items() if _waits(rows.get(wait_id))]
    ):
        for ending in part:
            wait = replace(stored_wait(rows[ending.id]), progress=ending.progress)
            ends.append(End(wait, ending.outcome, ending.finished_at))
    ended = await end(transaction, ends)
    for wait_id, operation in first.items():
        operation.answer = ended.get(wait_id)


def _waits(row: WaitRow | None) -> bool:
    return row is not None and row.finished_at is None


async def cancel(transaction: Transaction, operations: Sequence[Cancel]) -> None:
    """Ends what somebody wants ended."""
    rows = await wait_rows(transaction.link, list({operation.wait_id for operation in operations}))
    first: dict[str, Cancel] = {}
    for operation in operations:
        row = seen_from(operation.namespace, rows.get(operation.wait_id))
        if row is None:
            operation.answer = not_found(operation.wait_id)
        elif row.state != WaitState.WAITING or operation.wait_id in first:
            operation.answer = Conflict(f"the wait {operation.wait_id} has ended")
        else:
            first[operation.wait_id] = operation
    ends = [
        End(transaction.as_seen(stored_wait(rows[wait_id])), operation.outcome, transaction.now)
        for wait_id, operation in first.items()
    ]
    ended = await end(transaction, ends)
    for wait_id, operation in first.items():
        operation.answer = ended[wait_id].wait
