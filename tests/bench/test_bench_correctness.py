from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from waitd.bench.correctness import CorrectnessReport, SubmittedWait, check_outcomes, submitted_wait
from waitd.bench.demo import AMPLE_TIMEOUT, JOB_SECONDS, MIX, QUIET_SECONDS, S3_MIX, waits
from waitd.bench.job_server import JobServerUrls
from waitd.bench.jobs import BEHAVIOURS, job_of
from waitd.bench.receiver import ReceivedCallbacks
from waitd.bench.s3 import PART_EVERY
from waitd.models import BatchLine, parsed_wait

PATH = "/jobs/succeed/1/job-1"
WAIT = SubmittedWait("w1", PATH, 80.0, "success")


def heard(
    state: str = "success", payload: Any = None, finished_at: str = "2026-01-01T00:00:10.000Z"
) -> ReceivedCallbacks:
    data = {"state": state, "payload": payload, "message": "", "reason": "", "finished_at": finished_at}
    return ReceivedCallbacks(accepted=1, digests={b"x"}, event={"data": data})


GOOD = heard(payload={"job": "job-1"})


def stored(state: str = "success") -> dict[str, Any]:
    return {"id": "w1", "state": state, "deadline": "2026-01-01T00:00:09.000Z"}


def account(
    wait: SubmittedWait = WAIT,
    heard: ReceivedCallbacks | None = GOOD,
    state: str = "success",
    told: bool = True,
    code: int = 0,
) -> CorrectnessReport:
    return check_outcomes(
        [wait],
        [stored(state)],
        {"w1": heard} if heard else {},
        {PATH} if told else set(),
        daemon_exit_code=code,
    )


def test_a_wait_that_ended_as_its_job_did_is_good() -> None:
    assert account().good
    assert (account().succeeded, account().delivered) == (1, 1)


@pytest.mark.parametrize(
    "found",
    [
        account(heard=None),
        account(heard=ReceivedCallbacks(accepted=0, refused=1)),
        account(state="waiting"),
        account(wait=WAIT._replace(id="")),
    ],
)
def test_an_outcome_that_never_came_is_lost(found: CorrectnessReport) -> None:
    assert (found.lost, found.good) == (1, False)


TIMEOUT = WAIT._replace(expected="timeout")


@pytest.mark.parametrize(
    ("found", "words"),
    [
        (account(heard=heard("failed"), state="failed"), "must be success"),
        (account(state="timeout"), "is stored as timeout"),
        (account(told=False), "never told"),
        (account(heard=heard(payload={"job": "job-2"})), "another job"),
        (
            account(TIMEOUT, heard("timeout", finished_at="2026-01-01T00:00:08.999Z"), "timeout"),
            "before its deadline",
        ),
    ],
)
def test_an_outcome_that_the_job_server_did_not_say_is_wrong(found: CorrectnessReport, words: str) -> None:
    assert (found.wrong, found.lost, found.good) == (1, 0, False)
    assert words in found.complaints[0]


def test_a_timeout_at_its_deadline_needs_nobodys_word() -> None:
    assert account(TIMEOUT, heard("timeout"), "timeout", told=False).good


def test_twice_is_allowed_but_changed_unsigned_or_a_bad_exit_is_not() -> None:
    twice = account(heard=replace(GOOD, accepted=2))
    assert (twice.delivered_twice, twice.good) == (1, True)
    assert not account(heard=replace(GOOD, digests={b"x", b"y"})).good
    assert not account(heard=replace(GOOD, badly_signed=1)).good
    assert not account(code=1).good


@pytest.mark.parametrize(
    ("kind", "payload", "good"),
    [
        ("s3_key", [{"Key": "jobs/succeed/1/job-1/_SUCCESS", "Size": 0}], True),
        ("s3_key", [{"Key": "jobs/succeed/1/job-11/_SUCCESS", "Size": 0}], False),
        ("s3_key", [], False),
        ("s3_keys_unchanged", {"objects": 4}, True),
        ("s3_keys_unchanged", {"objects": 3}, False),
        ("s3_keys_unchanged", None, False),
    ],
)
def test_a_wait_on_keys_must_show_what_its_own_job_wrote_and_all_of_it(
    kind: str, payload: Any, good: bool
) -> None:
    assert account(WAIT._replace(kind=kind), heard(payload=payload)).good is good


@pytest.mark.parametrize("s3", [[], ["http://127.0.0.1:4999"]])
def test_the_demos_waits_are_valid_distinct_and_have_an_end_that_no_race_decides(s3: list[str]) -> None:
    servers = JobServerUrls([f"http://127.0.0.1:{4000 + n}" for n in range(len(MIX))], s3)
    bodies = waits(servers, "http://127.0.0.1:5000/callback", 300)
    submitted = [submitted_wait(body, {"id": "w"}) for body in bodies]
    for body, wait in zip(bodies, submitted, strict=True):
        parsed_wait(body, BatchLine)
        job = job_of(wait.path)
        if job.behaviour.ends is None:
            assert body["timeout"] <= JOB_SECONDS[1]
        else:
            assert body["timeout"] == AMPLE_TIMEOUT > 3 * (job.seconds + QUIET_SECONDS)
    assert len({wait.path for wait in submitted}) == len({body["idempotency_key"] for body in bodies}) == 300
    assert {wait.expected for wait in submitted} == {"success", "failed", "timeout"}
    kinds = Counter(wait.kind for wait in submitted)
    assert kinds == ({"http": 240, "s3_key": 54, "s3_keys_unchanged": 6} if s3 else {"http": 300})
    assert set(MIX) == {body["labels"]["behaviour"] for body in bodies}


def test_the_mix_is_a_hundred_known_behaviours_and_a_quiet_job_is_a_done_one() -> None:
    assert sum(MIX.values()) == 100
    assert set(MIX) | {behaviour for _, behaviour in S3_MIX} <= set(BEHAVIOURS)
    assert sum(S3_MIX.values()) < MIX["succeed"]
    assert QUIET_SECONDS > 2 * PART_EVERY
