"""A soak test: one daemon under one load after another, at rest in between.

What it holds at rest must not grow.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from waitd.bench.children import daemon, free_port
from waitd.bench.fleet import FleetSettings
from waitd.bench.profiles import Load
from waitd.bench.progress_display import ProgressDisplay
from waitd.bench.run import STARTING, DaemonAddress, run
from waitd.bench.sampler import ScrapedMetrics
from waitd.client import Client

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

    def as_json(self) -> dict[str, Any]:
        """All values, for JSON."""
        return self._asdict()


async def soak(display: ProgressDisplay, load: Load, minutes: float, *, rounds: int = 3) -> list[SoakRound]:
    """Runs rounds for so many minutes, at least `rounds`; returns the daemon at rest after each."""
    results: list[SoakRound] = []
    async with _running_daemon() as client:
        started = time.monotonic()
        while len(results) < rounds or time.monotonic() - started < minutes * 60:
            report = await run(display, load, FleetSettings(), DaemonAddress(client.url))
            result = await _at_rest(client, results[0].descriptors if results else 0)
            results.append(
                result._replace(
                    at=time.monotonic() - started,
                    lateness_p99=report.lateness["p99"],
                    good=report.correctness.good,
                )
            )
            display.step(f"Round {len(results)}, {results[-1]}")
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


@asynccontextmanager
async def _running_daemon() -> AsyncIterator[Client]:
    with TemporaryDirectory(prefix="waitd-soak-") as folder:
        bind = f"127.0.0.1:{free_port()}"
        settings = {
            "bind": bind,
            "state_dir": Path(folder) / "state",
            "requests_per_second": 0,
            "log_format": "json",
        }
        async with (
            Client(f"http://{bind}") as client,
            daemon(settings, client, log=Path(folder) / "log", patience=STARTING),
        ):
            yield client


async def _at_rest(client: Client, descriptors: int) -> SoakRound:
    """The daemon at rest: without waits and extra descriptors, at the latest after RESTING."""
    limit = time.monotonic() + RESTING
    while True:
        result = _soak_round(ScrapedMetrics.parse(await client.metrics()))
        quiet = not result.held and not result.in_flight
        if (quiet and result.descriptors <= descriptors + DESCRIPTOR_SLACK) or time.monotonic() >= limit:
            return result
        await asyncio.sleep(0.5)


def _soak_round(metrics: ScrapedMetrics) -> SoakRound:
    waiting = sum(
        value
        for (name, labels), value in metrics.items()
        if name == "waitd_waits" and ("state", "waiting") in labels
    )
    return SoakRound(
        at=0.0,
        rss=int(metrics.total("process_resident_memory_bytes")),
        descriptors=int(metrics.total("process_open_fds")),
        held=int(waiting),
        in_flight=int(metrics.total("waitd_pokes_in_flight")),
        lateness_p99=0.0,
        good=False,
    )
