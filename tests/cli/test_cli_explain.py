"""Why a wait waits, in a sentence: each throttle has its words."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from waitd.cli.display.explain import explain
from waitd.models import RunView, WaitingOnView, WaitView

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


def at(seconds: float) -> str:
    return (NOW + timedelta(seconds=seconds)).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def wait(verdict: str = "pending", *, due: float = 20, **more: Any) -> dict[str, Any]:
    on = {
        "stage": "scheduled", "since": None, "held_up_by": None, "origin": "https://x", "origin_limit": 4,
        "origin_running": 4, "origin_held_down": False, "quiet_until": None,
    } | more.pop("on", {})  # fmt: skip
    view = {
        "id": "w", "namespace": "default", "kind": "http", "params": {"endpoint": "https://x/jobs/1"},
        "poke_interval": 30.0, "timeout": 600.0, "exponential_backoff": False, "max_wait": None, "soft_fail": False,
        "silent_fail": False, "sinks": [], "labels": {}, "supersede_key": None,
        "submit": None, "wake_on": None, "cost": None, "state": "waiting",
        "created_at": at(-300), "deadline": at(3600), "next_poke_at": at(due), "waiting_on": on,
        "last_poke_at": at(-10), "finished_at": None, "pokes": 7, "outcome": None, "deliveries": [],
        "last_verdict": {"verdict": verdict, "reason": "http_202", "message": "HTTP 202 Accepted.", "at": at(-10)},
    } | more  # fmt: skip
    WaitView.model_validate(view)
    return view


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


def test_it_says_what_was_seen_since_when_when_it_looks_again_and_what_would_end_it() -> None:
    assert explain(wait(), runs(), NOW) == (
        "Not yet: HTTP 202 Accepted, seen 7 times in 4 min 10 s, last 10 s ago. It looks again in 20 s, as it does every 30 s. "
        "It succeeds when the answer is a 2xx, fails when it is refused, and times out in 1 h."
    )


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (wait(on={"stage": "poking", "since": at(0)}), "It is being poked now."),
        (wait(on={"stage": "ending", "since": at(0)}), "Its outcome is known and on its way to disk."),
        (wait(waiting_on=None, next_poke_at=None), "The daemon has not taken it in hand yet."),
        (
            wait(on={"stage": "queued", "since": at(-5), "held_up_by": "origin_limit"}),
            "Its next poke has been due for 5 s: https://x has 4 pokes in flight and gets 4 at once.",
        ),
        (
            wait(
                on={
                    "stage": "queued",
                    "since": at(-5),
                    "held_up_by": "origin_limit",
                    "origin_held_down": True,
                }
            ),
            "https://x timed out three times in a row and gets one poke at a time until it answers.",
        ),
        (
            wait(on={"stage": "queued", "since": at(-5), "held_up_by": "unproven_origins"}),
            "https://x has not answered yet, and half of all places are taken by others like it.",
        ),
        (
            wait(on={"stage": "queued", "since": at(-5), "held_up_by": "poke_concurrency"}),
            "the daemon is overloaded, all of its poke_concurrency is in use.",
        ),
        (wait(on={"stage": "queued", "since": at(-5)}), "its turn is next."),
        (wait("unreachable", due=90, on={"quiet_until": at(90)}), "in 1 min 30 s, as the target asked by Retry-After."),
        (wait("unreachable", due=90, on={"quiet_until": at(7200)}), "as the target asked by Retry-After."),
        (wait("unreachable", due=20, on={"quiet_until": at(-5)}), "as it does every 30 s."),
        (wait("unreachable", due=110), "backed off as long as nobody answers, up to 5 min."),
        (
            wait(due=110, exponential_backoff=True, max_wait=600.0),
            "in 1 min 50 s, backed off from 30 s, up to 10 min.",
        ),
        (wait(due=110, exponential_backoff=True), "backed off from 30 s."),
        (wait(due=3600), "at its deadline, for the last time."),
        (
            wait(on={"origin_held_down": True}),
            "as it does every 30 s; https://x timed out three times in a row and gets one poke at a time until it answers.",
        ),
        (wait(deadline=at(-0.5)), "and times out now."),
        (wait(silent_fail=True), "It succeeds when the answer is a 2xx, and times out in 1 h."),
        (
            wait(params={"success_when": "status == 200", "failure_when": "status == 500"}),
            "It succeeds when status == 200, fails when status == 500 or it is refused, and",
        ),
        (
            wait(kind="s3_key", params={"bucket_key": "s3://b/k", "check": "size(files) > 1"}),
            "succeeds when s3://b/k is there and size(files) > 1, fails",
        ),
        (
            wait(kind="s3_key", params={"bucket_key": ["a", "b", "c", "d"], "bucket_name": "x"}),
            "s3://x/a, s3://x/b, s3://x/c and 1 more are all there",
        ),
        (
            wait(kind="s3_key", params={"bucket_key": "s3://b/*", "wildcard_match": True}),
            "when a key matches s3://b/*,",
        ),
        (
            wait(
                kind="s3_keys_unchanged",
                params={"bucket_name": "b", "prefix": "p/", "inactivity_period": 600, "allow_delete": False},
            ),
            "when 1 key or more below s3://b/p/ have not changed for 10 min, fails when a key is deleted or it is refused",
        ),
        (wait(kind="airbyte.job"), "when its airbyte.job is done, fails when it says that it failed"),
    ],
)  # fmt: skip
def test_each_reason_to_wait_has_its_words(found: dict[str, Any], words: str) -> None:
    assert words in explain(found, runs(), NOW)


def test_what_no_answer_is_and_what_was_not_seen_yet_is_said() -> None:
    assert explain(wait("unreachable"), runs("unreachable", 1), NOW).startswith(
        "No answer that counts: HTTP 202 Accepted, seen 10 s ago."
    )
    assert explain(wait(last_verdict=None, last_poke_at=None), [], NOW).startswith(
        "It has not been poked yet."
    )


def test_an_ended_wait_tells_how_it_ended_and_what_is_still_to_be_delivered() -> None:
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
        "It ended 1 min ago as failed: The job failed. Its outcome is still to be delivered. "
        "Given up on: 1 of its deliveries; `waitd redeliver` sends the event anew."
    )


def test_the_views_words_are_those_that_the_explanation_knows() -> None:
    from typing import get_args

    fields = WaitingOnView.model_fields
    assert set(get_args(fields["stage"].annotation)) == {"scheduled", "queued", "poking", "ending"}


def job(state: str, **more: Any) -> dict[str, Any]:
    return {
        "state": state, "handle": None, "adopted": False, "attempts": 0, "last_error": None, "cancel": None, "request": {},
    } | more  # fmt: skip


@pytest.mark.parametrize(
    ("submit", "said"),
    [
        (job("pending"), "Its job is not submitted yet. It has not been poked yet."),
        (job("pending", attempts=3), "Its job is not submitted yet after 3 submitting calls."),
        (job("submitting", attempts=1), "There may be a job already: 1 submitting call made"),
        (job("submitted", handle={"job_id": 7}), "Its job is submitted: job_id 7."),
        (job("submitted", handle="x", adopted=True), "It waits for the job x, which was running already."),
    ],
)
def test_it_tells_of_the_job_that_the_wait_submits(submit: dict[str, Any], said: str) -> None:
    assert said in explain({**wait(), "submit": submit}, [], NOW)


@pytest.mark.parametrize(
    ("state", "error", "said"),
    [
        ("pending", "HTTP 503", "Its job is still to be cancelled: HTTP 503."),
        ("cancelled", None, "Its job is cancelled."),
        ("unneeded", None, "There was no job to cancel."),
        ("failed", "HTTP 403", "Its job could not be cancelled: HTTP 403."),
        ("unknown", None, "Nobody can say whether there is a job to cancel."),
    ],
)
def test_and_what_becomes_of_it_after_the_end(state: str, error: str | None, said: str) -> None:
    cancel = {"state": state, "attempts": 1, "last_error": error, "next_attempt_at": None}
    outcome = {"state": "cancelled", "message": "", "reason": "cancelled", "payload": None}
    ended = {
        "state": "cancelled",
        "outcome": outcome,
        "finished_at": at(-5),
        "submit": job("submitted", cancel=cancel),
    }
    assert explain({**wait(), **ended}, [], NOW).endswith(said)
