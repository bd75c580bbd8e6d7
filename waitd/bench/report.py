"""The figures of a run of `waitd bench`. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from waitd.bench.correctness import CorrectnessReport, SubmittedWait
from waitd.bench.jobs import parse_job
from waitd.bench.measurement import BUSY, QUANTILES, LoadMeasurement
from waitd.bench.profiles import Load
from waitd.bench.quantiles import quantile
from waitd.bench.receiver import ReceivedCallbacks
from waitd.bench.sampler import LoadPoint


@dataclass(frozen=True, slots=True)
class BenchReport:
    """One run. Times in seconds, memory in bytes.

    Attributes:
        load: the load.
        machine: facts about the machine.
        accepted: the number of waits that the daemon accepted.
        submitting: how long that took.
        submitter_busy: how busy this process was meanwhile, 0 to 1.
        measured: what the daemon did while all waits were held.
        pokes_due: the pokes that the load asks for meanwhile.
        rss_before: memory of the daemon before the first submit.
        lateness: quantiles of the daemon's own histogram of poke lateness.
        detection: delays from the end of a job to its stored outcome.
        prompt: the same, of jobs that always answer at once.
        delivery: delays from the stored outcome to the arrival of the callback.
        loop_lag: the longest event loop lag of the daemon.
        scrapes: the cost of scraping it.
        correctness: whether every wait ended as it must.
        points: the figures over time.
        local: whether the daemon is a child process; of any other, use of its core by others is
            unknown.
        comparators: the same load on other systems.
    """

    load: Load
    machine: Mapping[str, Any]
    accepted: int
    submitting: float
    submitter_busy: float
    measured: LoadMeasurement
    pokes_due: float
    rss_before: int
    lateness: Mapping[str, float]
    detection: Sequence[float]
    prompt: Sequence[float]
    delivery: Sequence[float]
    loop_lag: float
    scrapes: Mapping[str, Any]
    correctness: CorrectnessReport
    points: Sequence[LoadPoint]
    local: bool
    comparators: "Sequence[Comparison]" = ()

    def with_comparison(self, comparison: "Comparison") -> "BenchReport":
        """This report with one more comparison."""
        return replace(self, comparators=(*self.comparators, comparison))

    @property
    def load_was_made(self) -> bool:
        """Whether at least half of the pokes were made; else the figures mean little."""
        return self.measured.requests >= self.pokes_due / 2

    @property
    def good(self) -> bool:
        """Whether the load was made and every outcome is correct."""
        return self.load_was_made and self.correctness.good

    @property
    def rss_per_wait(self) -> float:
        """Bytes by which the daemon grew per wait."""
        return (self.measured.rss - self.rss_before) / max(self.accepted, 1)

    def as_json(self) -> dict[str, Any]:
        """All figures, for JSON."""
        return {
            "load": {**self.load._asdict(), "kind": self.load.kind.value},
            "machine": dict(self.machine),
            "accepted": {
                "waits": self.accepted,
                "seconds": self.submitting,
                "per_second": self.accepted / self.submitting if self.submitting else None,
                "submitter_busy": self.submitter_busy,
            },
            "waitd": {
                **self.measured.as_json(self.load.poke_interval),
                **({} if self.local else {"kept_waiting": None}),
                "pokes_due": self.pokes_due,
                "load_was_made": self.load_was_made,
                "rss_per_wait": self.rss_per_wait,
                "lateness": dict(self.lateness),
                "detection": spread(self.detection),
                "detection_prompt": spread(self.prompt),
                "delivery": spread(self.delivery),
                "loop_lag_max": self.loop_lag,
            },
            "fleet": {
                "processes": [
                    {"cpu_seconds": span.cpu, "kept_waiting": span.kept_waiting, "busy": span.busy}
                    for span in self.measured.fleet
                ],
                "was_bottleneck": self.measured.fleet_was_busy,
            },
            "scrapes": dict(self.scrapes),
            "correctness": self.correctness.as_json(),
            "points": [point._asdict() for point in self.points],
            "comparators": [comparison.as_json(self) for comparison in self.comparators],
        }

    @property
    def warnings(self) -> Sequence[str]:
        """Reasons to distrust the figures, a sentence each."""
        warnings = []
        if self.measured.fleet_was_busy:
            busiest = max(span.busy for span in self.measured.fleet)
            warnings.append(
                f"The FLEET was the bottleneck ({busiest:.0%} busy): use more cores and --fleet-processes."
            )
        if self.measured.requests < self.load.waits:
            warnings.append("Less than one poke per wait was measured: use a longer --duration.")
        if self.submitter_busy > BUSY:
            warnings.append("This program was the bottleneck while it submitted the waits.")
        if self.local and self.measured.system.kept_waiting > 0.1 * self.measured.system.wall:
            share = self.measured.system.kept_waiting / self.measured.system.wall
            warnings.append(
                f"Other programs kept the daemon waiting for its core {share:.0%} of the time: trust only CPU time and ratios."
            )
        return warnings


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same load on another system.

    Attributes:
        name: the system's name, for people.
        measured: what it did while all waits were held; None: it did not run.
        rss_before: memory of its processes before the first wait, bytes.
        waits: the number of waits.
        started: those that made their first poke.
        wrong: waits that ended in another state than they must.
        lost: waits that did not end.
        detection: delays from the end of a job until the system knew it, seconds.
        note: a remark; why it did not run.
    """

    name: str
    measured: LoadMeasurement | None
    rss_before: int = 0
    waits: int = 0
    started: int = 0
    wrong: int = 0
    lost: int = 0
    detection: Sequence[float] = ()
    note: str = ""

    @property
    def rss_per_wait(self) -> float:
        """Bytes by which its processes grew per wait."""
        return (self.measured.rss - self.rss_before) / max(self.started, 1) if self.measured else 0.0

    def as_json(self, report: BenchReport) -> dict[str, Any]:
        """All figures, and their ratios to waitd's."""
        if self.measured is None:
            return {"name": self.name, "ran": False, "note": self.note}
        interval = report.load.poke_interval
        return {
            "name": self.name,
            "ran": True,
            **self.measured.as_json(interval),
            "rss_per_wait": self.rss_per_wait,
            "waits": self.waits,
            "started": self.started,
            "wrong": self.wrong,
            "lost": self.lost,
            "detection": spread(self.detection),
            "note": self.note,
            "ratios": self.ratios(report),
        }

    def ratios(self, report: BenchReport) -> dict[str, float | None]:
        """Its figures divided by waitd's; None where one of them is missing."""
        if self.measured is None:
            return {}
        waitd_json, own_json = (
            m.as_json(report.load.poke_interval) for m in (report.measured, self.measured)
        )
        pairs = {
            "cpu_per_poke": (own_json["cpu_ms_per_poke"], waitd_json["cpu_ms_per_poke"]),
            "rss_per_wait": (self.rss_per_wait, report.rss_per_wait),
            "pokes_per_second": (own_json["pokes_per_second"], waitd_json["pokes_per_second"]),
            "sockets": (own_json["sockets"], waitd_json["sockets"]),
        }
        return {
            name: a / b if a is not None and b is not None and b > 0 else None
            for name, (a, b) in pairs.items()
        }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """The number of values and their quantiles."""
    return {
        "count": len(values),
        **{name: quantile(values, q) if values else None for name, q in QUANTILES.items()},
    }


def detection_delays(
    submitted: Sequence[SubmittedWait],
    received: Mapping[str, ReceivedCallbacks],
    jobs: Mapping[str, Mapping[str, Any]],
    *,
    prompt_only: bool = False,
) -> Sequence[float]:
    """Seconds from the end of each job to the stored outcome of its wait."""
    delays = []
    for wait in submitted:
        event = received[wait.id].event if wait.id in received else None
        done_at = jobs.get(wait.path, {}).get("done_at")
        if event is None or done_at is None or wait.expected == "timeout":
            continue
        if not prompt_only or parse_job(wait.path).behaviour.plain:
            delays.append(_finished_at(event) - done_at)
    return delays


def delivery_delays(received: Mapping[str, ReceivedCallbacks]) -> Sequence[float]:
    """Seconds from each stored outcome to the arrival of its callback."""
    return [c.first_at - _finished_at(c.event) for c in received.values() if c.event and c.first_at]


def _finished_at(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["data"]["finished_at"]).timestamp()
