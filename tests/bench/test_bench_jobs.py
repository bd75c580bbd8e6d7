import math
import statistics

import orjson
import pytest

from waitd.bench.job_server import GAPS, JobTable
from waitd.bench.jobs import (
    BEHAVIOURS,
    LATEST,
    LIES,
    Fault,
    Latency,
    expected_state,
    final_answer,
    job_of,
    path_of,
)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_path_names_its_job_and_the_job_its_path(name: str) -> None:
    job = job_of(path_of(name, 3.5, "job-1"))
    assert (job.behaviour, job.seconds, job.id) == (BEHAVIOURS[name], 3.5, "job-1")


@pytest.mark.parametrize(
    "path", ["/", "/jobs/succeed/1", "/jobs/nonsense/1/a", "/jobs/succeed/soon/a", "/jobs/succeed/1/", "/x/y"]
)
def test_other_paths_name_no_job(path: str) -> None:
    with pytest.raises(ValueError, match=r"job|convert"):
        job_of(path)


@pytest.mark.parametrize(
    ("path", "timeout", "state"),
    [
        ("/jobs/succeed/3/a", 10, "success"),
        ("/jobs/succeed/30/a", 10, "timeout"),
        ("/jobs/fail/3/a", 10, "failed"),
        ("/jobs/endless/3/a", 10, "timeout"),
        ("/jobs/dead/0/a", 10, "timeout"),
        ("/jobs/hangs/3/a", 10, "success"),
    ],
)
def test_what_a_wait_must_end_as_follows_from_the_path_and_its_timeout(
    path: str, timeout: float, state: str
) -> None:
    assert expected_state(job_of(path), timeout) == state


@pytest.mark.parametrize("name", [name for name, behaviour in BEHAVIOURS.items() if behaviour.ends])
def test_every_job_with_an_end_gets_to_tell_it(name: str) -> None:
    now = 0.0
    fleet = JobTable(lambda: now, lambda: 1000.0 + now)
    path = path_of(name, 5, "a").encode()
    before = [fleet.look(path) for _ in range(10)]
    now = 5.0
    after = [fleet.look(path) for _ in range(10)]
    final = final_answer(job_of(path.decode()))
    broken = {*Fault} - {Fault.SLOW}
    assert all(content != final for content, _ in before)
    assert any(content == final and fate not in broken for content, fate in after)
    assert fleet.report()["jobs"][path.decode()] == {
        "requests": 20,
        "age": 5.0,
        "asked_for": 5.0,
        "told": True,
        "done_at": 1005.0,
    }


def test_a_job_is_not_told_by_an_answer_that_never_arrives_whole() -> None:
    fleet = JobTable(lambda: 0.0)
    _, trouble = fleet.look(b"/jobs/resets/0/a")
    assert trouble is Fault.RESETS
    assert fleet.report()["jobs"]["/jobs/resets/0/a"]["told"] is False


def test_a_jobs_time_starts_with_the_first_request_that_names_it() -> None:
    now = 100.0
    fleet = JobTable(lambda: now)
    fleet.look(b"/jobs/succeed/5/a")
    now = 104.9
    fleet.look(b"/jobs/succeed/5/b")
    assert b"RUNNING" in fleet.look(b"/jobs/succeed/5/a")[0]
    now = 105.0
    assert b"SUCCEEDED" in fleet.look(b"/jobs/succeed/5/a")[0]
    assert b"RUNNING" in fleet.look(b"/jobs/succeed/5/b")[0]


def test_the_end_names_its_job() -> None:
    head, _, body = final_answer(job_of("/jobs/fail/1/job-7")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert orjson.loads(body) == {"status": "FAILED", "job": "job-7"}


def test_latencies_are_log_normal_and_the_same_in_every_run() -> None:
    latency = Latency(0.02, 1.0)
    seconds = [latency.seconds(f"job-{n}", n % 7) for n in range(2000)]
    assert seconds == [latency.seconds(f"job-{n}", n % 7) for n in range(2000)]
    assert statistics.median(seconds) == pytest.approx(0.02, rel=0.15)
    assert statistics.stdev(map(math.log, seconds)) == pytest.approx(1.0, rel=0.15)
    assert max(latency.seconds(f"job-{n}", 1) for n in range(20_000)) <= LATEST


def test_an_outage_is_over_after_its_time_and_when_the_job_is_done() -> None:
    clock = iter(range(21))
    fleet = JobTable(lambda: next(clock))
    seen = [int(fleet.look(b"/jobs/outages/20/a")[0][9:12]) for _ in range(21)]
    assert seen == [*[202] * 6, 503] * 2 + [*[202] * 6, 200]


def test_no_lie_says_that_its_job_succeeded() -> None:
    for lie in LIES:
        head, _, body = lie.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert int(head.partition(b"Content-Length: ")[2]) == len(body)
        try:
            said = orjson.loads(body)
        except orjson.JSONDecodeError:
            continue
        assert said.get("status") != "SUCCEEDED"


def test_a_liar_tells_all_of_them_and_then_the_truth() -> None:
    now = 0.0
    fleet = JobTable(lambda: now)
    assert {fleet.look(b"/jobs/lies/5/a")[0] for _ in range(len(LIES))} == set(LIES)
    assert fleet.report()["jobs"]["/jobs/lies/5/a"]["told"] is False
    now = 5.0
    assert fleet.look(b"/jobs/lies/5/a")[0] == final_answer(job_of("/jobs/lies/5/a"))


def test_gaps_are_noted_of_jobs_that_answer_at_once_and_of_no_others() -> None:
    paths = (b"/jobs/endless/0/a", b"/jobs/latent/0/b", b"/jobs/resets/0/c")
    clock = iter([0.0] * 3 + [2.0] * 3 + [4.5] * 3)
    fleet = JobTable(lambda: next(clock))
    for path in paths * 3:
        fleet.look(path)
    tally = fleet.tally()
    noted = [bound for bound, count in zip(GAPS, tally["gaps"], strict=False) if count]
    assert (tally["requests"], tally["jobs"], sum(tally["gaps"])) == (9, 3, 2)
    assert noted == [pytest.approx(2.0, rel=0.01), pytest.approx(2.5, rel=0.01)]
