"""10,000 waits at 10 s: poke lateness, CPU per poke, saturation, memory per wait."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from urllib.parse import urlsplit

from figures import Figure
from lab import MeasuredDaemon, measure_window, running_daemon, running_target, saturate, say, waits_on

from waitd.bench.children import JobServer
from waitd.bench.job_table import RECORDED
from waitd.bench.measurement import BUSY
from waitd.bench.quantiles import quantile

WAITS = 10_000
POKE_INTERVAL = 10.0
#: A wait is on its grid after its second poke, which happens within one and a half intervals.
SETTLING = 1.5 * POKE_INTERVAL + 2.0
WINDOW = 2 * POKE_INTERVAL
#: Waits whose pokes the target records; the API returns them as one page.
RECORDED_WAITS = 1_000
#: Memory per wait is the slope between these numbers of waits.
FEW, MANY = 10_000, 60_000


async def measure() -> Sequence[Figure]:
    """Runs two daemons, one after the other."""
    async with running_target() as target, running_daemon() as daemon:
        held = await _lateness(daemon, target)
        saturated = await _saturation(daemon, target)
    async with running_target() as target, running_daemon() as daemon:
        few, many = await daemon.rss_at(target, (FEW, MANY))
    return [*held, *saturated, memory_figure(few, many, FEW, MANY, at_most=2_048)]


def memory_figure(rss_few: int, rss_many: int, few: int, many: int, *, at_most: float) -> Figure:
    """Memory per held wait, as the slope between two numbers of waits."""
    note = f"{rss_few / 2**20:.0f} MiB with {few:,}, {rss_many / 2**20:.0f} MiB with {many:,}"
    return Figure("RSS per held wait", (rss_many - rss_few) / (many - few), "B", at_most=at_most, note=note)


async def _lateness(daemon: MeasuredDaemon, target: JobServer) -> Sequence[Figure]:
    say(f"submitting {WAITS:,} waits with an interval of {POKE_INTERVAL:g} s, then {SETTLING:g} s to settle")
    await daemon.submit(waits_on(target, WAITS - RECORDED_WAITS, POKE_INTERVAL))
    await daemon.submit(waits_on(target, RECORDED_WAITS, POKE_INTERVAL, name=RECORDED))
    await asyncio.sleep(SETTLING)
    due = await _next_pokes(daemon)
    await target.get("/arrivals")  # forgets those until now
    say(f"measuring for {WINDOW:g} s")
    window = await measure_window(daemon, target, WINDOW)
    seen = _lateness_at_target(due, (await target.get("/arrivals"))["arrivals"])
    return [
        Figure("poke lateness p50, 10,000 waits at 10 s", window.lateness(0.5), "ms", note=f"/metrics, {window.pokes:,.0f} pokes"),
        Figure("poke lateness p99, 10,000 waits at 10 s", window.lateness(0.99), "ms", at_most=100, note=f"/metrics; {window.daemon}"),
        Figure("  p50 at the target", quantile(seen, 0.5) * 1e3, "ms", note=f"{len(due):,} waits, {len(seen):,} pokes"),
        Figure("  p99 at the target", quantile(seen, 0.99) * 1e3, "ms", at_most=100, note=f"max {max(seen) * 1e3:.0f} ms, min {min(seen) * 1e3:.1f} ms"),
        Figure("CPU per poke, at 1,000 pokes/s", window.cpu_per_poke, "µs", note=f"the whole daemon; {window.rate:,.0f} pokes/s"),
    ]  # fmt: skip


async def _next_pokes(daemon: MeasuredDaemon) -> Mapping[str, float]:
    """The next poke of each of the newest waits, Unix seconds by path.

    Waits that are being poked now are left out.
    """
    page = await daemon.client.find({}, limit=RECORDED_WAITS)
    soon = time.time() + 0.5
    due = {
        urlsplit(wait["params"]["endpoint"]).path: datetime.fromisoformat(wait["next_poke_at"]).timestamp()
        for wait in page
    }
    return {path: at for path, at in due.items() if at > soon}


def _lateness_at_target(due: Mapping[str, float], arrivals: Mapping[str, Sequence[float]]) -> Sequence[float]:
    """Seconds from the nearest point of its wait's grid to each arrival; negative: early."""
    half = POKE_INTERVAL / 2
    return [(at - due[path] + half) % POKE_INTERVAL - half for path in due for at in arrivals[path]]


async def _saturation(daemon: MeasuredDaemon, target: JobServer) -> Sequence[Figure]:
    say("adding waits until ten times as many pokes are due as the daemon can make")
    window = await saturate(daemon, target)
    in_flight = window.after.total("waitd_pokes_in_flight")
    overdue = window.after.total("waitd_waits_overdue")
    bottleneck = "the TARGET" if window.target.busy > BUSY else "the daemon"
    return [
        Figure("pokes/s at saturation, same run", window.rate, "pokes/s", at_least=5_000, note=f"{window.daemon}; {in_flight:,.0f} in flight, {overdue:,.0f} overdue"),
        Figure("  pokes per CPU second of the daemon", window.pokes / window.daemon.cpu, "pokes/s", note=f"{bottleneck} was the bottleneck; the target used {window.target}"),
        Figure("CPU per poke, at saturation", window.cpu_per_poke, "µs", note=f"the target's own: {window.target_cpu_per_poke:.0f} µs"),
    ]  # fmt: skip
