"""What a system under load did between two moments, seen from outside: by the system's clock of its processes, and by who was asked.

The same for waitd and for what it is compared with.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from waitd.bench.fleet import Fleet, RequestTally
from waitd.bench.job_server import GAPS
from waitd.bench.machine import ProcessUsage, UsageSpan
from waitd.bench.quantiles import bucket_quantile, cumulative

#: A process with one thread that is busier than this could not have done more.
BUSY = 0.9
#: What is told of a distribution.
QUANTILES: Mapping[str, float] = {"p50": 0.5, "p90": 0.9, "p99": 0.99, "p999": 0.999}


class LoadSnapshot(NamedTuple):
    """Everything at one moment: what is measured, each of the fleet's processes, and what those were asked."""

    system: ProcessUsage
    fleet: Sequence[ProcessUsage]
    tally: RequestTally
    sockets: int


class LoadMeasurement(NamedTuple):
    """What was seen in between.

    Attributes:
        system, fleet: what was used.
        requests: that the fleet was asked.
        gaps: between two requests about a job, cumulative by upper bound.
        rss: of the system in the end, bytes.
        sockets: that it has open in the end.
    """

    system: UsageSpan
    fleet: Sequence[UsageSpan]
    requests: int
    gaps: Mapping[float, float]
    rss: int
    sockets: int

    @classmethod
    def between(cls, before: LoadSnapshot, after: LoadSnapshot) -> "LoadMeasurement":
        """From the one to the other."""
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
        """Whether a process of the fleet was the bottleneck: busier than what was measured could make it."""
        return any(span.busy > BUSY for span in self.fleet)

    def as_json(self, poke_interval: float) -> dict[str, Any]:
        """The figures: times in seconds, memory in bytes; CPU in milliseconds a poke, or None where there was none."""
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
    system: Callable[[], Awaitable[tuple[ProcessUsage, int]]],
    fleet: Fleet,
) -> LoadSnapshot:
    """Now. `system` tells what it had and how many sockets it has open."""
    tally = await fleet.tally()
    usage, sockets = await system()
    return LoadSnapshot(usage, [ProcessUsage.of(pid) for pid in fleet.pids], tally, sockets)
