from dataclasses import replace
from typing import Any

import pytest

from waitd.bench.account import Account, Submitted, account_of
from waitd.bench.demo import AMPLE_TIMEOUT, JOB_SECONDS, MIX, waits
from waitd.bench.jobs import BEHAVIOURS, expected_state, job_of
from waitd.bench.receiver import Heard
from waitd.models import BatchLine, parsed

PATH = "/jobs/succeed/1/job-1"
WAIT = Submitted("w1", PATH, 80.0, "success")


def heard(
    state: str = "success", payload: Any = None, finished_at: str = "2026-01-01T00:00:10.000Z"
) -> Heard:
    data = {"state": state, "payload": payload, "message": "", "reason": "", "finished_at": finished_at}
    return Heard(accepted=1, digests={b"x"}, event={"data": data})


GOOD = heard(payload={"job": "job-1"})


def stored(state: str = "success") -> dict[str, Any]:
    return {"id": "w1", "state": state, "deadline": "2026-01-01T00:00:09.000Z"}


def account(
    wait: Submitted = WAIT,
    heard: Heard | None = GOOD,
    state: str = "success",
    told: bool = True,
    code: int = 0,
) -> Account:
    return account_of(
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
        account(heard=Heard(accepted=0, refused=1)),
        account(state="waiting"),
        account(wait=WAIT._replace(id="")),
    ],
)
def test_an_outcome_that_never_came_is_lost(found: Account) -> None:
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
def test_an_outcome_that_the_job_server_did_not_say_is_wrong(found: Account, words: str) -> None:
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


def test_the_demos_waits_are_valid_distinct_and_have_an_end_that_no_race_decides() -> None:
    bodies = waits(
        [f"http://127.0.0.1:{4000 + n}" for n in range(len(MIX))], "http://127.0.0.1:5000/callback", 300
    )
    jobs = [job_of(body["params"]["endpoint"].split(":", 2)[2][4:]) for body in bodies]
    for body, job in zip(bodies, jobs, strict=True):
        parsed(BatchLine, body)
        if job.behaviour.ends is None:
            assert body["timeout"] <= JOB_SECONDS[1]
        else:
            assert body["timeout"] == AMPLE_TIMEOUT > 3 * job.seconds
    assert (
        len({body["params"]["endpoint"] for body in bodies})
        == len({body["idempotency_key"] for body in bodies})
        == 300
    )
    assert {expected_state(job, body["timeout"]) for body, job in zip(bodies, jobs, strict=True)} == {
        "success",
        "failed",
        "timeout",
    }
    assert sum(MIX.values()) == 100
    assert set(MIX) <= set(BEHAVIOURS)
