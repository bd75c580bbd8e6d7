from collections import Counter
from dataclasses import replace
from typing import Any

import pytest

from waitd.bench.children import JobServer
from waitd.bench.correctness import CorrectnessReport, SubmittedWait, check_outcomes, submitted_wait
from waitd.bench.demo import AMPLE_TIMEOUT, JOB_SECONDS, MIX, QUIET_SECONDS, S3_MIX, waits
from waitd.bench.jobs import BEHAVIOURS, parse_job
from waitd.bench.receiver import ReceivedCallbacks
from waitd.bench.s3 import PART_EVERY
from waitd.models import BatchLine, parse_wait

PATH = "/jobs/succeed/1/job-1"
WAIT = SubmittedWait("w1", PATH, 80.0, "success")


def callbacks(
    state: str = "success", payload: Any = None, finished_at: str = "2026-01-01T00:00:10.000Z"
) -> ReceivedCallbacks:
    data = {"state": state, "payload": payload, "message": "", "reason": "", "finished_at": finished_at}
    return ReceivedCallbacks(accepted=1, digests={b"x"}, event={"data": data})


GOOD = callbacks(payload={"job": "job-1"})


def stored(state: str = "success") -> dict[str, Any]:
    return {"id": "w1", "state": state, "deadline": "2026-01-01T00:00:09.000Z"}


def check(
    wait: SubmittedWait = WAIT,
    received: ReceivedCallbacks | None = GOOD,
    state: str = "success",
    reported: bool = True,
    code: int = 0,
) -> CorrectnessReport:
    return check_outcomes(
        [wait],
        [stored(state)],
        {"w1": received} if received else {},
        {PATH} if reported else set(),
        daemon_exit_code=code,
    )


def test_an_outcome_that_matches_its_job_is_good() -> None:
    assert check().good
    assert (check().succeeded, check().delivered) == (1, 1)


@pytest.mark.parametrize(
    "report",
    [
        check(received=None),
        check(received=ReceivedCallbacks(accepted=0, refused=1)),
        check(state="waiting"),
        check(wait=WAIT._replace(id="")),
    ],
)
def test_a_missing_outcome_is_lost(report: CorrectnessReport) -> None:
    assert (report.lost, report.good) == (1, False)


TIMEOUT = WAIT._replace(expected="timeout")


@pytest.mark.parametrize(
    ("report", "words"),
    [
        (check(received=callbacks("failed"), state="failed"), "must be success"),
        (check(state="timeout"), "is stored as timeout"),
        (check(reported=False), "never reported"),
        (check(received=callbacks(payload={"job": "job-2"})), "another job"),
        (
            check(TIMEOUT, callbacks("timeout", finished_at="2026-01-01T00:00:08.999Z"), "timeout"),
            "before its deadline",
        ),
    ],
)
def test_an_outcome_that_contradicts_the_job_server_is_wrong(report: CorrectnessReport, words: str) -> None:
    assert (report.wrong, report.lost, report.good) == (1, 0, False)
    assert words in report.complaints[0]


def test_a_timeout_at_its_deadline_needs_no_report() -> None:
    assert check(TIMEOUT, callbacks("timeout"), "timeout", reported=False).good


def test_repeated_delivery_is_good_but_changed_unsigned_or_a_bad_exit_is_not() -> None:
    twice = check(received=replace(GOOD, accepted=2))
    assert (twice.delivered_twice, twice.good) == (1, True)
    assert not check(received=replace(GOOD, digests={b"x", b"y"})).good
    assert not check(received=replace(GOOD, badly_signed=1)).good
    assert not check(code=1).good


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
def test_the_payload_of_a_wait_on_keys_must_be_its_own_jobs(kind: str, payload: Any, good: bool) -> None:
    assert check(WAIT._replace(kind=kind), callbacks(payload=payload)).good is good


@pytest.mark.parametrize("s3", [[], ["http://127.0.0.1:4999"]])
def test_the_demos_waits_are_valid_and_distinct_and_no_race_decides_their_end(s3: list[str]) -> None:
    server = JobServer(0, [f"http://127.0.0.1:{4000 + n}" for n in range(len(MIX))], s3)
    bodies = waits(server, "http://127.0.0.1:5000/callback", 300)
    submitted = [submitted_wait(body, {"id": "w"}) for body in bodies]
    for body, wait in zip(bodies, submitted, strict=True):
        parse_wait(body, BatchLine)
        job = parse_job(wait.path)
        if job.behaviour.ends is None:
            assert body["timeout"] <= JOB_SECONDS[1]
        else:
            assert body["timeout"] == AMPLE_TIMEOUT > 3 * (job.seconds + QUIET_SECONDS)
    assert len({wait.path for wait in submitted}) == len({body["idempotency_key"] for body in bodies}) == 300
    assert {wait.expected for wait in submitted} == {"success", "failed", "timeout"}
    kinds = Counter(wait.kind for wait in submitted)
    assert kinds == ({"http": 240, "s3_key": 54, "s3_keys_unchanged": 6} if s3 else {"http": 300})
    assert set(MIX) == {body["labels"]["behaviour"] for body in bodies}


def test_the_mix_has_a_hundred_waits_and_only_ended_jobs_are_quiet() -> None:
    assert sum(MIX.values()) == 100
    assert set(MIX) | {behaviour for _, behaviour in S3_MIX} <= set(BEHAVIOURS)
    assert sum(S3_MIX.values()) < MIX["succeed"]
    assert QUIET_SECONDS > 2 * PART_EVERY
