"""100,000 waits at 10 s, and a million at 60 s: poke lateness, CPU per poke, memory per wait.

Each wait has its own URL, so nothing is coalesced.
"""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple

from figures import Figure
from holding import memory_figure
from lab import MeasuredDaemon, measure_window, running_daemon, running_target, say, waits_on

from waitd.bench.children import JobServer
from waitd.bench.machine import UsageSpan

#: Waits submitted between two looks at the memory.
STEP = 100_000
#: Memory per wait is the slope between these numbers of waits.
FEW, MANY = 100_000, 500_000


class Scale(NamedTuple):
    """A number of waits. Times in seconds.

    Attributes:
        waits: the number of waits.
        poke_interval: of each wait.
        late: the goal for the p99 of poke lateness.
        window: the length of the measurement.
    """

    waits: int
    poke_interval: float
    late: float
    window: float

    def __str__(self) -> str:
        return f"{self.waits:,} waits at {self.poke_interval:g} s"


async def hundred_thousand() -> Sequence[Figure]:
    """100,000 waits at 10 s."""
    return await _measure(Scale(100_000, 10.0, 0.1, 30.0))


async def million() -> Sequence[Figure]:
    """A million waits at 60 s."""
    return await _measure(Scale(1_000_000, 60.0, 0.25, 60.0))


async def _measure(scale: Scale) -> Sequence[Figure]:
    async with running_target() as target, running_daemon() as daemon:
        return [*await _submit(daemon, target, scale), *await _hold(daemon, target, scale)]


async def _submit(daemon: MeasuredDaemon, target: JobServer, scale: Scale) -> Sequence[Figure]:
    say(f"submitting {scale}")
    before = daemon.usage
    sizes: dict[int, int] = {}
    for start in range(0, scale.waits, STEP):
        await daemon.submit(waits_on(target, STEP, scale.poke_interval))
        held = start + STEP
        if held in {FEW, MANY} and scale.waits > MANY:
            await daemon.until_poked(held)
            sizes[held] = await daemon.settled_rss()
        say(f"{held:,}")
    span = UsageSpan.between(before, daemon.usage)
    note = f"while the earlier ones are poked; {span}"
    figures = [Figure(f"accepted a second, up to {scale.waits:,}", scale.waits / span.wall, "/s", note=note)]
    if sizes:
        figures.append(memory_figure(sizes[FEW], sizes[MANY], FEW, MANY, at_most=1_024))
    return figures


async def _hold(daemon: MeasuredDaemon, target: JobServer, scale: Scale) -> Sequence[Figure]:
    settling = 1.5 * scale.poke_interval + 2.0
    say(f"settling for {settling:g} s, then measuring for {scale.window:g} s")
    await asyncio.sleep(settling)
    window = await measure_window(daemon, target, scale.window)
    rates = f"{window.rate:,.0f} pokes/s of {scale.waits / scale.poke_interval:,.0f}"
    return [
        Figure(f"poke lateness p50, {scale}", window.lateness(0.5), "ms", note=rates),
        Figure(f"poke lateness p99, {scale}", window.lateness(0.99), "ms", at_most=scale.late * 1e3, note=str(window.daemon)),
        Figure("  CPU per poke", window.cpu_per_poke, "µs", note=f"the target's own {window.target_cpu_per_poke:.0f} µs"),
        Figure("  memory of the daemon", daemon.usage.rss / 2**20, "MiB"),
    ]  # fmt: skip
