"""The explanation in `waitd show`: every reason to wait has its own sentence."""

from datetime import UTC, datetime, timedelta
from typing import Any, get_args

import pytest

from waitd.cli.display.explain import explain
from waitd.models import RunView, WaitingOnView, WaitView

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wait(
    verdict: str = "pending", *, due: float = 20, on: dict[str, Any] | None = None, **fields: Any
) -> dict[str, Any]:
    """A waiting wait as the API shows it.

    `on` and `fields` override fields of `waiting_on` and of the wait.
    """
    waiting_on = {
        "stage": "scheduled", "since": None, "held_up_by": None, "origin": "https://x", "origin_limit": 4,
        "origin_running": 4, "origin_held_down": False, "quiet_until": None,
    } | (on or {})  # fmt: skip
    view = {
        "id": "w", "namespace": "default", "kind": "http", "params": {"endpoint": "https://x/jobs/1"},
        "poke_interval": 30.0, "timeout": 600.0, "exponential_backoff": False, "max_wait": None, "soft_fail": False,
        "silent_fail": False, "sinks": [], "labels": {}, "supersede_key": None,
        "submit": None, "wake_on": None, "cost": None, "state": "waiting",
        "created_at": at(-300), "deadline": at(3600), "next_poke_at": at(due), "waiting_on": waiting_on,
        "last_poke_at": at(-10), "finished_at": None, "pokes": 7, "outcome": None, "deliveries": [],
        "last_verdict": {"verdict": verdict, "reason": "http_202", "message": "HTTP 202 Accepted.", "at": at(-10)},
    } | fields  # fmt: skip
    WaitView.model_validate(view)
    return view


def queued(held_up_by: str | None = None, **fields: Any) -> dict[str, Any]:
    return wait(on={"stage": "queued", "since": at(-5), "held_up_by": held_up_by, **fields})


def runs(verdict: str = "pending", count: int = 7) -> list[dict[str, Any]]:
    run = RunView(
        verdict=verdict,
        reason="http_202",
        message="HTTP 202 Accepted.",
        first_at=at(-250),
        last_at=at(-10),
        count=count,
    )
    return [run.model_dump()]


def test_a_waiting_wait_is_explained_by_its_last_result_its_next_poke_and_its_end() -> None:
    assert explain(wait(), runs(), NOW) == (
        "Not done yet: HTTP 202 Accepted (7 times in 4 min 10 s, last 10 s ago). "
        "The next poke is in 20 s, at its interval of 30 s. "
        "It succeeds when the status is 2xx, fails when a poke is refused, and times out in 1 h."
    )


ONE_AT_A_TIME = "https://x timed out three times in a row and gets one poke at a time until it answers."


@pytest.mark.parametrize(
    ("waiting", "sentence"),
    [
        (wait(on={"stage": "poking", "since": at(0)}), "It is being poked now."),
        (wait(on={"stage": "ending", "since": at(0)}), "Its outcome is known and is being stored."),
        (wait(waiting_on=None, next_poke_at=None), "The daemon has not scheduled it yet."),
        (
            queued("origin_limit"),
            "Its next poke has been due for 5 s: https://x has 4 pokes in flight, and its limit is 4.",
        ),
        (queued("origin_limit", origin_held_down=True), ONE_AT_A_TIME),
        (
            queued("origin_pace"),
            "https://x answers again after a fault, and is poked no faster than before at first.",
        ),
        (
            queued("unproven_origins"),
            "https://x has not answered yet, and origins like it may use only half of poke_concurrency.",
        ),
        (queued("poke_concurrency"), "the daemon is overloaded; all of its poke_concurrency is in use."),
        (queued(), "it is next in the queue."),
        (wait("unreachable", due=90, on={"quiet_until": at(90)}), "in 1 min 30 s, as the target's Retry-After asked."),
        (wait("unreachable", due=90, on={"quiet_until": at(7200)}), "as the target's Retry-After asked."),
        (wait("unreachable", due=20, on={"quiet_until": at(-5)}), "at its interval of 30 s."),
        (wait("unreachable", due=110), "backed off from 30 s up to 5 min until there is an answer."),
        (
            wait(due=110, exponential_backoff=True, max_wait=600.0),
            "in 1 min 50 s, backed off from 30 s up to 10 min.",
        ),
        (wait(due=110, exponential_backoff=True), "backed off from 30 s."),
        (wait(due=3600), "in 1 h, the last one, at the deadline."),
        (wait(on={"origin_held_down": True}), f"at its interval of 30 s; {ONE_AT_A_TIME}"),
        (wait(deadline=at(-0.5)), "and times out now."),
        (wait(silent_fail=True), "It succeeds when the status is 2xx, and times out in 1 h."),
        (
            wait(params={"success_when": "status == 200", "failure_when": "status == 500"}),
            "It succeeds when status == 200, fails when status == 500 or a poke is refused, and",
        ),
        (
            wait(kind="s3_key", params={"bucket_key": "s3://b/k", "check": "size(files) > 1"}),
            "succeeds when s3://b/k exists and size(files) > 1, fails",
        ),
        (
            wait(kind="s3_key", params={"bucket_key": ["a", "b", "c", "d"], "bucket_name": "x"}),
            "s3://x/a, s3://x/b, s3://x/c and 1 more all exist",
        ),
        (
            wait(kind="s3_key", params={"bucket_key": "s3://b/*", "wildcard_match": True}),
            "when a key matches s3://b/*,",
        ),
        (
            wait(kind="s3_key", params={"bucket_key": ["s3://b/*", "s3://c/*"], "wildcard_match": True}),
            "when keys match each of s3://b/*, s3://c/*,",
        ),
        (
            wait(
                kind="s3_keys_unchanged",
                params={"bucket_name": "b", "prefix": "p/", "inactivity_period": 600, "allow_delete": False},
            ),
            "1 key exists below s3://b/p/ and none has changed for 10 min, fails when a key is deleted or a poke is refused",
        ),
        (wait(kind="airbyte.job"), "when its airbyte.job is done, fails when that reports a failure"),
    ],
)  # fmt: skip
def test_each_reason_to_wait_has_its_sentence(waiting: dict[str, Any], sentence: str) -> None:
    assert sentence in explain(waiting, runs(), NOW)


def test_an_unusable_answer_and_a_wait_without_a_poke_are_named() -> None:
    assert explain(wait("unreachable"), runs("unreachable", 1), NOW).startswith(
        "No usable answer: HTTP 202 Accepted (10 s ago)."
    )
    assert explain(wait(last_verdict=None, last_poke_at=None), [], NOW).startswith(
        "It has not been poked yet."
    )


def test_an_ended_wait_is_explained_by_its_outcome_and_its_deliveries() -> None:
    outcome = {"state": "failed", "payload": None, "message": "The job failed.", "reason": "failure"}
    delivery = {
        "id": "d",
        "sink": "webhook",
        "attempts": 3,
        "next_attempt_at": None,
        "last_error": None,
        "signed": True,
    }
    ended = wait(
        state="failed",
        waiting_on=None,
        finished_at=at(-60),
        outcome=outcome,
        deliveries=[{**delivery, "state": "queued"}, {**delivery, "state": "dead"}],
    )
    assert explain(ended, runs(), NOW) == (
        "It ended 1 min ago as failed: The job failed. Deliveries in progress: 1. "
        "Dead deliveries: 1; `waitd redeliver` tries again."
    )


def test_the_explanation_knows_every_stage_of_the_api() -> None:
    stages = get_args(WaitingOnView.model_fields["stage"].annotation)
    assert set(stages) == {"scheduled", "queued", "poking", "ending"}


def job(state: str, **fields: Any) -> dict[str, Any]:
    return {
        "state": state, "handle": None, "adopted": False, "attempts": 0, "last_error": None, "cancel": None, "request": {},
    } | fields  # fmt: skip


@pytest.mark.parametrize(
    ("submit", "sentence"),
    [
        (job("pending"), "Its job is not submitted yet. It has not been poked yet."),
        (job("pending", attempts=3), "Its job is not submitted yet after 3 attempts."),
        (job("submitting", attempts=1), "Its job may be submitted: 1 attempt so far, not confirmed yet."),
        (job("submitted", handle={"job_id": 7}), "Its job is submitted: job_id 7."),
        (job("submitted", handle="x", adopted=True), "It waits for the job x, which was already running."),
    ],
)
def test_the_state_of_the_job_that_a_wait_submits_is_explained(submit: dict[str, Any], sentence: str) -> None:
    assert sentence in explain({**wait(), "submit": submit}, [], NOW)


@pytest.mark.parametrize(
    ("state", "error", "sentence"),
    [
        ("pending", "HTTP 503", "Its job is not cancelled yet: HTTP 503."),
        ("cancelled", None, "Its job is cancelled."),
        ("unneeded", None, "There was no job to cancel."),
        ("failed", "HTTP 403", "Its job could not be cancelled: HTTP 403."),
        ("unknown", None, "It is not known whether there is a job to cancel."),
    ],
)
def test_the_cancellation_of_an_ended_waits_job_is_explained(
    state: str, error: str | None, sentence: str
) -> None:
    cancel = {"state": state, "attempts": 1, "last_error": error, "next_attempt_at": None}
    outcome = {"state": "cancelled", "message": "", "reason": "cancelled", "payload": None}
    ended = {
        "state": "cancelled",
        "outcome": outcome,
        "finished_at": at(-5),
        "submit": job("submitted", cancel=cancel),
    }
    assert explain({**wait(), **ended}, [], NOW).endswith(sentence)
