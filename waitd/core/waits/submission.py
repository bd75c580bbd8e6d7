"""The submission of a wait's own job: its state, and what each response to the submit call does to
it.

The state `submitting` is on disk before each call, so that after a crash waitd knows that a job may
exist. Only a response that excludes a job reverts it: a connection that was never made, or a
refusal.

    pending ── mark ──▶ submitting ── accepted, adopted ──▶ submitted
       ▲                  │      │
       └── unavailable ───┘      ├── rejected, or in conflict ──▶ failed
                                 └── uncertain, and not repeatable ──▶ unknown
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NamedTuple, assert_never

from waitd.core.waits.verdict import LOCAL_ERROR, MESSAGE_LIMIT, Failure, Pending, Unreachable, Verdict

#: What identifies the job: one value, or several by name.
JobHandle = str | int | Mapping[str, Any]


class SubmitState(StrEnum):
    """The state of a submission.

    `pending`: no job was submitted. `submitting`: a job may exist. `submitted`: its handle is
    known. `failed`: no job exists, and none will be submitted. `unknown`: a job may exist, and
    there is no way to find out.
    """

    PENDING = "pending"
    SUBMITTING = "submitting"
    SUBMITTED = "submitted"
    FAILED = "failed"
    UNKNOWN = "unknown"


class Submission(NamedTuple):
    """What is known of a wait's job.

    Attributes:
        state: the state of the submission.
        handle: identifies the job; None until it is submitted.
        attempts: the number of submit calls.
        last_error: the last error in a sentence; None if there was none.
        adopted: a job that was already running is waited for instead of a new one.
        reason: why a `failed` or `unknown` submission ends its wait, a short constant word.
    """

    state: SubmitState = SubmitState.PENDING
    handle: JobHandle | None = None
    attempts: int = 0
    last_error: str | None = None
    adopted: bool = False
    reason: str | None = None


PENDING_SUBMISSION = Submission()


@dataclass(frozen=True, slots=True)
class SubmitRules:
    """The rules of a wait's submit call.

    Attributes:
        idempotent: the job system makes one job out of repeated equal calls.
        on_conflict: what to do if a job is already running: `wait`, `adopt` or `fail`.
    """

    idempotent: bool = True
    on_conflict: str = "fail"


# ---------------------------------------------------------------- answers


@dataclass(frozen=True, slots=True)
class SubmitAccepted:
    """The job is submitted or, with `adopted`, a running job was found."""

    handle: JobHandle
    adopted: bool = False
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class SubmitUnavailable:
    """The call certainly created no job and may be repeated: no connection, or a server that is
    busy.
    """

    reason: str
    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class SubmitUncertain:
    """The call may have created a job: it may have arrived, and no response says what it did."""

    reason: str
    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class SubmitConflict:
    """The job system reports that a job is already running.

    With `on_conflict: adopt`, that job could not be found.
    """

    message: str
    retry_after: float | None = None


@dataclass(frozen=True, slots=True)
class SubmitRejected:
    """The job system rejected the call for good."""

    message: str


@dataclass(frozen=True, slots=True)
class SubmitWithoutHandle:
    """The call was accepted, and the response does not contain the handle."""

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
    """The new submission, and its verdict for the wait."""

    submission: Submission
    verdict: Verdict


#: The reason of a wait whose job may exist although its submit call must not be repeated.
SUBMIT_UNKNOWN = "submit_unknown"
#: The reason of a wait whose submit response does not contain the job's handle.
SUBMIT_NO_HANDLE = "submit_no_handle"
_UNKNOWN_MESSAGE = "The job may or may not exist: the result of the submit call is unknown, and the call must not be repeated."


def mark_submitting(submission: Submission) -> Submission:
    """The submission as it must be on disk before the next call is made."""
    return submission._replace(state=SubmitState.SUBMITTING, attempts=submission.attempts + 1)


def initial_submission(submit: Mapping[str, Any] | None) -> Submission | None:
    """The submission of a new wait; None if the wait submits nothing.

    `resume` in `submit` is the state in which another daemon exported the wait.
    """
    if submit is None:
        return None
    resume = submit.get("resume")
    if not resume:
        return PENDING_SUBMISSION
    return Submission(SubmitState(resume["state"]), resume.get("handle"), resume.get("attempts", 0))


def resolve_interrupted(submission: Submission, rules: SubmitRules) -> SubmissionUpdate | None:
    """What ends a wait whose submission was interrupted by a crash; None if the wait goes on.

    It ends if the result of a call is unknown and the call must not be repeated, or if a final
    result was stored and the wait not yet finished.
    """
    message = submission.last_error or ""
    match submission.state:
        case SubmitState.SUBMITTING if not rules.idempotent:
            return _unknown(submission, message)
        case SubmitState.FAILED | SubmitState.UNKNOWN:
            return SubmissionUpdate(submission, Failure(submission.reason or SUBMIT_UNKNOWN, message))
    return None


def after_submit(before: Submission, answer: SubmitAnswer, rules: SubmitRules) -> SubmissionUpdate:  # noqa: PLR0911 - one return per answer
    """Decides what follows a submit call.

    Args:
        before: the submission before this call was marked; `submitting` if the result of an earlier
            call is unknown.
        answer: the result of this call.
        rules: the wait's rules.
    """
    after = before._replace(attempts=before.attempts + 1)
    uncertain = before.state is SubmitState.SUBMITTING
    match answer:
        case SubmitAccepted():
            done = after._replace(
                state=SubmitState.SUBMITTED, handle=answer.handle, adopted=answer.adopted, last_error=None
            )
            if answer.adopted:
                return SubmissionUpdate(done, Pending("adopted", "A running job was adopted."))
            return SubmissionUpdate(
                done, Pending("submitted", "The job was submitted.", retry_after=answer.retry_after)
            )
        case SubmitUnavailable():
            message = f"Not submitted yet: {answer.message}"[:MESSAGE_LIMIT]
            made = before if answer.reason == LOCAL_ERROR else after  # that call was never made
            return SubmissionUpdate(
                _with_error(made, answer.message), Unreachable(answer.reason, message, answer.retry_after)
            )
        case SubmitUncertain():
            if not rules.idempotent:
                return _unknown(after, answer.message)
            message = f"It is unknown whether the job was submitted; the call is repeated: {answer.message}"
            return SubmissionUpdate(
                _with_error(after, answer.message)._replace(state=SubmitState.SUBMITTING),
                Unreachable(answer.reason, message[:MESSAGE_LIMIT], answer.retry_after),
            )
        case SubmitConflict():
            return _in_conflict(after, answer, final=rules.on_conflict == "fail" and not uncertain)
        case SubmitRejected():
            if uncertain:
                return _unknown(after, f"An earlier call may have submitted the job; then: {answer.message}")
            return _final(after, SubmitState.FAILED, "submit_refused", answer.message)
        case SubmitWithoutHandle():
            return _final(after, SubmitState.UNKNOWN, SUBMIT_NO_HANDLE, answer.message)
        case _:  # pragma: no cover - mypy proves it
            assert_never(answer)


def _in_conflict(submission: Submission, answer: SubmitConflict, *, final: bool) -> SubmissionUpdate:
    """A conflict after an uncertain call is never final: the running job may be that call's job."""
    if final:
        return _final(submission, SubmitState.FAILED, "submit_conflict", answer.message)
    message = f"Not submitted yet: {answer.message}"[:MESSAGE_LIMIT]
    return SubmissionUpdate(
        _with_error(submission, answer.message),
        Pending("submit_conflict", message, retry_after=answer.retry_after),
    )


def _with_error(submission: Submission, message: str) -> Submission:
    """The call created no job. The state stays: an earlier call may have created one."""
    return submission._replace(last_error=message[:MESSAGE_LIMIT])


def _unknown(submission: Submission, message: str) -> SubmissionUpdate:
    return _final(submission, SubmitState.UNKNOWN, SUBMIT_UNKNOWN, f"{_UNKNOWN_MESSAGE} {message}".strip())


def _final(submission: Submission, state: SubmitState, reason: str, message: str) -> SubmissionUpdate:
    message = message[:MESSAGE_LIMIT]
    return SubmissionUpdate(
        submission._replace(state=state, last_error=message, reason=reason), Failure(reason, message)
    )
