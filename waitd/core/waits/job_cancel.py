"""The cancelling of a wait's own job after the wait has ended: what each answer does to it."""

from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple, assert_never

from waitd.core.waits.submission import Submission, SubmitState
from waitd.core.waits.verdict import MESSAGE_LIMIT
from waitd.core.waits.wait import WaitState

#: Seconds before each attempt at a job's cancel request. After the last one, waitd gives up.
CANCEL_RETRY_DELAYS = (0.0, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)


class CancelState(StrEnum):
    """The state of cancelling a job.

    `pending`: the request is due, or due again. `unneeded`: there was no job. `unknown`: a job may
    exist whose handle is unknown.
    """

    PENDING = "pending"
    CANCELLED = "cancelled"
    UNNEEDED = "unneeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class JobCancel(NamedTuple):
    """The cancelling of a job after its wait ended.

    `next_attempt_at` is in Unix seconds; None if no attempt follows.
    """

    state: CancelState = CancelState.PENDING
    attempts: int = 0
    last_error: str | None = None
    next_attempt_at: float | None = None


def job_cancel_at_end(
    submission: Submission, state: WaitState, cancel_job_on: tuple[str, ...], now: float
) -> JobCancel | None:
    """The cancel to start for the job of a wait that ends in `state`; None if there is none.

    A job that is still being submitted counts: its handle may become known, or be searched for.
    `now` is in Unix seconds.
    """
    if state.value not in cancel_job_on:
        return None
    if submission.state in {SubmitState.SUBMITTED, SubmitState.SUBMITTING} and not submission.adopted:
        return JobCancel(next_attempt_at=now)
    return None


@dataclass(frozen=True, slots=True)
class JobCancelled:
    """The job is cancelled, has ended or does not exist."""


@dataclass(frozen=True, slots=True)
class CancelRejected:
    """The job system rejected the cancel request for good."""

    message: str


@dataclass(frozen=True, slots=True)
class CancelUnavailable:
    """The job system did not answer or asks for a retry."""

    message: str
    retry_after: float | None = None
    #: The reason of the verdict that a poke would get.
    reason: str = ""


CancelAnswer = JobCancelled | CancelRejected | CancelUnavailable


def after_cancel(before: JobCancel, answer: CancelAnswer, now: float) -> JobCancel:
    """Decides what follows a cancel request; `now` is in Unix seconds."""
    attempts = before.attempts + 1
    match answer:
        case JobCancelled():
            return JobCancel(CancelState.CANCELLED, attempts)
        case CancelRejected():
            return JobCancel(CancelState.FAILED, attempts, answer.message[:MESSAGE_LIMIT])
        case CancelUnavailable():
            return retry_cancel(before, answer.message, now, answer.retry_after)
        case _:  # pragma: no cover - mypy proves it
            assert_never(answer)


def next_cancel_at(cancel: JobCancel, now: float) -> float | None:
    """When a stored cancel is due; None if no attempt follows.

    One that is due later than any delay allows is due after its own delay: the wall clock was set
    back meanwhile.
    """
    due = cancel.next_attempt_at
    if due is None or due <= now + (CANCEL_RETRY_DELAYS[-1] if cancel.attempts else 0.0):
        return due
    return now + CANCEL_RETRY_DELAYS[min(cancel.attempts, len(CANCEL_RETRY_DELAYS) - 1)]


def retry_cancel(before: JobCancel, message: str, now: float, retry_after: float | None = None) -> JobCancel:
    """The cancel after a failed attempt: pending again, or failed after the last attempt."""
    attempts = before.attempts + 1
    message = message[:MESSAGE_LIMIT]
    if attempts >= len(CANCEL_RETRY_DELAYS):
        return JobCancel(CancelState.FAILED, attempts, message)
    pause = max(CANCEL_RETRY_DELAYS[attempts], min(retry_after or 0.0, CANCEL_RETRY_DELAYS[-1]))
    return JobCancel(CancelState.PENDING, attempts, message, now + pause)
