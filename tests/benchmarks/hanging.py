"""Pokes of a healthy origin next to 100 origins that accept requests and never answer."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from waitd.bench.figures import Figure
from waitd.bench.job_table import RECORDED
from waitd.bench.lab import Lab, measure_window, say
from waitd.bench.quantiles import quantile
from waitd.bench.submitter import sensor_wait

ORIGINS, WAITS_EACH = 100, 20
HEALTHY = 200
LIMIT = 1.1
POKE_INTERVAL = 1.0
#: Seconds by which the hanging waits precede the healthy ones.
HEAD_START = 3.0
#: Longer than the timeout of a request (10 s), so that origins are given up and tried again.
WINDOW = 35.0


async def measure(lab: Lab) -> Sequence[Figure]:
    """Runs one daemon."""
    async with lab.target(1 + ORIGINS) as target, lab.daemon("hanging") as daemon:
        say(
            f"{ORIGINS} hanging origins with {WAITS_EACH} waits each, {HEALTHY} healthy waits at 1 s, for {WINDOW:g} s"
        )
        await daemon.submit(
            [
                sensor_wait(target.endpoint("dead", str(n), origin), poke_interval=POKE_INTERVAL)
                for origin in range(1, 1 + ORIGINS)
                for n in range(WAITS_EACH)
            ]
        )
        await asyncio.sleep(HEAD_START)
        await daemon.submit(target.waits(RECORDED, HEALTHY, POKE_INTERVAL))
        window = await measure_window(daemon, target, WINDOW)
        arrivals = (await target.take_arrivals())["arrivals"]
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
