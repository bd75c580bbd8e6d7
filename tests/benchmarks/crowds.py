"""100,000 waits at 10 s, and a million at 60 s: how late they are poked, what a poke costs, what a held wait weighs.

    python tests/benchmarks/crowds.py                 both, about eight minutes
    python tests/benchmarks/crowds.py --only 100000   one of them
    python tests/benchmarks/crowds.py --json          for programs; progress goes to standard error

Each wait has a URL of its own, so nothing is coalesced. The daemon has a core to itself, the target and this script have the others.
"""

import argparse
import asyncio
import signal
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import aiohttp
from figures import Figure
from holding import settled_size, waits_on
from lab import CORES, Daemon, Lab, Snapshot, Target, say, set_up
from spine import put

from waitd.bench.machine import UsageSpan, machine
from waitd.bench.quantiles import bucket_quantile

#: How many waits are submitted at a time, and between which numbers the memory of one is the slope.
PART = 100_000
FEW, MANY = 100_000, 500_000


class Crowd(NamedTuple):
    """So many waits, poked every so many seconds, and how late they may be at p99, in seconds."""

    waits: int
    poke_interval: float
    late: float
    #: For how many seconds they are measured.
    window: float


CROWDS = (Crowd(100_000, 10.0, 0.1, 30.0), Crowd(1_000_000, 60.0, 0.25, 60.0))


async def measure(crowds: Sequence[Crowd]) -> list[Figure]:
    """A daemon for each."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="waitd-benchmark-") as folder:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=120)) as session:
            lab = Lab(Path(folder), session)
            for crowd in crowds:
                async with lab.target() as target, lab.daemon(f"crowd-{crowd.waits}") as daemon:
                    figures += await _gathered(daemon, target, crowd)
                    figures += await _held(daemon, target, crowd)
    return figures


async def _gathered(daemon: Daemon, target: Target, crowd: Crowd) -> Sequence[Figure]:
    """Submits them, and weighs them as they become more."""
    say(f"{crowd.waits:,} waits at {crowd.poke_interval:g} s: submitting")
    before = await Snapshot.take(daemon, target)
    sizes: dict[int, int] = {}
    for start in range(0, crowd.waits, PART):
        await daemon.submit(waits_on(target, f"part-{start}", PART, crowd.poke_interval))
        held = start + PART
        if held in {FEW, MANY} and crowd.waits > MANY:
            await daemon.until(lambda metrics, n=held: metrics.total("waitd_pokes_total") >= n)  # type: ignore[misc]
            sizes[held] = await settled_size(daemon)
        say(f"{held:,}")
    span = UsageSpan.between(before.daemon, (await Snapshot.take(daemon, target)).daemon)
    figures = [
        Figure(f"taken a second, up to {crowd.waits:,}", crowd.waits / span.wall, "/s", note=f"while those before are poked; {span}"),
    ]  # fmt: skip
    if sizes:
        each = (sizes[MANY] - sizes[FEW]) / (MANY - FEW)
        note = f"{sizes[FEW] / 2**20:.0f} MiB with {FEW:,}, {sizes[MANY] / 2**20:.0f} MiB with {MANY:,}"
        figures.append(Figure("RSS per held wait", each, "B", at_most=1_024, note=note))
    return figures


async def _held(daemon: Daemon, target: Target, crowd: Crowd) -> Sequence[Figure]:
    settling = 1.5 * crowd.poke_interval + 2.0
    say(f"settling for {settling:g} s, measuring for {crowd.window:g} s")
    await asyncio.sleep(settling)
    before = await Snapshot.take(daemon, target)
    await asyncio.sleep(crowd.window)
    after = await Snapshot.take(daemon, target)
    lateness = after.histogram_since(before, "waitd_poke_lateness_seconds")
    span, pokes = UsageSpan.between(before.daemon, after.daemon), after.pokes_since(before)
    other = UsageSpan.between(before.target, after.target)
    name = f"{crowd.waits:,} waits at {crowd.poke_interval:g} s"
    p50, p99 = (bucket_quantile(lateness, q) * 1e3 for q in (0.5, 0.99))
    return [
        Figure(f"poke lateness p50, {name}", p50, "ms", note=f"{pokes / span.wall:,.0f} pokes/s of {crowd.waits / crowd.poke_interval:,.0f}"),
        Figure(f"poke lateness p99, {name}", p99, "ms", at_most=crowd.late * 1e3, note=str(span)),
        Figure("  CPU per poke", span.cpu / pokes * 1e6, "µs", note=f"the target's own {other.cpu / pokes * 1e6:.0f} µs"),
        Figure("  memory of the daemon", after.daemon.rss / 2**20, "MiB"),
    ]  # fmt: skip


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", type=int, choices=[crowd.waits for crowd in CROWDS], help="how many waits")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    facts = machine() | {"daemon_core": sorted(CORES.measured), "other_cores": sorted(CORES.others)}
    set_up()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is ended
    figures = asyncio.run(measure([c for c in CROWDS if options.only in {None, c.waits}]))
    put(figures, facts, as_json=options.json)


if __name__ == "__main__":
    main()
