"""A scrape a second of a daemon under load: what changes over time."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from waitd.bench.quantiles import bucket_quantile, quantile
from waitd.bench.scrape import ScrapedMetrics
from waitd.client import Client, DaemonUnreachable

#: Seconds between two scrapes.
EVERY = 1.0
LATENESS = "waitd_poke_lateness_seconds"


class Scrape(NamedTuple):
    """One scrape: `at` is monotonic, `took` seconds."""

    at: float
    took: float
    metrics: ScrapedMetrics


class LoadPoint(NamedTuple):
    """What happened up to a moment, since the one before. Times in seconds, memory in bytes; `cpu` is a share of a core."""

    at: float
    lateness_p50: float
    lateness_p99: float
    rss: float
    cpu: float
    pokes_per_second: float
    waits: float


class Sampler:
    """Scrapes until it is cancelled; `samples` is what it has so far."""

    def __init__(self, client: Client) -> None:
        self.samples: list[Scrape] = []
        self._client = client

    async def run(self) -> None:
        """A scrape each second; one that fails is left out."""
        while True:
            with suppress(DaemonUnreachable):
                await self.scrape()
            await asyncio.sleep(EVERY)

    async def scrape(self) -> ScrapedMetrics:
        """One now. Raises DaemonUnreachable and Refused."""
        began = time.monotonic()
        text = await self._client.metrics()
        took = time.monotonic() - began
        self.samples.append(Scrape(began, took, ScrapedMetrics.of(text)))
        return self.samples[-1].metrics

    def loop_lag(self) -> float:
        """The longest pause of the daemon's loop that a scrape saw, in seconds."""
        return max((s.metrics.total("waitd_event_loop_lag_seconds") for s in self.samples), default=0.0)

    def cost(self) -> dict[str, Any]:
        """How much scraping there was, so that nobody takes it for the load's."""
        took = [sample.took for sample in self.samples]
        return {
            "scrapes": len(took),
            "every": EVERY,
            "p50": quantile(took, 0.5),
            "max": max(took, default=0.0),
        }

    def points(self) -> Sequence[LoadPoint]:
        """What happened from each scrape to the next, timed from the first one on."""
        return [
            _point(before, after, self.samples[0].at)
            for before, after in zip(self.samples, self.samples[1:], strict=False)
        ]


def _point(before: Scrape, after: Scrape, zero: float) -> LoadPoint:
    span = max(after.at - before.at, 1e-9)
    lateness = after.metrics.histogram_since(before.metrics, LATENESS)

    def rate(name: str) -> float:
        return (after.metrics.total(name) - before.metrics.total(name)) / span

    return LoadPoint(
        at=after.at - zero,
        lateness_p50=bucket_quantile(lateness, 0.5),
        lateness_p99=bucket_quantile(lateness, 0.99),
        rss=after.metrics.total("process_resident_memory_bytes"),
        cpu=rate("process_cpu_seconds_total"),
        pokes_per_second=rate("waitd_pokes_total"),
        waits=after.metrics.total("waitd_waits"),
    )
