"""Proves what the ledger says of waitd itself: CPU per poke, memory per wait, and what the accounting costs.

    python tests/benchmarks/cost.py            all of it, about four minutes
    python tests/benchmarks/cost.py --only cpu one part: cpu, memory or overhead; may be given more than once
    python tests/benchmarks/cost.py --stage 250 smaller stages, for a machine that has other work to do

CPU: waits are added in stages, and the process's CPU time per second (as the system counts it) is drawn over its pokes per second. The
slope of that line is what a poke takes; the ledger must say the same. Memory: the slope of the resident size over waits held. Overhead: a
saturated daemon with the ledger on and one with it off, in turns, so that a noisy machine is noisy for both.
"""

import argparse
import asyncio
import signal
import statistics
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import aiohttp
from figures import Figure
from holding import settled_size, waits_on
from lab import Daemon, Lab, Snapshot, Target, say, set_up
from spine import show

from waitd.bench.machine import UsageSpan, machine

#: How many waits at 1 s are added at each stage, and how many stages there are; the first is without any.
STAGE, STAGES = 1_000, 5
SETTLING, WINDOW = 4.0, 12.0
#: Between these numbers of waits the memory of one is the slope.
FEW, MANY = 10_000, 60_000
#: The ledger weighs waits so often, seconds.
WEIGHED = 30.0
SATURATING, SATURATED_WINDOW, ROUNDS = 10_000, 10.0, 3
TOLERANCE = 0.1


async def cpu(lab: Lab, stage_waits: int = STAGE) -> Sequence[Figure]:
    """CPU per poke as accounted in the last stage, when the ledger has seen all of them as well, against the slope."""
    rates, used, said = [], [], 0.0
    async with lab.target() as target, lab.daemon("cpu") as daemon:
        for stage in range(STAGES):
            if stage:
                await daemon.submit(waits_on(target, f"stage-{stage}", stage_waits, 1.0))
            await asyncio.sleep(SETTLING)
            before = await Snapshot.take(daemon, target)
            await asyncio.sleep(WINDOW)
            after = await Snapshot.take(daemon, target)
            span, count = UsageSpan.between(before.daemon, after.daemon), after.pokes_since(before)
            rates.append(count / span.wall)
            used.append(span.cpu / span.wall)
            accounted = _total_since(before, after, "waitd_poke_cpu_seconds_total")
            said = accounted / max(count, 1.0)
            say(f"{rates[-1]:,.0f} pokes/s: {span}; the ledger says {said * 1e6:.0f} µs a poke")
    slope = statistics.linear_regression(rates, used).slope
    return [
        Figure("CPU per poke, slope of the process's CPU over the poke rate", slope * 1e6, "µs", note=f"{STAGES} stages up to {rates[-1]:,.0f} pokes/s"),
        Figure("CPU per poke, as accounted", said * 1e6, "µs", note=f"in the last stage; {accounted / span.cpu:.0%} of its CPU, the rest is overhead"),
        Figure("  deviation", abs(said / slope - 1) * 100, "%", at_most=TOLERANCE * 100, note="of the one from the other"),
    ]  # fmt: skip


async def memory(lab: Lab) -> Sequence[Figure]:
    """Memory per wait as accounted, against the slope."""
    sizes = []
    async with lab.target() as target, lab.daemon("memory") as daemon:
        for name, count, everyone in (("few", FEW, FEW), ("more", MANY - FEW, MANY)):
            say(f"weighing: {count:,} waits at 1 h, each poked once")
            await daemon.submit(waits_on(target, name, count, 3600.0))
            await daemon.until(lambda metrics, n=everyone: metrics.total("waitd_pokes_total") >= n)  # type: ignore[misc]
            sizes.append(await settled_size(daemon))
        await asyncio.sleep(WEIGHED + 1)
        said = (await daemon.metrics()).total("waitd_resident_bytes_per_wait")
    slope = (sizes[1] - sizes[0]) / (MANY - FEW)
    return [
        Figure("memory per wait, slope of RSS over waits held", slope, "B", note=f"from {FEW:,} to {MANY:,} waits"),
        Figure("memory per wait, as accounted", said, "B"),
        Figure("  deviation", abs(said / slope - 1) * 100, "%", at_most=TOLERANCE * 100, note="of the one from the other"),
    ]  # fmt: skip


async def overhead(lab: Lab) -> Sequence[Figure]:
    """What the accounting itself takes, at saturation."""
    each: dict[str, list[float]] = {"true": [], "false": []}
    for number in range(ROUNDS):
        for enabled, found in each.items():
            async with (
                lab.target() as target,
                lab.daemon(f"saturated-{number}-{enabled}", WAITD_COST__ENABLED=enabled) as daemon,
            ):
                found.append(await _saturated(daemon, target))
            say(f"round {number + 1}, ledger {enabled}: {found[-1] * 1e6:.1f} µs a poke")
    on, off = (statistics.median(found) for found in each.values())
    return [
        Figure("CPU per poke at saturation, ledger off", off * 1e6, "µs", note=_spread(each["false"])),
        Figure("CPU per poke at saturation, ledger on", on * 1e6, "µs", note=_spread(each["true"])),
        Figure("  accounting's share", (on / off - 1) * 100, "%", at_most=2.0, note="of medians; the noise is what the spread says"),
    ]  # fmt: skip


async def _saturated(daemon: Daemon, target: Target) -> float:
    """CPU-seconds a poke while ten times as many are due as fit."""
    await daemon.submit(waits_on(target, "often", SATURATING, 0.1))
    await asyncio.sleep(3.0)
    before = await Snapshot.take(daemon, target)
    await asyncio.sleep(SATURATED_WINDOW)
    after = await Snapshot.take(daemon, target)
    return UsageSpan.between(before.daemon, after.daemon).cpu / after.pokes_since(before)


def _total_since(before: Snapshot, after: Snapshot, name: str) -> float:
    return after.metrics.total(name) - before.metrics.total(name)


def _spread(seconds: Sequence[float]) -> str:
    return "µs: " + ", ".join(f"{one * 1e6:.1f}" for one in seconds)


PARTS = {"cpu": cpu, "memory": memory, "overhead": overhead}


async def measure(parts: Sequence[str], stage: int) -> list[Figure]:
    """The figures of these parts, one after the other."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="waitd-benchmark-") as folder:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as session:
            for part in parts:
                say(f"— {part}")
                lab = Lab(Path(folder), session)
                figures += await (cpu(lab, stage) if part == "cpu" else PARTS[part](lab))
    return figures


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=list(PARTS), help="measure this part (default: all)"
    )
    parser.add_argument("--stage", type=int, default=STAGE, help="how many waits at 1 s a stage adds")
    options = parser.parse_args()
    facts, started = machine(), time.monotonic()
    set_up()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is ended
    figures = asyncio.run(measure(options.only or list(PARTS), options.stage))
    show(figures, facts | {"seconds": round(time.monotonic() - started)})


if __name__ == "__main__":
    main()
