"""10,000 waits held at 10 s: how late they are poked, what a poke costs, how many pokes fit when more is due, what a held wait weighs."""

import asyncio
import time
from collections.abc import Sequence
from datetime import datetime
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
from figures import Figure
from lab import Daemon, Lab, Snapshot, Target, say
from submitter import wait_on

from waitd.bench.jobs import path_of
from waitd.bench.machine import ProcessUsage, UsageSpan
from waitd.bench.quantiles import bucket_quantile, quantile

WAITS = 10_000
POKE_INTERVAL = 10.0
#: A wait is on its grid after its second poke, which comes within one and a half intervals.
SETTLING = 1.5 * POKE_INTERVAL + 2.0
WINDOW = 2 * POKE_INTERVAL
#: Waits whose pokes the target notes; the API shows them on one page.
WATCHED = 1_000
SATURATED_INTERVAL = 0.1
SATURATED_WINDOW = 10.0
#: Between these numbers of waits the memory of one is the slope.
FEW, MANY = 10_000, 60_000


async def measure(lab: Lab) -> Sequence[Figure]:
    """Two daemons, one after the other."""
    async with lab.target() as target, lab.daemon("holding") as daemon:
        held = await _held(daemon, target)
        saturated = await _saturated(daemon, target)
    async with lab.target() as target, lab.daemon("weighing") as daemon:
        weighed = await _weighed(daemon, target)
    return [*held, *saturated, weighed]


def waits_on(target: Target, name: str, count: int, poke_interval: float) -> list[dict[str, Any]]:
    """Waits on as many different URLs, so that no two share a request."""
    return [
        wait_on(target.urls[0] + path_of("endless", 0, f"{name}-{n}"), poke_interval=poke_interval)
        for n in range(count)
    ]


async def _held(daemon: Daemon, target: Target) -> Sequence[Figure]:
    say(f"{WAITS:,} waits at {POKE_INTERVAL:g} s: submitting, and {SETTLING:g} s to settle")
    waits = [
        *waits_on(target, "held", WAITS - WATCHED, POKE_INTERVAL),
        *waits_on(target, "watched", WATCHED, POKE_INTERVAL),
    ]
    await daemon.submit(waits)
    await asyncio.sleep(SETTLING)
    due = await _next_pokes(daemon)
    await target.seen()
    before = await Snapshot.take(daemon, target)
    say(f"measuring for {WINDOW:g} s")
    await asyncio.sleep(WINDOW)
    after = await Snapshot.take(daemon, target)
    lateness = after.histogram_since(before, "waitd_poke_lateness_seconds")
    seen = _lateness_seen(due, (await target.seen())["arrivals"])
    span, pokes = UsageSpan.between(before.daemon, after.daemon), after.pokes_since(before)
    rate = f"{pokes / span.wall:,.0f} pokes/s"
    return [
        Figure("poke lateness p50, 10,000 waits at 10 s", bucket_quantile(lateness, 0.5) * 1e3, "ms", note=f"/metrics, {pokes:,.0f} pokes"),
        Figure("poke lateness p99, 10,000 waits at 10 s", bucket_quantile(lateness, 0.99) * 1e3, "ms", at_most=100, note=f"/metrics; {span}"),
        Figure("  p50 as the target saw it", quantile(seen, 0.5) * 1e3, "ms", note=f"{len(due):,} waits, {len(seen):,} pokes"),
        Figure("  p99 as the target saw it", quantile(seen, 0.99) * 1e3, "ms", at_most=100, note=f"max {max(seen) * 1e3:.0f} ms, min {min(seen) * 1e3:.1f} ms"),
        Figure("CPU per poke, at 1,000 pokes/s", span.cpu / pokes * 1e6, "µs", note=f"the whole daemon; {rate}"),
    ]  # fmt: skip


async def _next_pokes(daemon: Daemon) -> dict[str, float]:
    """When the newest waits are poked next, Unix seconds by path; of one that is being poked now it is not known."""
    async with aiohttp.request("GET", f"{daemon.url}/v1/waits?limit={WATCHED}") as response:
        page = orjson.loads(await response.read())["waits"]
    soon = time.time() + 0.5
    due = {
        urlsplit(wait["params"]["endpoint"]).path: datetime.fromisoformat(wait["next_poke_at"]).timestamp()
        for wait in page
    }
    return {path: at for path, at in due.items() if at > soon}


def _lateness_seen(due: dict[str, float], arrivals: dict[str, list[float]]) -> list[float]:
    """How long after a point of its wait's grid each request arrived, in seconds; under 0: it came early."""
    half = POKE_INTERVAL / 2
    return [(at - due[path] + half) % POKE_INTERVAL - half for path in due for at in arrivals[path]]


async def _saturated(daemon: Daemon, target: Target) -> Sequence[Figure]:
    say(
        f"the same and {WAITS:,} waits at {SATURATED_INTERVAL:g} s: {WAITS / SATURATED_INTERVAL:,.0f} pokes/s are due"
    )
    await daemon.submit(waits_on(target, "often", WAITS, SATURATED_INTERVAL))
    await asyncio.sleep(3.0)
    before = await Snapshot.take(daemon, target)
    await asyncio.sleep(SATURATED_WINDOW)
    after = await Snapshot.take(daemon, target)
    span, pokes = UsageSpan.between(before.daemon, after.daemon), after.pokes_since(before)
    other = UsageSpan.between(before.target, after.target)
    in_flight = after.metrics.total("waitd_pokes_in_flight")
    overdue = after.metrics.total("waitd_waits_overdue")
    bottleneck = (
        "the TARGET was the bottleneck"
        if other.cpu + other.kept_waiting > 0.9 * other.wall
        else "the daemon was the bottleneck"
    )
    return [
        Figure("pokes/s at saturation, same run", pokes / span.wall, "pokes/s", at_least=5_000, note=f"{span}; {in_flight:,.0f} in flight, {overdue:,.0f} overdue"),
        Figure("  pokes per CPU second of the daemon", pokes / span.cpu, "pokes/s", note=f"{bottleneck}: it used {other}"),
        Figure("CPU per poke, at saturation", span.cpu / pokes * 1e6, "µs", note=f"the target's own: {other.cpu / pokes * 1e6:.0f} µs"),
    ]  # fmt: skip


async def _weighed(daemon: Daemon, target: Target) -> Figure:
    sizes = []
    for name, count in (("few", FEW), ("more", MANY - FEW)):
        say(f"weighing: {count:,} waits at 1 h, each poked once")
        await daemon.submit(waits_on(target, name, count, 3600.0))
        everyone = FEW if name == "few" else MANY
        await daemon.until(lambda metrics, n=everyone: metrics.total("waitd_pokes_total") >= n)  # type: ignore[misc]
        sizes.append(await settled_size(daemon))
    each = (sizes[1] - sizes[0]) / (MANY - FEW)
    note = f"{sizes[0] / 2**20:.0f} MiB with {FEW:,}, {sizes[1] / 2**20:.0f} MiB with {MANY:,}"
    return Figure("RSS per held wait", each, "B", at_most=2_048, note=note)


async def settled_size(daemon: Daemon, patience: float = 10.0) -> int:
    """The resident size once it has stopped growing for two seconds, or after `patience` seconds."""
    limit, sizes = time.monotonic() + patience, [0, 1, 2]
    while time.monotonic() < limit and len(set(sizes[-3:])) > 1:
        await asyncio.sleep(1.0)
        sizes.append(ProcessUsage.of(daemon.pid).rss)
    return sizes[-1]
