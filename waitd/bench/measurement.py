"""What a system under load did between two moments, seen from outside.

Works alike for waitd and for the systems it is compared with: CPU time and memory come from the
operating system, requests from the fleet.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from waitd.bench.fleet import Fleet, RequestTally
from waitd.bench.job_table import GAPS
from waitd.bench.machine import ProcessUsage, UsageSpan
from waitd.bench.quantiles import bucket_quantile, cumulative

#: A process with one thread that is busier than this is the bottleneck.
BUSY = 0.9
#: The quantiles that are reported of each distribution.
QUANTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


class LoadSnapshot(NamedTuple):
    """What the system and each job server have used, and the fleet's counts, at one moment."""

    system: ProcessUsage
    fleet: Sequence[ProcessUsage]
    tally: RequestTally
    sockets: int


class LoadMeasurement(NamedTuple):
    """What happened between two snapshots.

    Attributes:
        system: what the system used.
        fleet: what each job server used.
        requests: the number of requests to the fleet.
        gaps: seconds between two requests about a job, cumulative counts by upper bound.
        rss: resident memory of the system at the end, bytes.
        sockets: open sockets of the system at the end.
    """

    system: UsageSpan
    fleet: Sequence[UsageSpan]
    requests: int
    gaps: Mapping[float, float]
    rss: int
    sockets: int

    @classmethod
    def between(cls, before: LoadSnapshot, after: LoadSnapshot) -> "LoadMeasurement":
        """The difference of two snapshots."""
        gaps = [late - early for late, early in zip(after.tally.gaps, before.tally.gaps, strict=True)]
        spans = [UsageSpan.between(*both) for both in zip(before.fleet, after.fleet, strict=True)]
        return cls(
            system=UsageSpan.between(before.system, after.system),
            fleet=spans,
            requests=after.tally.requests - before.tally.requests,
            gaps=cumulative(GAPS, gaps),
            rss=after.system.rss,
            sockets=after.sockets,
        )

    @property
    def fleet_was_busy(self) -> bool:
        """Whether a job server was the bottleneck instead of the system."""
        return any(span.busy > BUSY for span in self.fleet)

    def as_json(self, poke_interval: float) -> dict[str, Any]:
        """The figures: seconds and bytes; CPU in milliseconds per poke, None without any poke."""
        wall, cpu = self.system.wall, self.system.cpu
        return {
            "seconds": wall,
            "cpu_seconds": cpu,
            "kept_waiting": self.system.kept_waiting / wall,
            "pokes": self.requests,
            "pokes_per_second": self.requests / wall,
            "cpu_ms_per_poke": cpu / self.requests * 1000 if self.requests else None,
            "gap_over_interval": {
                name: bucket_quantile(self.gaps, q) - poke_interval if any(self.gaps.values()) else None
                for name, q in QUANTILES.items()
            },
            "rss": self.rss,
            "sockets": self.sockets,
        }


async def take_snapshot(
    system_usage: Callable[[], Awaitable[tuple[ProcessUsage, int]]], fleet: Fleet
) -> LoadSnapshot:
    """Takes a snapshot; `system_usage` returns the system's usage and its open sockets."""
    tally = await fleet.tally()
    usage, sockets = await system_usage()
    return LoadSnapshot(usage, [ProcessUsage.from_pid(pid) for pid in fleet.pids], tally, sockets)
