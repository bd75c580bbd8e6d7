"""Compares the cost ledger's figures about waitd with those of the operating system.

CPU: waits are added in stages; the slope of the process's CPU rate over its poke rate is the CPU
per poke, and the ledger must agree. Memory: the slope of resident memory over held waits. Overhead:
a saturated daemon with and without the ledger, alternating, so that noise affects both.
"""

import asyncio
import statistics
from collections.abc import Sequence

from figures import Figure
from lab import measure_window, running_daemon, running_target, saturate, say, waits_on

#: Waits at 1 s added at each stage, and the number of stages; the first has none.
STAGE_WAITS, STAGES = 1_000, 5
SETTLING, WINDOW = 4.0, 12.0
#: Memory per wait is the slope between these numbers of waits.
FEW, MANY = 10_000, 60_000
#: Seconds between two measurements of memory by the ledger.
MEMORY_EVERY = 30.0
ROUNDS = 3
#: Goals: the deviation of the ledger, and its share of the CPU at saturation, in percent.
DEVIATION, OVERHEAD = 10.0, 2.0


async def cpu() -> Sequence[Figure]:
    """CPU per poke in the last stage by the ledger, against the slope over all stages."""
    rates, used = [], []
    async with running_target() as target, running_daemon() as daemon:
        for stage in range(STAGES):
            if stage:
                await daemon.submit(waits_on(target, STAGE_WAITS, 1.0))
            await asyncio.sleep(SETTLING)
            window = await measure_window(daemon, target, WINDOW)
            rates.append(window.rate)
            used.append(window.daemon.cpu / window.daemon.wall)
            accounted = window.increase("waitd_poke_cpu_seconds_total")
            ledger = accounted / max(window.pokes, 1.0)
            say(f"{rates[-1]:,.0f} pokes/s: {window.daemon}; the ledger says {ledger * 1e6:.0f} µs per poke")
    slope = statistics.linear_regression(rates, used).slope
    return [
        Figure("CPU per poke, slope of the process's CPU over the poke rate", slope * 1e6, "µs", note=f"{STAGES} stages up to {rates[-1]:,.0f} pokes/s"),
        Figure("CPU per poke, by the ledger", ledger * 1e6, "µs", note=f"in the last stage; {accounted / window.daemon.cpu:.0%} of its CPU, the rest is overhead"),
        _deviation(ledger, slope),
    ]  # fmt: skip


async def memory() -> Sequence[Figure]:
    """Memory per wait by the ledger, against the slope."""
    async with running_target() as target, running_daemon() as daemon:
        few, many = await daemon.rss_at(target, (FEW, MANY))
        await asyncio.sleep(MEMORY_EVERY + 1)
        ledger = (await daemon.metrics()).total("waitd_resident_bytes_per_wait")
    slope = (many - few) / (MANY - FEW)
    return [
        Figure("memory per wait, slope of RSS over held waits", slope, "B", note=f"from {FEW:,} to {MANY:,} waits"),
        Figure("memory per wait, by the ledger", ledger, "B"),
        _deviation(ledger, slope),
    ]  # fmt: skip


async def overhead() -> Sequence[Figure]:
    """CPU per poke at saturation with and without the ledger."""
    costs: dict[str, list[float]] = {"true": [], "false": []}
    for number in range(ROUNDS):
        for enabled, values in costs.items():
            async with running_target() as target, running_daemon(cost__enabled=enabled) as daemon:
                values.append((await saturate(daemon, target)).cpu_per_poke)
            say(f"round {number + 1}, ledger {enabled}: {values[-1]:.1f} µs per poke")
    on, off = (statistics.median(values) for values in costs.values())
    return [
        Figure("CPU per poke at saturation, ledger off", off, "µs", note=_listed(costs["false"])),
        Figure("CPU per poke at saturation, ledger on", on, "µs", note=_listed(costs["true"])),
        Figure("  the ledger's share", (on / off - 1) * 100, "%", at_most=OVERHEAD, note="of the medians"),
    ]  # fmt: skip


def _deviation(ledger: float, slope: float) -> Figure:
    return Figure("  deviation", abs(ledger / slope - 1) * 100, "%", at_most=DEVIATION)


def _listed(values: Sequence[float]) -> str:
    return "µs: " + ", ".join(f"{value:.1f}" for value in values)
