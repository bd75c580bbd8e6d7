"""The state machine of a wait, verdict by verdict."""

from dataclasses import dataclass, field

import pytest

from waitd.core.waits.schedule import MAX_RETRY_AFTER, Pacing
from waitd.core.waits.step import Finish, PokeAgain, cancelled_outcome, step
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.core.waits.wait import EMPTY_PROGRESS, RUNS_KEPT, Outcome, Progress, WaitState, record_verdict

NOW = 1_800_000_000.0


@dataclass
class Held:
    pacing: Pacing = field(default_factory=lambda: Pacing(10))
    phase: float = 0.0
    deadline: float = NOW + 3600
    silent_fail: bool = False
    progress: Progress = field(default_factory=Progress)


def outcome(held: Held, verdict: Verdict, started_at: float = NOW) -> Outcome:
    result = step(held, verdict, started_at, max(NOW, started_at), 0.0)
    assert isinstance(result, Finish)
    return result.outcome


def again(held: Held, verdict: Verdict, started_at: float = NOW, now: float = NOW) -> PokeAgain:
    result = step(held, verdict, started_at, now, 0.0)
    assert isinstance(result, PokeAgain)
    return result


def test_success_ends_a_wait_with_its_payload() -> None:
    assert outcome(Held(), Success({"rows": 3}, "done", "all in")) == Outcome(
        WaitState.SUCCESS, {"rows": 3}, "all in", "done"
    )


def test_failure_ends_a_wait() -> None:
    assert outcome(Held(), Failure("job_failed", "disk full", {"x": 1})) == Outcome(
        WaitState.FAILED, {"x": 1}, "disk full", "job_failed"
    )


@pytest.mark.parametrize("verdict", [Pending(), Unreachable("timeout")])
def test_neither_pending_nor_unreachable_ends_a_wait_before_its_deadline(verdict: Verdict) -> None:
    assert again(Held(deadline=NOW + 0.001), verdict, NOW - 5).due == NOW + 0.001


@pytest.mark.parametrize("verdict", [Pending("http_404", "not there"), Unreachable("timeout", "not there")])
def test_a_poke_that_started_at_the_deadline_times_the_wait_out(verdict: Verdict) -> None:
    result = outcome(Held(deadline=NOW), verdict)
    assert result.state is WaitState.TIMEOUT
    assert result.reason == "deadline"
    assert "not there" in result.message


def test_a_success_of_the_poke_at_the_deadline_wins() -> None:
    assert outcome(Held(deadline=NOW), Success(), NOW + 0.5).state is WaitState.SUCCESS


def test_a_poke_that_started_before_the_deadline_and_answered_after_it_is_followed_by_one_at_once() -> None:
    assert again(Held(deadline=NOW), Pending(), NOW - 3, NOW + 0.2).due == NOW + 0.2


def test_silent_fail_silences_refusals_and_nothing_else() -> None:
    refusal = Failure("http_403", "forbidden", silenceable=True)
    assert outcome(Held(), refusal).state is WaitState.FAILED
    result = again(Held(silent_fail=True), refusal)
    assert result.progress.runs[-1].verdict == "unreachable"
    assert outcome(Held(silent_fail=True), Failure("job_failed")).state is WaitState.FAILED


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


def test_a_probes_state_is_kept_until_it_says_another() -> None:
    progress = record_verdict(
        record_verdict(EMPTY_PROGRESS, Pending(state="three keys"), NOW), Unreachable("timeout"), NOW
    )
    assert progress.state == "three keys"
    assert record_verdict(progress, Pending(state=""), NOW).state == ""


def test_a_cancelled_outcome_says_why() -> None:
    assert cancelled_outcome("superseded", "by a newer one") == Outcome(
        WaitState.CANCELLED, None, "by a newer one", "superseded"
    )


def test_a_pending_answer_that_asks_for_a_pause_gets_it_up_to_the_deadline() -> None:
    plain = again(Held(), Pending()).due
    assert again(Held(), Pending(retry_after=1)).due == plain
    assert again(Held(), Pending(retry_after=700)).due == NOW + 700
    assert again(Held(), Pending(retry_after=1e9)).due == NOW + 3600
    assert again(Held(deadline=NOW + 1e6), Pending(retry_after=1e9)).due == NOW + MAX_RETRY_AFTER


def test_an_unreachable_target_that_asks_for_a_pause_gets_it() -> None:
    assert again(Held(), Unreachable("http_429", retry_after=700)).due == NOW + 700


def test_a_silenced_refusal_is_remembered_in_its_own_words_and_when_it_came() -> None:
    refusal = Failure("http_403", "forbidden", silenceable=True)
    [run] = again(Held(silent_fail=True), refusal, NOW - 1).progress.runs
    assert (run.verdict, run.reason, run.message, run.first_at) == (
        "unreachable",
        "http_403",
        "forbidden",
        NOW,
    )


def test_a_cancelled_outcome_needs_no_reason() -> None:
    assert cancelled_outcome() == Outcome(WaitState.CANCELLED, None, "", "cancelled")
