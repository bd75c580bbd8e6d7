"""Pokes of an origin that hung for a minute: no more than before, and then as before."""

import asyncio
import os
import signal
from collections.abc import Sequence
from itertools import pairwise

from figures import Figure
from lab import POKES, MeasuredDaemon, running_daemon, running_target, say, waits_on

WAITS, POKE_INTERVAL, HANG = 10_000, 20.0, 60.0
#: How long it is watched before and after the fault, in seconds.
BEFORE, AFTER = 60, 120
#: For how many seconds the rate from before is the limit, and how far a second may exceed it.
HELD, SPREAD = 30, 1.3


async def measure() -> Sequence[Figure]:
    """Runs one daemon; prints the pokes answered in each second."""
    async with running_target() as target, running_daemon() as daemon:
        say(f"{WAITS:,} waits at {POKE_INTERVAL:g} s on an origin that then hangs for {HANG:g} s")
        await daemon.submit(waits_on(target, WAITS, POKE_INTERVAL))
        await asyncio.sleep(2 * POKE_INTERVAL)
        usual = max(await curve(daemon, BEFORE))
        os.kill(target.pid, signal.SIGSTOP)
        try:
            await asyncio.sleep(HANG)
        finally:
            os.kill(target.pid, signal.SIGCONT)
        back = await curve(daemon, AFTER)
    say(f"answered pokes a second, at most before: {usual}; since the return: {back}")
    return [
        Figure("pokes in the busiest second of the first 30 after a fault", max(back[:HELD]), "/s", at_most=SPREAD * usual, note=f"{usual} before; {back[:6]} in the first seconds"),
        Figure("  until two minutes after it", max(back), "/s", at_most=2 * usual),
        Figure("  in the last 20 seconds of them, on average", sum(back[-20:]) / 20, "/s", at_least=0.8 * WAITS / POKE_INTERVAL),
    ]  # fmt: skip


async def curve(daemon: MeasuredDaemon, seconds: int) -> list[int]:
    """How many pokes were answered in each of so many seconds."""
    loop = asyncio.get_running_loop()
    begin, totals = loop.time(), []
    for second in range(seconds + 1):
        await asyncio.sleep(begin + second - loop.time())
        metrics = await daemon.metrics()
        totals.append(
            sum(
                int(value)
                for (name, labels), value in metrics.items()
                if name == POKES and ("verdict", "pending") in labels
            )
        )
    return [later - earlier for earlier, later in pairwise(totals)]
