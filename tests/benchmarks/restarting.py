"""A restart with 100,000 stored waits: time until the first poke and until all are loaded."""

import asyncio
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from waitd.bench.figures import Figure
from waitd.bench.lab import BATCH, Lab, LabTarget, say

WAITS = 100_000
POKE_INTERVAL = 60.0
STORE = "restarting"


async def measure(lab: Lab) -> Sequence[Figure]:
    """Runs two daemons on one store."""
    async with lab.target() as target:
        say(f"storing {WAITS:,} waits, each poked once")
        await fill_store(lab, target, STORE, POKE_INTERVAL)
        await target.take_arrivals()
        say("restarting")
        async with lab.daemon(STORE, ready=False) as daemon:
            loaded = await daemon.until_logged(all_loaded)
            usage = daemon.usage
            serving = await daemon.until_logged(lambda event: "address" in event)
            while (first_at := (await target.take_arrivals())["first_at"]) is None:  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.05)
    after = [
        datetime.fromisoformat(event["timestamp"]).timestamp() - daemon.spawned_at
        for event in (serving, loaded)
    ]
    return [
        Figure("first poke after a restart with 100,000 waits", first_at - daemon.spawned_at, "s", at_most=5, note=f"from the start of the process; it serves after {after[0]:.2f} s"),
        Figure("  all waits loaded after", after[1], "s", note=f"{usage.cpu:.2f} s CPU, {usage.kept_waiting:.2f} s kept waiting, {usage.rss / 2**20:.0f} MiB"),
    ]  # fmt: skip


async def fill_store(
    lab: Lab, target: LabTarget, store: str, poke_interval: float, **daemon_options: Any
) -> None:
    """Fills a store with WAITS waits that were poked once."""
    async with lab.daemon(store, keep=True, **daemon_options) as daemon:
        endpoint = target.endpoint("endless", f"{store}-")
        await lab.submit(
            daemon, endpoint, count=WAITS, batch=BATCH, connections=1, poke_interval=poke_interval
        )
        await daemon.until_poked(WAITS)
        await daemon.stop()


def all_loaded(event: Mapping[str, Any]) -> bool:
    """Whether a log event contains the number of waits, whatever its name and fields are."""
    return any(value == WAITS for value in event.values() if not isinstance(value, bool))
