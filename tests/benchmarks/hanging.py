"""100 origins that take requests and never answer, beside one that does: does the healthy one notice?"""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

from figures import Figure
from lab import Lab, Snapshot, say
from submitter import wait_on

from waitd.bench.jobs import path_of
from waitd.bench.machine import UsageSpan
from waitd.bench.quantiles import quantile

ORIGINS, WAITS_EACH = 100, 20
HEALTHY = 200
LIMIT = 1.1
POKE_INTERVAL = 1.0
#: The hanging waits are there this long before the healthy ones come, in seconds.
HEAD_START = 3.0
#: Longer than a request's timeout (10 s), so that origins are given up and asked again meanwhile.
WINDOW = 35.0


async def measure(lab: Lab) -> Sequence[Figure]:
    """One daemon."""
    async with lab.target(1 + ORIGINS) as target, lab.daemon("hanging") as daemon:
        healthy, *hanging = target.urls
        say(
            f"{ORIGINS} hanging origins with {WAITS_EACH} waits each, and {HEALTHY} healthy waits at 1 s, for {WINDOW:g} s"
        )
        await daemon.submit(
            [
                wait_on(url + path_of("dead", 0, str(n)), poke_interval=POKE_INTERVAL)
                for url in hanging
                for n in range(WAITS_EACH)
            ]
        )
        await asyncio.sleep(HEAD_START)
        before = await Snapshot.take(daemon, target)
        await daemon.submit(
            [
                wait_on(healthy + path_of("endless", 0, f"watched-{n}"), poke_interval=POKE_INTERVAL)
                for n in range(HEALTHY)
            ]
        )
        await asyncio.sleep(WINDOW)
        after = await Snapshot.take(daemon, target)
        arrivals = (await target.seen())["arrivals"]
    # The way from the first poke, which is at once, to the grid is no interval.
    gaps = [later - earlier for times in arrivals.values() for earlier, later in pairwise(times[1:])]
    late = [
        later
        for times in arrivals.values()
        for earlier, later in pairwise(times[1:])
        if later - earlier > LIMIT
    ]
    span = UsageSpan.between(before.daemon, after.daemon)
    limited = after.metrics.total("waitd_origins_limited")
    flying = after.metrics.total("waitd_pokes_in_flight")
    return [
        Figure("healthy gaps p99, beside 100 hanging origins", quantile(gaps, 0.99), "s", at_most=LIMIT, note=f"{len(arrivals)} waits, {len(gaps):,} gaps; {span}"),
        Figure("  max", max(gaps), "s", note=f"p50 {quantile(gaps, 0.5):.3f} s; {limited:.0f} origins limited, {flying:.0f} pokes in flight at the end; {len(late)} gaps over {LIMIT:g} s, ended in {len(set(map(int, late)))} different seconds"),
    ]  # fmt: skip
