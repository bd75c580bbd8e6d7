"""Puts one load after another on a daemon: what it holds at rest must not grow.

    python tests/benchmarks/soak.py                          half an hour
    python tests/benchmarks/soak.py --minutes 5 --waits 500  a shorter soak
    python tests/benchmarks/soak.py --json > soak.json       for programs; progress goes to stderr

Exit code 1: something grew, was lost, or ended wrongly. Lateness is printed but decides nothing,
because it depends on what else the machine does.
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import NamedTuple

import orjson
from lab import MeasuredDaemon, running_daemon, say

from waitd.bench.fleet import FleetSettings
from waitd.bench.profiles import PROFILES, Load
from waitd.bench.progress_display import ProgressDisplay
from waitd.bench.run import DaemonAddress, run
from waitd.bench.sampler import ScrapedMetrics

#: Allowed growth of memory over all rounds, in bytes plus a share: allocators keep freed memory.
RSS_SLACK, RSS_SHARE = 16 * 2**20, 0.1
#: Allowed growth of open descriptors: connections of those who scrape.
DESCRIPTOR_SLACK = 8
#: Seconds within which a daemon comes to rest: it closes idle connections and releases ended waits.
RESTING = 20.0


class SoakRound(NamedTuple):
    """A daemon at rest after a round.

    Attributes:
        at: seconds since the start of the soak.
        rss: resident memory, bytes.
        descriptors: open file descriptors.
        held: waits that still wait.
        in_flight: pokes that are not finished.
        lateness_p99: of the round's pokes, seconds.
        good: whether every wait of the round ended as it must.
    """

    at: float
    rss: int
    descriptors: int
    held: int
    in_flight: int
    lateness_p99: float
    good: bool

    def __str__(self) -> str:
        size = f"{self.rss / 2**20:,.1f} MiB, {self.descriptors} descriptors, {self.held} waits held"
        return f"after {self.at:,.0f} s: {size}, p99 lateness {self.lateness_p99 * 1000:,.0f} ms"


async def soak(display: ProgressDisplay, load: Load, minutes: float, *, rounds: int = 3) -> list[SoakRound]:
    """Runs rounds for so many minutes, at least `rounds`; returns the daemon at rest after each."""
    results: list[SoakRound] = []
    async with running_daemon(requests_per_second=0) as daemon:
        started = time.monotonic()
        while len(results) < rounds or time.monotonic() - started < minutes * 60:
            report = await run(display, load, FleetSettings(), DaemonAddress(daemon.client.url))
            metrics = await _at_rest(daemon, results[0].descriptors if results else 0)
            result = SoakRound(
                at=time.monotonic() - started,
                rss=int(metrics.total("process_resident_memory_bytes")),
                descriptors=int(metrics.total("process_open_fds")),
                held=_held(metrics),
                in_flight=int(metrics.total("waitd_pokes_in_flight")),
                lateness_p99=report.lateness["p99"],
                good=report.correctness.good,
            )
            results.append(result)
            display.step(f"Round {len(results)}, {result}")
    return results


def complaints(rounds: Sequence[SoakRound]) -> list[str]:
    """What grew or went wrong, a sentence each.

    Growth counts from the end of the first round, which fills pools and caches.
    """
    first, last = rounds[0], rounds[-1]
    defects = [
        f"round {n} lost a wait or ended one wrongly" for n, result in enumerate(rounds, 1) if not result.good
    ]
    defects += [
        f"{result.held} waits are still held after round {n}"
        for n, result in enumerate(rounds, 1)
        if result.held
    ]
    if last.in_flight:
        defects.append(f"{last.in_flight} pokes are still in flight")
    if last.rss > first.rss * (1 + RSS_SHARE) + RSS_SLACK:
        defects.append(f"memory grew from {first.rss:,} to {last.rss:,} bytes in {len(rounds)} rounds")
    if last.descriptors > first.descriptors + DESCRIPTOR_SLACK:
        defects.append(f"open descriptors grew from {first.descriptors} to {last.descriptors}")
    return defects


async def _at_rest(daemon: MeasuredDaemon, descriptors: int) -> ScrapedMetrics:
    """The metrics of a daemon without waits and extra descriptors, at the latest after RESTING."""
    limit = time.monotonic() + RESTING
    while True:
        metrics = await daemon.metrics()
        busy = _held(metrics) or metrics.total("waitd_pokes_in_flight")
        grown = metrics.total("process_open_fds") > descriptors + DESCRIPTOR_SLACK
        if not (busy or grown) or time.monotonic() >= limit:
            return metrics
        await asyncio.sleep(0.5)


def _held(metrics: ScrapedMetrics) -> int:
    """The number of waits that still wait."""
    return int(
        sum(
            value
            for (name, labels), value in metrics.items()
            if name == "waitd_waits" and ("state", "waiting") in labels
        )
    )


class StepsOnly:
    """A progress display that prints each step on standard error."""

    def step(self, text: str) -> None:
        """Prints it."""
        say(text)

    broke = step

    def progress(self, done: int, total: int, text: str) -> None:
        """Does nothing."""


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="length of the soak (default: 30)")
    parser.add_argument("--waits", type=int, default=5_000, help="waits in each round")
    parser.add_argument("--poke-interval", type=float, default=5.0, help="seconds")
    parser.add_argument("--duration", type=float, default=60.0, help="length of a round, seconds")
    parser.add_argument("--profile", choices=list(PROFILES), default="storm")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    load = Load(options.waits, options.poke_interval, options.duration, profile=options.profile)
    rounds = asyncio.run(soak(StepsOnly(), load, options.minutes))
    defects = complaints(rounds)
    if options.json:
        document = {"rounds": [result._asdict() for result in rounds], "complaints": defects}
        print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        for n, result in enumerate(rounds, 1):
            print(f"round {n}, {result}")
        print("\n".join(defects) or "nothing grew")
    sys.exit(1 if defects else 0)


if __name__ == "__main__":
    main()
