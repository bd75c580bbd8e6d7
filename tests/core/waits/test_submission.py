"""What answers to the submitting call and to the cancel request do."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.waits.submission import (
    CANCEL_RETRY_DELAYS,
    PENDING_SUBMISSION,
    CancelRejected,
    CancelState,
    CancelUnavailable,
    JobCancel,
    JobCancelled,
    Submission,
    SubmitAccepted,
    SubmitAnswer,
    SubmitConflict,
    SubmitRejected,
    SubmitRules,
    SubmitState,
    SubmitUnavailable,
    SubmitUncertain,
    SubmitWithoutHandle,
    after_cancel,
    after_submit,
    initial_submission,
    job_cancel_at_end,
    mark_submitting,
    resolve_interrupted,
)
from waitd.core.waits.verdict import Failure, Pending, Unreachable
from waitd.core.waits.wait import WaitState

IDEMPOTENT, ONCE = SubmitRules(), SubmitRules(idempotent=False)
UNCLEAR_BEFORE = Submission(SubmitState.SUBMITTING, attempts=1)
LOST = SubmitUncertain("disconnected", "The server closed the connection without an answer.")
NO_CONNECTION = SubmitUnavailable("connection_refused", "The connection was refused.", 7.0)


def test_an_accepted_job_is_waited_for() -> None:
    done = after_submit(PENDING_SUBMISSION, SubmitAccepted(42), IDEMPOTENT)
    assert done.submission == Submission(SubmitState.SUBMITTED, 42, attempts=1)
    assert done.verdict == Pending("submitted", "The job was submitted.")


def test_an_adopted_job_is_marked() -> None:
    done = after_submit(PENDING_SUBMISSION, SubmitAccepted({"job_id": 1}, adopted=True), IDEMPOTENT)
    assert (done.submission.adopted, done.verdict.reason) == (True, "adopted")


@pytest.mark.parametrize("rules", [IDEMPOTENT, ONCE])
def test_without_a_connection_nothing_was_submitted_and_it_is_tried_again(rules: SubmitRules) -> None:
    done = after_submit(PENDING_SUBMISSION, NO_CONNECTION, rules)
    assert (done.submission.state, done.submission.attempts) == (SubmitState.PENDING, 1)
    assert done.submission.last_error == "The connection was refused."
    assert isinstance(done.verdict, Unreachable)
    assert done.verdict.retry_after == 7.0


def test_an_idempotent_call_is_repeated_after_a_lost_answer() -> None:
    done = after_submit(PENDING_SUBMISSION, LOST, IDEMPOTENT)
    assert done.submission.state is SubmitState.SUBMITTING
    assert isinstance(done.verdict, Unreachable)


def test_and_ends_the_wait_where_it_might() -> None:
    done = after_submit(PENDING_SUBMISSION, LOST, ONCE)
    assert done.submission.state is SubmitState.UNKNOWN
    assert isinstance(done.verdict, Failure)
    assert done.verdict.reason == "submit_unknown"
    assert not done.verdict.silenceable


def test_a_refused_connection_does_not_make_an_earlier_lost_call_unhappen() -> None:
    assert after_submit(UNCLEAR_BEFORE, NO_CONNECTION, IDEMPOTENT).submission.state is SubmitState.SUBMITTING


def test_a_refusal_ends_the_wait_with_its_message() -> None:
    done = after_submit(PENDING_SUBMISSION, SubmitRejected("HTTP 422: no such table"), IDEMPOTENT)
    assert done.verdict == Failure("submit_refused", "HTTP 422: no such table")
    assert done.submission.state is SubmitState.FAILED


def test_a_refusal_after_a_lost_call_says_that_there_may_be_a_job() -> None:
    done = after_submit(UNCLEAR_BEFORE, SubmitRejected("HTTP 403 Forbidden"), IDEMPOTENT)
    assert (done.submission.state, done.verdict.reason) == (SubmitState.UNKNOWN, "submit_unknown")
    assert "403" in done.verdict.message


@pytest.mark.parametrize("on_conflict", ["wait", "adopt"])
def test_a_conflict_is_waited_for(on_conflict: str) -> None:
    done = after_submit(
        PENDING_SUBMISSION, SubmitConflict("a sync is running"), SubmitRules(True, on_conflict)
    )
    assert done.submission.state is SubmitState.PENDING
    assert done.verdict == Pending("submit_conflict", "Not submitted yet: a sync is running")


def test_or_fails() -> None:
    done = after_submit(PENDING_SUBMISSION, SubmitConflict("a sync is running"), SubmitRules(True, "fail"))
    assert done.verdict == Failure("submit_conflict", "a sync is running")


def test_but_after_a_lost_call_the_job_that_runs_may_be_our_own() -> None:
    done = after_submit(UNCLEAR_BEFORE, SubmitConflict("a sync is running"), SubmitRules(True, "fail"))
    assert done.submission.state is SubmitState.SUBMITTING
    assert isinstance(done.verdict, Pending)


def test_a_job_without_a_name_ends_the_wait() -> None:
    done = after_submit(PENDING_SUBMISSION, SubmitWithoutHandle("no such field: id"), IDEMPOTENT)
    assert (done.verdict.reason, done.submission.state) == ("submit_no_handle", SubmitState.UNKNOWN)


def test_after_a_crash_only_an_idempotent_call_is_repeated() -> None:
    assert resolve_interrupted(UNCLEAR_BEFORE, IDEMPOTENT) is None
    over = resolve_interrupted(UNCLEAR_BEFORE, ONCE)
    assert over is not None
    assert over.verdict.reason == "submit_unknown"
    assert resolve_interrupted(PENDING_SUBMISSION, ONCE) is None


def test_an_end_that_did_not_reach_its_wait_is_the_same_after_a_crash() -> None:
    ended = after_submit(PENDING_SUBMISSION, SubmitRejected("HTTP 400 Bad Request"), IDEMPOTENT)
    over = resolve_interrupted(ended.submission, IDEMPOTENT)
    assert over is not None
    assert over.verdict == ended.verdict


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
def test_whatever_happens_a_call_that_must_not_be_repeated_is_made_once(
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


def test_the_mark_counts_the_call() -> None:
    assert mark_submitting(PENDING_SUBMISSION) == Submission(SubmitState.SUBMITTING, attempts=1)


def test_a_wait_goes_on_where_another_daemon_left_off() -> None:
    assert initial_submission(None) is None
    assert initial_submission({"endpoint": "/jobs"}) == PENDING_SUBMISSION
    resumed = initial_submission({"resume": {"state": "submitted", "handle": 7, "attempts": 2}})
    assert resumed == Submission(SubmitState.SUBMITTED, 7, 2)


# ---------------------------------------------------------------- the job's cancelling


@pytest.mark.parametrize(
    ("submission", "state", "wanted"),
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
def test_whose_job_is_cancelled(submission: Submission, state: WaitState, wanted: bool) -> None:
    job_cancel = job_cancel_at_end(submission, state, ("cancelled",), 5.0)
    assert job_cancel == (JobCancel(next_attempt_at=5.0) if wanted else None)


def test_cancelling_is_tried_again_for_a_bounded_number_of_times() -> None:
    job_cancel, now, pauses = JobCancel(next_attempt_at=0.0), 0.0, []
    while job_cancel.next_attempt_at is not None:
        pauses.append(job_cancel.next_attempt_at - now)
        now = job_cancel.next_attempt_at
        job_cancel = after_cancel(job_cancel, CancelUnavailable("HTTP 503"), now)
    assert tuple(pauses) == CANCEL_RETRY_DELAYS
    assert job_cancel == JobCancel(CancelState.FAILED, len(CANCEL_RETRY_DELAYS), "HTTP 503")


def test_retry_after_of_a_cancel_request_is_honoured() -> None:
    assert after_cancel(JobCancel(), CancelUnavailable("HTTP 429", 30.0), 100.0).next_attempt_at == 130.0


def test_a_cancelled_and_a_refused_one_are_over() -> None:
    assert after_cancel(JobCancel(), JobCancelled(), 0.0) == JobCancel(CancelState.CANCELLED, 1)
    assert after_cancel(JobCancel(), CancelRejected("HTTP 403"), 0.0).state is CancelState.FAILED


def test_the_verdict_of_a_call_that_did_not_arrive() -> None:
    done = after_submit(PENDING_SUBMISSION, NO_CONNECTION, IDEMPOTENT)
    assert done.verdict == Unreachable(
        "connection_refused", "Not submitted yet: The connection was refused.", 7.0
    )
    lost = after_submit(PENDING_SUBMISSION, SubmitUncertain("timeout", "No answer in time.", 3.0), IDEMPOTENT)
    told = "It is unknown whether the job was submitted; the call is repeated: No answer in time."
    assert lost.verdict == Unreachable("timeout", told, 3.0)
    assert lost.submission == Submission(SubmitState.SUBMITTING, attempts=1, last_error="No answer in time.")


def test_adopting_a_job_clears_the_last_error() -> None:
    before = UNCLEAR_BEFORE._replace(last_error="No answer in time.")
    done = after_submit(before, SubmitAccepted(7, adopted=True), IDEMPOTENT)
    assert done.verdict == Pending("adopted", "A running job was adopted.")
    assert done.submission == Submission(SubmitState.SUBMITTED, 7, attempts=2, adopted=True)


def test_an_uncertain_call_that_must_not_be_repeated_ends_the_wait() -> None:
    ended = after_submit(PENDING_SUBMISSION, LOST, ONCE)
    assert ended.verdict.message.endswith(f"must not be repeated. {LOST.message}")
    found = resolve_interrupted(UNCLEAR_BEFORE._replace(last_error="No answer in time."), ONCE)
    assert found is not None
    assert found.verdict.message.endswith("must not be repeated. No answer in time.")
    bare = resolve_interrupted(UNCLEAR_BEFORE, ONCE)
    assert bare is not None
    assert bare.verdict.message.endswith("must not be repeated.")


def test_a_final_submission_finishes_its_wait_after_a_restart() -> None:
    over = Submission(SubmitState.FAILED, attempts=2, last_error="no such table", reason="submit_refused")
    assert resolve_interrupted(over, IDEMPOTENT) == (over, Failure("submit_refused", "no such table"))
    nameless = Submission(SubmitState.UNKNOWN)
    assert resolve_interrupted(nameless, IDEMPOTENT) == (nameless, Failure("submit_unknown", ""))


def test_a_conflict_that_ends_a_wait_is_a_failed_submission() -> None:
    done = after_submit(PENDING_SUBMISSION, SubmitConflict("busy"), IDEMPOTENT)
    assert (done.submission.state, done.submission.reason) == (SubmitState.FAILED, "submit_conflict")
    assert done.verdict == Failure("submit_conflict", "busy")


def test_what_another_daemon_left_is_taken_up() -> None:
    assert initial_submission({"resume": {"state": "submitted", "handle": 7}}) == Submission(
        SubmitState.SUBMITTED, 7
    )
    resumed = initial_submission({"resume": {"state": "submitting", "attempts": 2}})
    assert resumed == Submission(SubmitState.SUBMITTING, None, 2)


def test_the_result_of_each_cancel_attempt() -> None:
    now = 1000.0
    assert after_cancel(JobCancel(), CancelRejected("no"), now) == JobCancel(CancelState.FAILED, 1, "no")
    soon = after_cancel(JobCancel(), CancelUnavailable("busy"), now)
    assert soon == JobCancel(CancelState.PENDING, 1, "busy", now + CANCEL_RETRY_DELAYS[1])
    later = after_cancel(JobCancel(), CancelUnavailable("busy", 1e9), now)
    assert later == JobCancel(CancelState.PENDING, 1, "busy", now + CANCEL_RETRY_DELAYS[-1])
