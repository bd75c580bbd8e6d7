import math
import statistics

import orjson
import pytest

from waitd.bench.job_table import GAPS, JobTable
from waitd.bench.jobs import (
    BEHAVIOURS,
    LIES,
    MAX_LATENCY,
    Fault,
    Latency,
    expected_state,
    final_answer,
    job_path,
    parse_job,
)


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_path_names_its_job_and_the_job_its_path(name: str) -> None:
    job = parse_job(job_path(name, 3.5, "job-1"))
    assert (job.behaviour, job.seconds, job.id) == (BEHAVIOURS[name], 3.5, "job-1")


@pytest.mark.parametrize(
    "path", ["/", "/jobs/succeed/1", "/jobs/nonsense/1/a", "/jobs/succeed/soon/a", "/jobs/succeed/1/", "/x/y"]
)
def test_other_paths_are_refused(path: str) -> None:
    with pytest.raises(ValueError, match=r"job|convert"):
        parse_job(path)


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
def test_the_expected_state_follows_from_path_and_timeout(path: str, timeout: float, state: str) -> None:
    assert expected_state(parse_job(path), timeout) == state


@pytest.mark.parametrize("name", [name for name, behaviour in BEHAVIOURS.items() if behaviour.ends])
def test_every_job_with_an_end_reports_it(name: str) -> None:
    now = 0.0
    table = JobTable(lambda: now, lambda: 1000.0 + now)
    path = job_path(name, 5, "a").encode()
    before = [table.answer(path) for _ in range(10)]
    now = 5.0
    after = [table.answer(path) for _ in range(10)]
    final = final_answer(parse_job(path.decode()))
    incomplete = {*Fault} - {Fault.SLOW}
    assert all(content != final for content, _ in before)
    assert any(content == final and disturbance not in incomplete for content, disturbance in after)
    assert table.report()["jobs"][path.decode()] == {
        "requests": 20,
        "age": 5.0,
        "polled_for": 5.0,
        "reported": True,
        "done_at": 1005.0,
    }


def test_an_incomplete_answer_does_not_report_the_end() -> None:
    table = JobTable(lambda: 0.0)
    _, disturbance = table.answer(b"/jobs/resets/0/a")
    assert disturbance is Fault.RESETS
    assert table.report()["jobs"]["/jobs/resets/0/a"]["reported"] is False


def test_a_job_starts_with_its_first_request() -> None:
    now = 100.0
    table = JobTable(lambda: now)
    table.answer(b"/jobs/succeed/5/a")
    now = 104.9
    table.answer(b"/jobs/succeed/5/b")
    assert b"RUNNING" in table.answer(b"/jobs/succeed/5/a")[0]
    now = 105.0
    assert b"SUCCEEDED" in table.answer(b"/jobs/succeed/5/a")[0]
    assert b"RUNNING" in table.answer(b"/jobs/succeed/5/b")[0]


def test_the_final_answer_contains_the_job() -> None:
    head, _, body = final_answer(parse_job("/jobs/fail/1/job-7")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert orjson.loads(body) == {"status": "FAILED", "job": "job-7"}


def test_latencies_are_log_normal_and_the_same_in_every_run() -> None:
    latency = Latency(0.02, 1.0)
    seconds = [latency.seconds(f"job-{n}", n % 7) for n in range(2000)]
    assert seconds == [latency.seconds(f"job-{n}", n % 7) for n in range(2000)]
    assert statistics.median(seconds) == pytest.approx(0.02, rel=0.15)
    assert statistics.stdev(map(math.log, seconds)) == pytest.approx(1.0, rel=0.15)
    assert max(latency.seconds(f"job-{n}", 1) for n in range(20_000)) <= MAX_LATENCY


def test_an_outage_ends_after_its_time_and_with_the_job() -> None:
    clock = iter(range(21))
    table = JobTable(lambda: next(clock))
    statuses = [int(table.answer(b"/jobs/outages/20/a")[0][9:12]) for _ in range(21)]
    assert statuses == [*[202] * 6, 503] * 2 + [*[202] * 6, 200]


def test_no_lie_says_that_its_job_succeeded() -> None:
    for lie in LIES:
        head, _, body = lie.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert int(head.partition(b"Content-Length: ")[2]) == len(body)
        try:
            body_json = orjson.loads(body)
        except orjson.JSONDecodeError:
            continue
        assert body_json.get("status") != "SUCCEEDED"


def test_a_lying_job_gives_every_lie_and_then_the_true_end() -> None:
    now = 0.0
    table = JobTable(lambda: now)
    assert {table.answer(b"/jobs/lies/5/a")[0] for _ in range(len(LIES))} == set(LIES)
    assert table.report()["jobs"]["/jobs/lies/5/a"]["reported"] is False
    now = 5.0
    assert table.answer(b"/jobs/lies/5/a")[0] == final_answer(parse_job("/jobs/lies/5/a"))


def test_gaps_are_counted_only_for_plain_jobs() -> None:
    paths = (b"/jobs/endless/0/a", b"/jobs/latent/0/b", b"/jobs/resets/0/c")
    clock = iter([0.0] * 3 + [2.0] * 3 + [4.5] * 3)
    table = JobTable(lambda: next(clock))
    for path in paths * 3:
        table.answer(path)
    tally = table.tally()
    counted = [bound for bound, count in zip(GAPS, tally["gaps"], strict=False) if count]
    assert (tally["requests"], tally["jobs"], sum(tally["gaps"])) == (9, 3, 2)
    assert counted == [pytest.approx(2.0, rel=0.01), pytest.approx(2.5, rel=0.01)]
