"""Pokes of a healthy origin next to 100 origins that accept requests and never answer."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from figures import Figure
from lab import measure_window, running_daemon, running_target, say, waits_on

from waitd.bench.job_table import RECORDED
from waitd.bench.quantiles import quantile

ORIGINS, WAITS_EACH = 100, 20
HEALTHY = 200
LIMIT = 1.1
POKE_INTERVAL = 1.0
#: Seconds by which the hanging waits precede the healthy ones.
HEAD_START = 3.0
#: Longer than the timeout of a request (10 s), so that origins are given up and tried again.
WINDOW = 35.0


async def measure() -> Sequence[Figure]:
    """Runs one daemon."""
    async with running_target(1 + ORIGINS) as target, running_daemon() as daemon:
        say(
            f"{ORIGINS} hanging origins with {WAITS_EACH} waits each, {HEALTHY} healthy waits at 1 s, for {WINDOW:g} s"
        )
        await daemon.submit(
            wait
            for origin in range(1, 1 + ORIGINS)
            for wait in waits_on(target, WAITS_EACH, POKE_INTERVAL, behaviour="dead", origin=origin)
        )
        await asyncio.sleep(HEAD_START)
        await daemon.submit(waits_on(target, HEALTHY, POKE_INTERVAL, name=RECORDED))
        window = await measure_window(daemon, target, WINDOW)
        arrivals = (await target.get("/arrivals"))["arrivals"]
    # The time from the first poke, which is immediate, to the grid is no interval.
    pairs = [pair for times in arrivals.values() for pair in pairwise(times[1:])]
    gaps = [later - earlier for earlier, later in pairs]
    late = [later for earlier, later in pairs if later - earlier > LIMIT]
    limited = window.after.total("waitd_origins_limited")
    in_flight = window.after.total("waitd_pokes_in_flight")
    return [
        Figure("healthy gaps p99, beside 100 hanging origins", quantile(gaps, 0.99), "s", at_most=LIMIT, note=f"{len(arrivals)} waits, {len(gaps):,} gaps; {window.daemon}"),
        Figure("  max", max(gaps), "s", note=f"p50 {quantile(gaps, 0.5):.3f} s; {limited:.0f} origins limited, {in_flight:.0f} pokes in flight at the end; {len(late)} gaps over {LIMIT:g} s, in {len(set(map(int, late)))} different seconds"),
    ]  # fmt: skip
