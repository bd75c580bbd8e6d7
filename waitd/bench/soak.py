"""The same daemon under one load after the other: what it holds in between must not grow."""

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
from waitd.bench.scrape import ScrapedMetrics
from waitd.client import Client

#: By how much memory may differ between two rounds, in bytes and as a share: allocators keep what they once had.
RSS_SLACK, RSS_SHARE = 16 * 2**20, 0.1
#: By how many descriptors: connections to whoever looks.
DESCRIPTOR_SLACK = 8
#: How long a daemon is given to come to rest, in seconds: connections kept alive are closed, ended waits let go.
RESTING = 20.0


class SoakRound(NamedTuple):
    """What a daemon has after a round, at rest. `lateness_p99` is the round's, seconds; `good` its account's word."""

    at: float
    rss: int
    descriptors: int
    held: int
    in_flight: int
    lateness_p99: float
    good: bool

    def as_json(self) -> dict[str, Any]:
        """All of it."""
        return self._asdict()


async def soak(show: ProgressDisplay, load: Load, minutes: float, *, rounds: int = 3) -> list[SoakRound]:
    """One round after the other for so many minutes, but at least `rounds`; what the daemon had after each."""
    found: list[SoakRound] = []
    async with _served() as client:
        began = time.monotonic()
        while len(found) < rounds or time.monotonic() - began < minutes * 60:
            report = await run(show, load, FleetSettings(), DaemonAddress(client.url))
            rest = await _rest(client, found[0].descriptors if found else 0)
            found.append(
                rest._replace(
                    at=time.monotonic() - began,
                    lateness_p99=report.lateness["p99"],
                    good=report.account.good,
                )
            )
            show.step(f"Round {len(found)}: {found[-1]}")
    return found


def complaints(rests: Sequence[SoakRound]) -> list[str]:
    """What grew, or was wrong, a sentence each. The first round is the measure of the others: pools and caches are filled in it."""
    first, last = rests[0], rests[-1]
    found = [f"round {n} lost something or ended wrongly" for n, rest in enumerate(rests, 1) if not rest.good]
    found += [
        f"{rest.held} waits are still held after round {n}" for n, rest in enumerate(rests, 1) if rest.held
    ]
    if last.in_flight:
        found.append(f"{last.in_flight} pokes are still in flight")
    if last.rss > first.rss * (1 + RSS_SHARE) + RSS_SLACK:
        found.append(f"memory grew from {first.rss:,} to {last.rss:,} bytes in {len(rests)} rounds")
    if last.descriptors > first.descriptors + DESCRIPTOR_SLACK:
        found.append(f"open descriptors grew from {first.descriptors} to {last.descriptors}")
    return found


@asynccontextmanager
async def _served() -> AsyncIterator[Client]:
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


async def _rest(client: Client, descriptors: int) -> SoakRound:
    """What the daemon has once nothing is held and no more descriptors are open than after the first round; or after RESTING."""
    limit = time.monotonic() + RESTING
    while True:
        rest = _of(ScrapedMetrics.of(await client.metrics()))
        quiet = not rest.held and not rest.in_flight
        if (quiet and rest.descriptors <= descriptors + DESCRIPTOR_SLACK) or time.monotonic() >= limit:
            return rest
        await asyncio.sleep(0.5)


def _of(metrics: ScrapedMetrics) -> SoakRound:
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
