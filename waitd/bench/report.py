"""What a run of `waitd bench` found, as figures. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from waitd.bench.correctness import CorrectnessReport, SubmittedWait
from waitd.bench.jobs import job_of
from waitd.bench.measurement import BUSY, QUANTILES, LoadMeasurement
from waitd.bench.profiles import Load
from waitd.bench.quantiles import quantile
from waitd.bench.receiver import ReceivedCallbacks
from waitd.bench.sampler import LoadPoint


@dataclass(frozen=True, slots=True)
class BenchReport:
    """One run. Times in seconds, memory in bytes.

    Attributes:
        load: what was held.
        machine: where.
        taken, submitting: how many waits the daemon accepted, and how long that took; `submitter_busy`: whether we were the slow ones.
        seen: of the daemon, while all were held.
        rss_before: of the daemon before the first submit.
        lateness: quantiles of the daemon's own histogram.
        detection: from the moment when a target was done to its outcome being stored; `prompt`: of targets that always answer at once.
        delivery: from there to the callback's arrival.
        loop_lag: the longest pause of the daemon's loop.
        scrapes: what looking at it took.
        account: what must be right.
        points: what happened over time.
        local: whether the daemon was ours to look at; of one that runs elsewhere, others' use of its core is not known.
        comparators: the same load on others.
    """

    load: Load
    machine: Mapping[str, Any]
    taken: int
    submitting: float
    submitter_busy: float
    seen: LoadMeasurement
    rss_before: int
    lateness: Mapping[str, float]
    detection: Sequence[float]
    prompt: Sequence[float]
    delivery: Sequence[float]
    loop_lag: float
    scrapes: Mapping[str, Any]
    account: CorrectnessReport
    points: Sequence[LoadPoint]
    local: bool
    comparators: "Sequence[Comparison]" = ()

    def with_comparison(self, comparison: "Comparison") -> "BenchReport":
        """The same, and what the load was like on something else."""
        return replace(self, comparators=(*self.comparators, comparison))

    @property
    def rss_per_wait(self) -> float:
        """How much bigger the daemon was for each wait."""
        return (self.seen.rss - self.rss_before) / max(self.taken, 1)

    def as_json(self) -> dict[str, Any]:
        """Everything, as JSON takes it."""
        return {
            "load": {**self.load._asdict(), "kind": self.load.kind.value},
            "machine": dict(self.machine),
            "accepted": {
                "waits": self.taken,
                "seconds": self.submitting,
                "per_second": self.taken / self.submitting if self.submitting else None,
                "submitter_busy": self.submitter_busy,
            },
            "waitd": {
                **self.seen.as_json(self.load.poke_interval),
                **({} if self.local else {"kept_waiting": None}),
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
                    for span in self.seen.fleet
                ],
                "was_bottleneck": self.seen.fleet_was_busy,
            },
            "scrapes": dict(self.scrapes),
            "correctness": self.account.as_json(),
            "points": [point._asdict() for point in self.points],
            "comparators": [comparison.as_json(self) for comparison in self.comparators],
        }

    @property
    def warnings(self) -> Sequence[str]:
        """Why the figures may not be the daemon's own, a sentence each."""
        found = []
        if self.seen.fleet_was_busy:
            busiest = max(span.busy for span in self.seen.fleet)
            found.append(
                f"The FLEET was the bottleneck ({busiest:.0%} busy): give it more cores, and --fleet-processes."
            )
        if self.seen.requests < self.load.waits:
            found.append("Less than one poke of each wait was measured: hold them for longer.")
        if self.submitter_busy > BUSY:
            found.append("This program was the bottleneck of the submits.")
        if self.local and self.seen.system.kept_waiting > 0.1 * self.seen.system.wall:
            share = self.seen.system.kept_waiting / self.seen.system.wall
            found.append(
                f"The daemon was kept waiting for its core {share:.0%} of the time: trust CPU time and ratios."
            )
        return found


@dataclass(frozen=True, slots=True)
class Comparison:
    """The same load on something else.

    Attributes:
        name: what.
        seen: while all were held, the same way; None: it did not run.
        rss_before: of its processes before the first wait.
        started, starting: how many of its waits had made their first poke, and after how many seconds they were looked at.
        wrong, lost: waits that ended in another state than they must, and that did not end at all.
        detection: from the moment when a target was done to its end being known, seconds.
        note: what else to know; why it did not run.
    """

    name: str
    seen: LoadMeasurement | None
    rss_before: int = 0
    waits: int = 0
    started: int = 0
    wrong: int = 0
    lost: int = 0
    detection: Sequence[float] = ()
    note: str = ""

    @property
    def rss_per_wait(self) -> float:
        """How much bigger its processes were for each wait."""
        return (self.seen.rss - self.rss_before) / max(self.started, 1) if self.seen else 0.0

    def as_json(self, report: BenchReport) -> dict[str, Any]:
        """Everything, and the ratios to waitd's figures."""
        if self.seen is None:
            return {"name": self.name, "ran": False, "note": self.note}
        interval = report.load.poke_interval
        return {
            "name": self.name,
            "ran": True,
            **self.seen.as_json(interval),
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
        """How many times waitd's figure its is; None where there is none to divide by."""
        if self.seen is None:
            return {}
        ours, its = (seen.as_json(report.load.poke_interval) for seen in (report.seen, self.seen))
        pairs = {
            "cpu_per_poke": (its["cpu_ms_per_poke"], ours["cpu_ms_per_poke"]),
            "rss_per_wait": (self.rss_per_wait, report.rss_per_wait),
            "pokes_per_second": (its["pokes_per_second"], ours["pokes_per_second"]),
            "sockets": (its["sockets"], ours["sockets"]),
        }
        return {
            name: a / b if a is not None and b is not None and b > 0 else None
            for name, (a, b) in pairs.items()
        }


def spread(values: Sequence[float]) -> dict[str, Any]:
    """How many there are, and their quantiles."""
    return {
        "count": len(values),
        **{name: quantile(values, q) if values else None for name, q in QUANTILES.items()},
    }


def detection_delays(
    submitted: Sequence[SubmittedWait],
    heard: Mapping[str, ReceivedCallbacks],
    jobs: Mapping[str, Mapping[str, Any]],
    *,
    prompt_only: bool = False,
) -> Sequence[float]:
    """How long after its job was done each wait had its outcome stored; of those that ended because their job did."""
    delays = []
    for wait in submitted:
        event = heard[wait.id].event if wait.id in heard else None
        done_at = jobs.get(wait.path, {}).get("done_at")
        if event is None or done_at is None or wait.expected == "timeout":
            continue
        if not prompt_only or job_of(wait.path).behaviour.plain:
            delays.append(_finished_at(event) - done_at)
    return delays


def delivery_delays(heard: Mapping[str, ReceivedCallbacks]) -> Sequence[float]:
    """How long after its end each wait's callback came."""
    return [h.first_at - _finished_at(h.event) for h in heard.values() if h.event and h.first_at]


def _finished_at(event: Mapping[str, Any]) -> float:
    return datetime.fromisoformat(event["data"]["finished_at"]).timestamp()
