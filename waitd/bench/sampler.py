"""Scrapes `/metrics` of a daemon under load once a second."""

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any, NamedTuple, Self

from prometheus_client.parser import text_string_to_metric_families

from waitd.bench.quantiles import bucket_quantile, quantile
from waitd.client import Client, DaemonUnreachable

#: Seconds between two scrapes.
EVERY = 1.0
LATENESS = "waitd_poke_lateness_seconds"


class ScrapedMetrics(dict[tuple[str, frozenset[tuple[str, str]]], float]):
    """The samples of a `/metrics` response, by name and labels."""

    @classmethod
    def parse(cls, text: str) -> Self:
        """Parses the text of a response."""
        families = text_string_to_metric_families(text)
        return cls({(s.name, frozenset(s.labels.items())): s.value for f in families for s in f.samples})

    def total(self, name: str) -> float:
        """The sum of a metric over all its labels."""
        return sum(value for (sample, _), value in self.items() if sample == name)

    def buckets(self, name: str) -> dict[float, float]:
        """A histogram's cumulative counts by upper bound."""
        return {
            float(dict(labels)["le"]): value
            for (sample, labels), value in self.items()
            if sample == name + "_bucket"
        }

    def histogram_since(self, before: "ScrapedMetrics", name: str) -> dict[float, float]:
        """The increase of a histogram: cumulative counts by upper bound."""
        earlier = before.buckets(name)
        return {bound: count - earlier.get(bound, 0.0) for bound, count in self.buckets(name).items()}


class Scrape(NamedTuple):
    """One scrape: its monotonic time, its duration in seconds, and its result."""

    at: float
    took: float
    metrics: ScrapedMetrics


class LoadPoint(NamedTuple):
    """What happened since the previous point.

    Times in seconds, memory in bytes; `cpu` is a share of one core.
    """

    at: float
    lateness_p50: float
    lateness_p99: float
    rss: float
    cpu: float
    pokes_per_second: float
    waits: float


class Sampler:
    """Scrapes a daemon and keeps the results in `scrapes`."""

    def __init__(self, client: Client) -> None:
        self.scrapes: list[Scrape] = []
        self._client = client

    async def run(self) -> None:
        """Scrapes once a second until it is cancelled; skips a scrape that fails."""
        while True:
            with suppress(DaemonUnreachable):
                await self.scrape()
            await asyncio.sleep(EVERY)

    async def scrape(self) -> ScrapedMetrics:
        """Scrapes once. Raises DaemonUnreachable, RequestRefused."""
        started = time.monotonic()
        text = await self._client.metrics()
        took = time.monotonic() - started
        self.scrapes.append(Scrape(started, took, ScrapedMetrics.parse(text)))
        return self.scrapes[-1].metrics

    def loop_lag(self) -> float:
        """The longest event loop lag of the daemon in any scrape, in seconds."""
        return max((s.metrics.total("waitd_event_loop_lag_seconds") for s in self.scrapes), default=0.0)

    def cost(self) -> dict[str, Any]:
        """The cost of scraping, which the daemon's CPU time includes."""
        took = [scrape.took for scrape in self.scrapes]
        return {
            "scrapes": len(took),
            "every": EVERY,
            "p50": quantile(took, 0.5),
            "max": max(took, default=0.0),
        }

    def points(self) -> Sequence[LoadPoint]:
        """A point for each scrape but the first; times count from the first one."""
        return [
            _point(before, after, self.scrapes[0].at)
            for before, after in zip(self.scrapes, self.scrapes[1:], strict=False)
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
