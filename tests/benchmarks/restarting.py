"""A restart with 100,000 waits in the store: how long until somebody is poked again, and until all are in hand."""

import asyncio
from collections.abc import Sequence
from datetime import datetime

from figures import Figure
from lab import Lab, say
from submitter import wait_on

from waitd.bench.jobs import path_of
from waitd.bench.machine import ProcessUsage

WAITS = 100_000
POKE_INTERVAL = 60.0
STORE = "restarting"


async def measure(lab: Lab) -> Sequence[Figure]:
    """Two daemons on one store."""
    async with lab.target() as target:
        say(f"{WAITS:,} waits into a store, each poked once")
        async with lab.daemon(STORE, keep=True) as daemon:
            await daemon.submit(
                [
                    wait_on(target.urls[0] + path_of("endless", 0, str(n)), poke_interval=POKE_INTERVAL)
                    for n in range(WAITS)
                ]
            )
            await daemon.until(lambda metrics: metrics.total("waitd_pokes_total") >= WAITS)
            await daemon.stop()
        await target.seen()
        say("starting again")
        async with lab.daemon(STORE) as daemon:
            loaded = await daemon.logged("loaded")
            usage = ProcessUsage.of(daemon.pid)
            serving = await daemon.logged("serving")
            while (first_at := (await target.seen())["first_at"]) is None:  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.05)
    if loaded["waits"] != WAITS:
        raise RuntimeError(f"{loaded['waits']:,} waits came back")
    after = {event["event"]: _at(event["timestamp"]) - daemon.spawned_at for event in (serving, loaded)}
    return [
        Figure("first poke after a restart with 100,000 waits", first_at - daemon.spawned_at, "s", at_most=5, note=f"from the process's start; it serves after {after['serving']:.2f} s"),
        Figure("  all in hand after", after["loaded"], "s", note=f"{usage.cpu:.2f} s CPU, {usage.kept_waiting:.2f} s kept waiting, {usage.rss / 2**20:.0f} MiB"),
    ]  # fmt: skip


def _at(timestamp: str) -> float:
    return datetime.fromisoformat(timestamp).timestamp()
