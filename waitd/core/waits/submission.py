"""What is known of a job that a wait submits itself, and what an answer to the submitting call does to it.

Before each call the state `submitting` is on disk, so that after a crash it is known that there may be a job. Only an answer that says so
takes that back: a connection that was never made, or a refusal.

    pending ── mark ──▶ submitting ── accepted, adopted ──▶ submitted
       ▲                  │      │
       └─ not submitted ──┘      ├── refused, or in conflict ──▶ failed
                                 └── who knows, and it may not be asked again ──▶ unknown
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, assert_never

from waitd.core.waits.verdict import MESSAGE_LIMIT, Failure, Pending, Unreachable, Verdict
from waitd.core.waits.wait import WaitState

#: What names the job: one value, or several by name.
JobHandle = str | int | Mapping[str, Any]
#: Pauses before each try of a job's cancel request, seconds; after the last it is given up.
CANCEL_RETRY_DELAYS = (0.0, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0)
#: The states in which a wait may ask for its job to be cancelled.
JOB_CANCEL_STATES = (WaitState.CANCELLED, WaitState.TIMEOUT)


class SubmitState(StrEnum):
    """`pending`: there is no job of ours. `submitting`: there may be one. `submitted`: its handle is known. `failed`: there is none, and
    none is asked for any more. `unknown`: there may be one, and nobody can say.
    """

    PENDING = "pending"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Submission(NamedTuple):
    """What is known of a wait's job.

    Attributes:
        handle: what names it; None until it is submitted.
        attempts: how many submitting calls were made.
        last_error: what was last in the way, in a sentence; None where nothing was.
        adopted: the job was running already, and is waited for instead of one of our own.
        reason: why a `failed` or `unknown` one ends its wait, a short constant word.
    """

    state: SubmitState = SubmitState.PENDING
    handle: JobHandle | None = None
    attempts: int = 0
    last_error: str | None = None
    adopted: bool = False
    reason: str | None = None


PENDING_SUBMISSION = Submission()


class CancelState(StrEnum):
    """`pending`: it is still to be asked, or asked again. `unneeded`: there was no job. `unknown`: there may be one that nobody can name."""

    PENDING = "pending"
    CANCELLED = "cancelled"
    UNNEEDED = "unneeded"
    FAILED = "failed"
    UNKNOWN = "unknown"


class JobCancel(NamedTuple):
    """How far the cancelling of a job has come, after its wait's end. `next_attempt_at`: Unix seconds, None where it is over."""

    state: CancelState = CancelState.PENDING
    attempts: int = 0
    last_error: str | None = None
    next_attempt_at: float | None = None


@dataclass(frozen=True, slots=True)
class SubmitRules:
    """What decides about an answer.

    Attributes:
        idempotent: the other side makes one job of equal calls.
        on_conflict: what to do where it says that a job is running already: `wait`, `adopt` or `fail`.
    """

    idempotent: bool = True
    on_conflict: str = "fail"


# ---------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class SubmitAccepted:
    """The job is submitted, or (`adopted`) a running one was found."""

    handle: JobHandle
    adopted: bool = False


@dataclass(frozen=True, slots=True)
class SubmitUnavailable:
    """Certainly no job came of this call, and another time may be better: no connection, or the server said "not now"."""

    reason: str
    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class SubmitUncertain:
    """The call may have reached the other side, and there is no answer that says what came of it."""

    reason: str
    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class SubmitConflict:
    """A job is running already, says the other side; with `on_conflict: adopt`, it could not be found (any more)."""

    message: str


@dataclass(frozen=True, slots=True)
class SubmitRejected:
    """The other side will not, now or later."""

    message: str


@dataclass(frozen=True, slots=True)
class SubmitWithoutHandle:
    """It was accepted, and the answer does not say under which name."""

    message: str


SubmitAnswer = (
    SubmitAccepted
    | SubmitUnavailable
    | SubmitUncertain
    | SubmitConflict
    | SubmitRejected
    | SubmitWithoutHandle
)


class SubmissionUpdate(NamedTuple):
    """What an answer does: the submission from now on, and what it says to the wait."""

    submission: Submission
    verdict: Verdict


#: Ends a wait of which it is not known whether its job was submitted, and where asking again might make a second one.
SUBMIT_UNKNOWN = "submit_unknown"
#: Ends a wait whose job was submitted under a name that the answer does not tell.
SUBMIT_NO_HANDLE = "submit_no_handle"
_UNKNOWN_MESSAGE = "The job may have been submitted and may not: the result of the submitting call is not known, and it must not be repeated."


def mark_submitting(submission: Submission) -> Submission:
    """The submission as it must be on disk before the next call is made."""
    return submission._replace(state=SubmitState.SUBMITTING, attempts=submission.attempts + 1)


def initial_submission(submit: Mapping[str, Any] | None) -> Submission | None:
    """Where a wait's submission begins; None where it submits nothing. `resume`: where another daemon left off."""
    if submit is None:
        return None
    resume = submit.get("resume")
    if not resume:
        return PENDING_SUBMISSION
    return Submission(SubmitState(resume["state"]), resume.get("handle"), resume.get("attempts", 0))


def resolve_interrupted(submission: Submission, rules: SubmitRules) -> SubmissionUpdate | None:
    """What ends a wait whose submission was found so (after a crash): a call whose result nobody knows and that must not be repeated, or
    an end that did not reach the wait. None: it goes on.
    """
    told = submission.last_error or ""
    match submission.state:
        case SubmitState.SUBMITTING if not rules.idempotent:
            return _unknown(submission, told)
        case SubmitState.FAILED | SubmitState.UNKNOWN:
            return SubmissionUpdate(submission, Failure(submission.reason or SUBMIT_UNKNOWN, told))
    return None


def after_submit(before: Submission, answer: SubmitAnswer, rules: SubmitRules) -> SubmissionUpdate:  # noqa: PLR0911 - an answer each
    """What an answer does.

    Args:
        before: as it was before this call was marked; in state `submitting` where an earlier call's result is not known.
        answer: what came of this call.
        rules: the wait's.
    """
    calls = before._replace(attempts=before.attempts + 1)
    unclear = before.state is SubmitState.SUBMITTING
    match answer:
        case SubmitAccepted():
            done = calls._replace(
                state=SubmitState.SUBMITTED, handle=answer.handle, adopted=answer.adopted, last_error=None
            )
            told = "Waits for the job that was running." if answer.adopted else "The job was submitted."
            return SubmissionUpdate(done, Pending("adopted" if answer.adopted else "submitted", told))
        case SubmitUnavailable():
            return SubmissionUpdate(
                _failed_once(calls, answer.message),
                Unreachable(
                    answer.reason, f"Not submitted yet: {answer.message}"[:MESSAGE_LIMIT], answer.retry_after
                ),
            )
        case SubmitUncertain():
            if not rules.idempotent:
                return _unknown(calls, answer.message)
            again = calls._replace(state=SubmitState.SUBMITTING, last_error=answer.message[:MESSAGE_LIMIT])
            said = f"It is not known whether the job was submitted; it is asked again: {answer.message}"
            return SubmissionUpdate(
                again, Unreachable(answer.reason, said[:MESSAGE_LIMIT], answer.retry_after)
            )
        case SubmitConflict():
            return _in_conflict(calls, answer, rules, unclear=unclear)
        case SubmitRejected():
            if unclear:
                return _unknown(calls, f"An earlier call may have submitted the job; then: {answer.message}")
            return _over(calls, SubmitState.FAILED, "submit_refused", answer.message)
        case SubmitWithoutHandle():
            return _over(calls, SubmitState.UNKNOWN, SUBMIT_NO_HANDLE, answer.message)
        case _:  # pragma: no cover - mypy proves it
            assert_never(answer)


def _in_conflict(
    calls: Submission, answer: SubmitConflict, rules: SubmitRules, *, unclear: bool
) -> SubmissionUpdate:
    if rules.on_conflict == "fail" and not unclear:
        return _over(calls, SubmitState.FAILED, "submit_conflict", answer.message)
    # After a call of ours without an answer, the job that runs may be that call's: it is asked until it says so.
    waiting = _failed_once(calls, answer.message)
    return SubmissionUpdate(
        waiting, Pending("submit_conflict", f"Not submitted yet: {answer.message}"[:MESSAGE_LIMIT])
    )


def _failed_once(calls: Submission, message: str) -> Submission:
    """Nothing came of this call; `submitting` stays where an earlier one is not known."""
    return calls._replace(last_error=message[:MESSAGE_LIMIT])


def _unknown(calls: Submission, message: str) -> SubmissionUpdate:
    return _over(calls, SubmitState.UNKNOWN, SUBMIT_UNKNOWN, f"{_UNKNOWN_MESSAGE} {message}".strip())


def _over(calls: Submission, state: SubmitState, reason: str, message: str) -> SubmissionUpdate:
    told = message[:MESSAGE_LIMIT]
    return SubmissionUpdate(
        calls._replace(state=state, last_error=told, reason=reason), Failure(reason, told)
    )


# ---------------------------------------------------------------- cancelling the job


def job_cancel_at_end(
    submission: Submission, state: WaitState, cancel_job_on: tuple[str, ...], now: float
) -> JobCancel | None:
    """What is to be done about the job of a wait that ends in `state` at `now` (Unix seconds); None: nothing.

    A job that is still being submitted counts: its handle may come, or be asked for once more.
    """
    if state.value not in cancel_job_on:
        return None
    if submission.state in {SubmitState.SUBMITTED, SubmitState.SUBMITTING} and not submission.adopted:
        return JobCancel(next_attempt_at=now)
    return None


@dataclass(frozen=True, slots=True)
class JobCancelled:
    """The job is cancelled, or over, or not there."""


@dataclass(frozen=True, slots=True)
class CancelRejected:
    """The other side will not."""

    message: str


@dataclass(frozen=True, slots=True)
class CancelUnavailable:
    """Nobody answered, or not now."""

    message: str
    retry_after: float | None = None


CancelAnswer = JobCancelled | CancelRejected | CancelUnavailable


def after_cancel(before: JobCancel, answer: CancelAnswer, now: float) -> JobCancel:
    """What an answer to the cancel request does; `now` is Unix seconds."""
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


def retry_cancel(before: JobCancel, message: str, now: float, retry_after: float | None = None) -> JobCancel:
    """The next try, where there is one left."""
    attempts = before.attempts + 1
    told = message[:MESSAGE_LIMIT]
    if attempts >= len(CANCEL_RETRY_DELAYS):
        return JobCancel(CancelState.FAILED, attempts, told)
    pause = max(CANCEL_RETRY_DELAYS[attempts], min(retry_after or 0.0, CANCEL_RETRY_DELAYS[-1]))
    return JobCancel(CancelState.PENDING, attempts, told, now + pause)
