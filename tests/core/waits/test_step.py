"""The state machine of a wait, verdict by verdict."""

from dataclasses import dataclass, field

import pytest

from waitd.core.waits.schedule import MAX_RETRY_AFTER, Pacing
from waitd.core.waits.step import Finish, PokeAgain, cancelled_outcome, step
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.core.waits.wait import EMPTY_PROGRESS, RUNS_KEPT, Outcome, Progress, WaitState, record_verdict

NOW = 1_800_000_000.0


@dataclass
class FakeWait:
    pacing: Pacing = field(default_factory=lambda: Pacing(10))
    phase: float = 0.0
    deadline: float = NOW + 3600
    silent_fail: bool = False
    progress: Progress = field(default_factory=Progress)


def outcome(wait: FakeWait, verdict: Verdict, started_at: float = NOW) -> Outcome:
    result = step(wait, verdict, started_at, max(NOW, started_at), 0.0)
    assert isinstance(result, Finish)
    return result.outcome


def again(wait: FakeWait, verdict: Verdict, started_at: float = NOW, now: float = NOW) -> PokeAgain:
    result = step(wait, verdict, started_at, now, 0.0)
    assert isinstance(result, PokeAgain)
    return result


@pytest.mark.parametrize(
    ("verdict", "ended"),
    [
        (Success({"rows": 3}, "done", "all in"), Outcome(WaitState.SUCCESS, {"rows": 3}, "all in", "done")),
        (
            Failure("job_failed", "disk full", {"x": 1}),
            Outcome(WaitState.FAILED, {"x": 1}, "disk full", "job_failed"),
        ),
    ],
)
def test_success_and_failure_end_a_wait(verdict: Verdict, ended: Outcome) -> None:
    assert outcome(FakeWait(), verdict) == ended


@pytest.mark.parametrize(
    ("deadline", "verdict", "started_at", "now", "due"),
    [
        (NOW + 0.001, Pending(), NOW - 5, NOW, NOW + 0.001),
        (NOW + 0.001, Unreachable("timeout"), NOW - 5, NOW, NOW + 0.001),
        (NOW, Pending(), NOW - 3, NOW + 0.2, NOW + 0.2),  # answered after the deadline
        (NOW + 3600, Pending(retry_after=700), NOW, NOW, NOW + 700),
        (NOW + 3600, Pending(retry_after=1e9), NOW, NOW, NOW + 3600),
        (NOW + 1e6, Pending(retry_after=1e9), NOW, NOW, NOW + MAX_RETRY_AFTER),
        (NOW + 3600, Unreachable("http_429", retry_after=700), NOW, NOW, NOW + 700),
    ],
)
def test_a_poke_that_started_before_the_deadline_is_followed_by_another_one(
    deadline: float, verdict: Verdict, started_at: float, now: float, due: float
) -> None:
    assert again(FakeWait(deadline=deadline), verdict, started_at, now).due == due


@pytest.mark.parametrize("verdict", [Pending("http_404", "not there"), Unreachable("timeout", "not there")])
def test_a_poke_that_started_at_the_deadline_times_the_wait_out(verdict: Verdict) -> None:
    result = outcome(FakeWait(deadline=NOW), verdict)
    assert result.state is WaitState.TIMEOUT
    assert result.reason == "deadline"
    assert "not there" in result.message


def test_a_success_of_the_poke_at_the_deadline_wins() -> None:
    assert outcome(FakeWait(deadline=NOW), Success(), NOW + 0.5).state is WaitState.SUCCESS


def test_silent_fail_silences_refusals_only() -> None:
    refusal = Failure("http_403", "forbidden", silenceable=True)
    assert outcome(FakeWait(), refusal).state is WaitState.FAILED
    result = again(FakeWait(silent_fail=True), refusal)
    assert result.progress.runs[-1].verdict == "unreachable"
    assert outcome(FakeWait(silent_fail=True), Failure("job_failed")).state is WaitState.FAILED


def test_equal_verdicts_form_one_run_and_the_last_eight_runs_are_kept() -> None:
    progress = EMPTY_PROGRESS
    for n in range(1000):
        progress = record_verdict(progress, Pending("http_404"), NOW + n)
    assert len(progress.runs) == 1
    assert (progress.runs[0].first_at, progress.runs[0].last_at, progress.runs[0].times) == (
        NOW,
        NOW + 999,
        1000,
    )
    for n in range(20):
        progress = record_verdict(progress, Unreachable(f"http_{500 + n}"), NOW + 1000 + n)
    assert progress.pokes == 1020
    assert [run.reason for run in progress.runs] == [f"http_{n}" for n in range(512, 520)]
    assert len(progress.runs) == RUNS_KEPT


def test_the_backoff_step_counts_verdicts_of_one_kind_whatever_their_reason() -> None:
    progress = EMPTY_PROGRESS
    steps = []
    for verdict in (Pending(), Unreachable("a"), Unreachable("b"), Unreachable("b"), Pending()):
        progress = record_verdict(progress, verdict, NOW)
        steps.append(progress.step)
    assert steps == [1, 1, 2, 3, 1]


def test_a_probes_state_is_kept_until_it_returns_another() -> None:
    progress = record_verdict(
        record_verdict(EMPTY_PROGRESS, Pending(state="three keys"), NOW), Unreachable("timeout"), NOW
    )
    assert progress.state == "three keys"
    assert record_verdict(progress, Pending(state=""), NOW).state == ""


def test_a_cancelled_outcome_has_a_reason_and_a_message() -> None:
    assert cancelled_outcome() == Outcome(WaitState.CANCELLED, None, "", "cancelled")
    assert cancelled_outcome("superseded", "by a newer one") == Outcome(
        WaitState.CANCELLED, None, "by a newer one", "superseded"
    )


def test_a_short_retry_after_of_a_pending_answer_changes_nothing() -> None:
    assert again(FakeWait(), Pending(retry_after=1)).due == again(FakeWait(), Pending()).due


def test_a_silenced_refusal_keeps_its_reason_and_message() -> None:
    refusal = Failure("http_403", "forbidden", silenceable=True)
    [run] = again(FakeWait(silent_fail=True), refusal, NOW - 1).progress.runs
    assert (run.verdict, run.reason, run.message, run.first_at) == (
        "unreachable",
        "http_403",
        "forbidden",
        NOW,
    )
