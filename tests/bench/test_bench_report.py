"""Figures from measurements, and the ends of waits on the comparator."""

from collections.abc import Sequence

import pytest

from waitd.bench.correctness import CorrectnessReport, SubmittedWait
from waitd.bench.fleet import RequestTally
from waitd.bench.job_table import GAPS
from waitd.bench.jobs import LIES, final_answer, parse_job
from waitd.bench.machine import ProcessUsage, UsageSpan
from waitd.bench.measurement import LoadMeasurement, LoadSnapshot
from waitd.bench.profiles import Load
from waitd.bench.quantiles import bucket_quantile, cumulative, quantile
from waitd.bench.receiver import ReceivedCallbacks
from waitd.bench.report import BenchReport, Comparison, delivery_delays, detection_delays
from waitd.bench.task_per_wait import end_of

GOOD = CorrectnessReport(1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)


def gaps(*seconds: float) -> list[int]:
    counts = [0] * (len(GAPS) + 1)
    for value in seconds:
        counts[next(n for n, bound in enumerate(GAPS) if value <= bound)] += 1
    return counts


def at(time: float, cpu: float, requests: int, counts: Sequence[int], fleet_cpu: float = 0.0) -> LoadSnapshot:
    fleet = [ProcessUsage(time, fleet_cpu, 0.0, 0)]
    return LoadSnapshot(ProcessUsage(time, cpu, 0.0, 50_000), fleet, RequestTally(requests, 1, counts), 7)


def report(measured: LoadMeasurement, **more: object) -> BenchReport:
    values: dict[str, object] = {
        "load": Load(10, 1.0, 10), "machine": {}, "accepted": 10, "submitting": 0.5, "submitter_busy": 0.1, "measured": measured, "pokes_due": 100.0,
        "rss_before": 30_000, "lateness": {"p50": 0.1}, "detection": (), "prompt": (), "delivery": (), "loop_lag": 0.0,
        "scrapes": {}, "correctness": GOOD, "points": (), "local": True,
    }  # fmt: skip
    return BenchReport(**{**values, **more})  # type: ignore[arg-type]  # a test's shorthand


def test_a_measurement_is_the_difference_of_two_snapshots() -> None:
    measured = LoadMeasurement.between(at(10, 1.0, 100, gaps()), at(20, 1.5, 600, gaps(1.0, 1.0, 1.5)))
    figures = measured.as_json(1.0)
    assert (figures["pokes"], figures["pokes_per_second"], figures["cpu_ms_per_poke"]) == (500, 50.0, 1.0)
    assert figures["gap_over_interval"]["p50"] == pytest.approx(0.0, abs=0.02)
    assert figures["gap_over_interval"]["p99"] == pytest.approx(0.5, abs=0.02)
    assert report(measured).rss_per_wait == 2_000


def test_without_pokes_there_are_no_figures_per_poke() -> None:
    figures = LoadMeasurement.between(at(10, 1.0, 100, gaps()), at(20, 1.5, 100, gaps())).as_json(1.0)
    assert figures["cpu_ms_per_poke"] is None
    assert set(figures["gap_over_interval"].values()) == {None}


@pytest.mark.parametrize(("pokes", "good"), [(49, False), (50, True)])
def test_a_run_that_made_less_than_half_of_its_pokes_is_not_good(pokes: int, good: bool) -> None:
    measured = LoadMeasurement.between(at(10, 0, 0, gaps()), at(20, 1, pokes, gaps()))
    assert report(measured).good is good


@pytest.mark.parametrize(("cpu", "busy"), [(5.0, False), (9.5, True)])
def test_a_busy_fleet_is_reported_as_the_bottleneck(cpu: float, busy: bool) -> None:
    measured = LoadMeasurement.between(at(10, 0, 0, gaps()), at(20, 1, 9, gaps(), fleet_cpu=cpu))
    assert report(measured).as_json()["fleet"]["was_bottleneck"] is busy
    assert any("FLEET" in warning for warning in report(measured).warnings) is busy


def test_ratios_divide_the_comparators_figures_by_waitds() -> None:
    ours = LoadMeasurement.between(at(10, 1.0, 0, gaps()), at(20, 1.5, 500, gaps()))
    its = LoadMeasurement.between(at(10, 1.0, 0, gaps()), at(20, 3.5, 250, gaps()))
    mine = report(ours)
    ratios = Comparison("another", its, rss_before=10_000, waits=10, started=10).ratios(mine)
    assert ratios == {"cpu_per_poke": 10.0, "rss_per_wait": 2.0, "pokes_per_second": 0.5, "sockets": 1.0}
    missing = mine.with_comparison(Comparison("a third", None, note="not installed"))
    assert missing.as_json()["comparators"] == [{"name": "a third", "ran": False, "note": "not installed"}]


def test_delays_count_from_the_end_of_the_job_and_from_the_outcome() -> None:
    event = {"data": {"finished_at": "2026-01-01T00:00:10.000Z"}}
    done = 1_767_225_600.0  # 2026-01-01T00:00:00Z
    waits = [
        SubmittedWait("a", "/jobs/succeed/1/a", 80, "success"),
        SubmittedWait("b", "/jobs/slow/1/b", 80, "success"),
        SubmittedWait("c", "/jobs/endless/0/c", 5, "timeout"),
    ]
    received = {wait.id: ReceivedCallbacks(accepted=1, event=event, first_at=done + 10.5) for wait in waits}
    jobs: dict[str, dict[str, float | None]] = {
        waits[0].path: {"done_at": done + 9},
        waits[1].path: {"done_at": done + 8},
        waits[2].path: {"done_at": None},
    }
    assert detection_delays(waits, received, jobs) == [1.0, 2.0]
    assert detection_delays(waits, received, jobs, prompt_only=True) == [1.0]
    assert delivery_delays(received) == [0.5] * 3


def test_quantiles() -> None:
    assert (quantile([3, 1, 2], 0.5), quantile([], 0.5)) == (2, 0.0)
    assert bucket_quantile(cumulative((1, 2), (5, 5, 0)), 0.75) == 1.5
    assert bucket_quantile({}, 0.5) == 0.0


def test_busy_includes_the_time_kept_waiting() -> None:
    assert UsageSpan(10, 4, 5).busy == 0.9


@pytest.mark.parametrize(
    ("status", "content", "state"),
    [
        (200, final_answer(parse_job("/jobs/succeed/1/a")).partition(b"\r\n\r\n")[2], "success"),
        (200, final_answer(parse_job("/jobs/fail/1/a")).partition(b"\r\n\r\n")[2], "failed"),
        (403, b"{}", "failed"),
        (404, b"{}", None),
        (429, b"{}", None),
        (503, b"{}", None),
        *((200, lie.partition(b"\r\n\r\n")[2], None) for lie in LIES),
    ],
)
def test_the_comparator_ends_waits_by_the_same_conditions(
    status: int, content: bytes, state: str | None
) -> None:
    assert end_of(status, content) == state
