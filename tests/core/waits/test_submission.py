"""What the result of a submit call or a cancel request does to a submission."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.waits.job_cancel import (
    CANCEL_RETRY_DELAYS,
    CancelAnswer,
    CancelRejected,
    CancelState,
    CancelUnavailable,
    JobCancel,
    JobCancelled,
    after_cancel,
    job_cancel_at_end,
)
from waitd.core.waits.submission import (
    PENDING_SUBMISSION,
    Submission,
    SubmissionUpdate,
    SubmitAccepted,
    SubmitAnswer,
    SubmitConflict,
    SubmitRejected,
    SubmitRules,
    SubmitState,
    SubmitUnavailable,
    SubmitUncertain,
    SubmitWithoutHandle,
    after_submit,
    initial_submission,
    mark_submitting,
    resolve_interrupted,
)
from waitd.core.waits.verdict import Failure, Pending, Unreachable
from waitd.core.waits.wait import WaitState

IDEMPOTENT, ONCE = SubmitRules(), SubmitRules(idempotent=False)
INTERRUPTED = Submission(SubmitState.SUBMITTING, attempts=1)
LOST = SubmitUncertain("disconnected", "The server closed the connection without an answer.")
NO_CONNECTION = SubmitUnavailable("connection_refused", "The connection was refused.", 7.0)
NOT_YET = Unreachable("connection_refused", "Not submitted yet: The connection was refused.", 7.0)
BUSY = SubmitConflict("a sync is running")
BUSY_FOR_NOW = Pending("submit_conflict", "Not submitted yet: a sync is running")
MAY_EXIST = "The job may or may not exist: the result of the submit call is unknown, and the call must not be repeated."
REPEATED = "It is unknown whether the job was submitted; the call is repeated: "


def ended(before: Submission, state: SubmitState, reason: str, message: str) -> SubmissionUpdate:
    """The update of a submission that ends its wait."""
    after = before._replace(state=state, last_error=message, reason=reason)
    return SubmissionUpdate(after, Failure(reason, message))


CALLED_ONCE, CALLED_TWICE = Submission(attempts=1), Submission(attempts=2)


@pytest.mark.parametrize(
    ("before", "answer", "rules", "update"),
    [
        pytest.param(
            PENDING_SUBMISSION,
            SubmitAccepted(42),
            IDEMPOTENT,
            SubmissionUpdate(
                Submission(SubmitState.SUBMITTED, 42, attempts=1),
                Pending("submitted", "The job was submitted."),
            ),
            id="accepted",
        ),
        pytest.param(
            PENDING_SUBMISSION,
            SubmitAccepted(42, retry_after=9.0),
            IDEMPOTENT,
            SubmissionUpdate(
                Submission(SubmitState.SUBMITTED, 42, attempts=1),
                Pending("submitted", "The job was submitted.", retry_after=9.0),
            ),
            id="accepted, with a pause before the first poke",
        ),
        pytest.param(
            PENDING_SUBMISSION,
            SubmitConflict("a sync is running", 9.0),
            SubmitRules(on_conflict="wait"),
            SubmissionUpdate(
                CALLED_ONCE._replace(last_error="a sync is running"),
                Pending("submit_conflict", "Not submitted yet: a sync is running", retry_after=9.0),
            ),
            id="in conflict, with a pause before the next call",
        ),
        pytest.param(
            PENDING_SUBMISSION,
            SubmitAccepted({"job_id": 1}, adopted=True),
            IDEMPOTENT,
            SubmissionUpdate(
                Submission(SubmitState.SUBMITTED, {"job_id": 1}, attempts=1, adopted=True),
                Pending("adopted", "A running job was adopted."),
            ),
            id="adopted",
        ),
        pytest.param(
            INTERRUPTED._replace(last_error="No answer in time."),
            SubmitAccepted(7, adopted=True),
            IDEMPOTENT,
            SubmissionUpdate(
                Submission(SubmitState.SUBMITTED, 7, attempts=2, adopted=True),
                Pending("adopted", "A running job was adopted."),
            ),
            id="adopting clears the last error",
        ),
        *(
            pytest.param(
                PENDING_SUBMISSION,
                NO_CONNECTION,
                rules,
                SubmissionUpdate(CALLED_ONCE._replace(last_error=NO_CONNECTION.message), NOT_YET),
                id=f"without a connection a call is repeated, idempotent={rules.idempotent}",
            )
            for rules in (IDEMPOTENT, ONCE)
        ),
        pytest.param(
            INTERRUPTED,
            NO_CONNECTION,
            IDEMPOTENT,
            SubmissionUpdate(INTERRUPTED._replace(attempts=2, last_error=NO_CONNECTION.message), NOT_YET),
            id="an earlier call may still have created a job",
        ),
        pytest.param(
            PENDING_SUBMISSION,
            LOST,
            IDEMPOTENT,
            SubmissionUpdate(
                INTERRUPTED._replace(last_error=LOST.message),
                Unreachable("disconnected", REPEATED + LOST.message),
            ),
            id="an idempotent call is repeated after a lost response",
        ),
        pytest.param(
            PENDING_SUBMISSION,
            SubmitUncertain("timeout", "No answer in time.", 3.0),
            IDEMPOTENT,
            SubmissionUpdate(
                INTERRUPTED._replace(last_error="No answer in time."),
                Unreachable("timeout", REPEATED + "No answer in time.", 3.0),
            ),
            id="an idempotent call is repeated after a timeout",
        ),
        pytest.param(
            PENDING_SUBMISSION,
            LOST,
            ONCE,
            ended(CALLED_ONCE, SubmitState.UNKNOWN, "submit_unknown", f"{MAY_EXIST} {LOST.message}"),
            id="a lost response ends a wait whose call must not be repeated",
        ),
        pytest.param(
            PENDING_SUBMISSION,
            SubmitRejected("HTTP 422: no such table"),
            IDEMPOTENT,
            ended(CALLED_ONCE, SubmitState.FAILED, "submit_refused", "HTTP 422: no such table"),
            id="rejected",
        ),
        pytest.param(
            INTERRUPTED,
            SubmitRejected("HTTP 403 Forbidden"),
            IDEMPOTENT,
            ended(
                CALLED_TWICE,
                SubmitState.UNKNOWN,
                "submit_unknown",
                f"{MAY_EXIST} An earlier call may have submitted the job; then: HTTP 403 Forbidden",
            ),
            id="rejected after a lost response",
        ),
        *(
            pytest.param(
                PENDING_SUBMISSION,
                BUSY,
                SubmitRules(True, on_conflict),
                SubmissionUpdate(CALLED_ONCE._replace(last_error=BUSY.message), BUSY_FOR_NOW),
                id=f"in conflict, on_conflict={on_conflict}",
            )
            for on_conflict in ("wait", "adopt")
        ),
        pytest.param(
            PENDING_SUBMISSION,
            BUSY,
            SubmitRules(True, "fail"),
            ended(CALLED_ONCE, SubmitState.FAILED, "submit_conflict", BUSY.message),
            id="in conflict, on_conflict=fail",
        ),
        pytest.param(
            INTERRUPTED,
            BUSY,
            SubmitRules(True, "fail"),
            SubmissionUpdate(INTERRUPTED._replace(attempts=2, last_error=BUSY.message), BUSY_FOR_NOW),
            id="the running job may be that of the lost call",
        ),
        pytest.param(
            PENDING_SUBMISSION,
            SubmitWithoutHandle("no such field: id"),
            IDEMPOTENT,
            ended(CALLED_ONCE, SubmitState.UNKNOWN, "submit_no_handle", "no such field: id"),
            id="without a handle",
        ),
    ],
)
def test_the_result_of_a_submit_call_updates_the_submission_and_gives_a_verdict(
    before: Submission, answer: SubmitAnswer, rules: SubmitRules, update: SubmissionUpdate
) -> None:
    assert after_submit(before, answer, rules) == update


REFUSED = Submission(
    SubmitState.FAILED, attempts=2, last_error="HTTP 400 Bad Request", reason="submit_refused"
)


@pytest.mark.parametrize(
    ("submission", "rules", "update"),
    [
        (PENDING_SUBMISSION, ONCE, None),
        (INTERRUPTED, IDEMPOTENT, None),
        (INTERRUPTED, ONCE, ended(INTERRUPTED, SubmitState.UNKNOWN, "submit_unknown", MAY_EXIST)),
        (
            INTERRUPTED._replace(last_error="No answer in time."),
            ONCE,
            ended(INTERRUPTED, SubmitState.UNKNOWN, "submit_unknown", f"{MAY_EXIST} No answer in time."),
        ),
        (REFUSED, IDEMPOTENT, SubmissionUpdate(REFUSED, Failure("submit_refused", "HTTP 400 Bad Request"))),
        (
            Submission(SubmitState.UNKNOWN),
            IDEMPOTENT,
            SubmissionUpdate(Submission(SubmitState.UNKNOWN), Failure("submit_unknown", "")),
        ),
    ],
)
def test_after_a_crash_a_submission_goes_on_or_ends_its_wait(
    submission: Submission, rules: SubmitRules, update: SubmissionUpdate | None
) -> None:
    assert resolve_interrupted(submission, rules) == update


ANSWERS: st.SearchStrategy[SubmitAnswer] = st.sampled_from(
    [
        SubmitAccepted(1),
        NO_CONNECTION,
        LOST,
        SubmitConflict("x"),
        SubmitRejected("x"),
        SubmitWithoutHandle("x"),
    ]
)


@given(st.lists(ANSWERS, max_size=8), st.sampled_from(["wait", "adopt", "fail"]))
def test_a_call_that_must_not_be_repeated_creates_at_most_one_job(
    answers: list[SubmitAnswer], on_conflict: str
) -> None:
    rules, submission, may_exist = SubmitRules(False, on_conflict), PENDING_SUBMISSION, 0
    for answer in answers:
        if resolve_interrupted(submission, rules) is not None or submission.state is SubmitState.SUBMITTED:
            break
        done = after_submit(submission, answer, rules)
        may_exist += isinstance(answer, SubmitAccepted | SubmitUncertain | SubmitWithoutHandle)
        submission = done.submission
    assert may_exist <= 1


def test_marking_a_submission_counts_the_call() -> None:
    assert mark_submitting(PENDING_SUBMISSION) == INTERRUPTED


@pytest.mark.parametrize(
    ("submit", "submission"),
    [
        (None, None),
        ({"endpoint": "/jobs"}, PENDING_SUBMISSION),
        ({"resume": {"state": "submitted", "handle": 7}}, Submission(SubmitState.SUBMITTED, 7)),
        ({"resume": {"state": "submitted", "handle": 7, "attempts": 2}}, Submission(SubmitState.SUBMITTED, 7, 2)),
        ({"resume": {"state": "submitting", "attempts": 2}}, Submission(SubmitState.SUBMITTING, None, 2)),
    ],
)  # fmt: skip
def test_a_submission_starts_pending_or_where_another_daemon_exported_it(
    submit: dict[str, Any] | None, submission: Submission | None
) -> None:
    assert initial_submission(submit) == submission


# ---------------------------------------------------------------- cancelling the job


@pytest.mark.parametrize(
    ("submission", "state", "is_cancelled"),
    [
        (Submission(SubmitState.SUBMITTED, 1), WaitState.CANCELLED, True),
        (Submission(SubmitState.SUBMITTED, 1), WaitState.TIMEOUT, False),
        (Submission(SubmitState.SUBMITTED, 1), WaitState.FAILED, False),
        (Submission(SubmitState.SUBMITTED, 1, adopted=True), WaitState.CANCELLED, False),
        (Submission(SubmitState.SUBMITTING), WaitState.CANCELLED, True),
        (PENDING_SUBMISSION, WaitState.CANCELLED, False),
        (Submission(SubmitState.UNKNOWN), WaitState.CANCELLED, False),
    ],
)
def test_a_job_that_may_exist_is_cancelled_in_the_listed_states(
    submission: Submission, state: WaitState, is_cancelled: bool
) -> None:
    job_cancel = job_cancel_at_end(submission, state, ("cancelled",), 5.0)
    assert job_cancel == (JobCancel(next_attempt_at=5.0) if is_cancelled else None)


def test_a_cancel_request_is_retried_until_the_delays_are_used_up() -> None:
    job_cancel, now, pauses = JobCancel(next_attempt_at=0.0), 0.0, []
    while job_cancel.next_attempt_at is not None:
        pauses.append(job_cancel.next_attempt_at - now)
        now = job_cancel.next_attempt_at
        job_cancel = after_cancel(job_cancel, CancelUnavailable("HTTP 503"), now)
    assert tuple(pauses) == CANCEL_RETRY_DELAYS
    assert job_cancel == JobCancel(CancelState.FAILED, len(CANCEL_RETRY_DELAYS), "HTTP 503")


@pytest.mark.parametrize(
    ("answer", "cancel"),
    [
        (JobCancelled(), JobCancel(CancelState.CANCELLED, 1)),
        (CancelRejected("HTTP 403"), JobCancel(CancelState.FAILED, 1, "HTTP 403")),
        (CancelUnavailable("busy"), JobCancel(CancelState.PENDING, 1, "busy", 100.0 + CANCEL_RETRY_DELAYS[1])),
        (CancelUnavailable("busy", 30.0), JobCancel(CancelState.PENDING, 1, "busy", 130.0)),
        (CancelUnavailable("busy", 1e9), JobCancel(CancelState.PENDING, 1, "busy", 100.0 + CANCEL_RETRY_DELAYS[-1])),
    ],
)  # fmt: skip
def test_the_result_of_a_cancel_request_updates_the_cancel(answer: CancelAnswer, cancel: JobCancel) -> None:
    assert after_cancel(JobCancel(), answer, 100.0) == cancel
