"""A restart with 100,000 stored waits: time until the first poke and until all are loaded."""

import asyncio
import time
from collections.abc import Mapping, Sequence
from datetime import datetime
from tempfile import TemporaryDirectory
from typing import Any

from figures import Figure
from lab import MeasuredDaemon, running_daemon, running_target, say, waits_on

from waitd.bench.children import JobServer, stop

WAITS = 100_000
POKE_INTERVAL = 60.0


async def measure() -> Sequence[Figure]:
    """Runs two daemons on one store."""
    with TemporaryDirectory(prefix="waitd-store-") as store:
        async with running_target() as target:
            say(f"storing {WAITS:,} waits, each poked once")
            async with running_daemon(state_dir=store) as daemon:
                await fill_store(daemon, target, POKE_INTERVAL)
            await target.get("/arrivals")  # forgets those until now
            say("restarting")
            spawned_at = time.time()
            async with running_daemon(state_dir=store) as daemon:
                loaded = await daemon.until_logged(all_loaded)
                usage = daemon.usage
                serving = await daemon.until_logged(lambda event: "address" in event)
                while (first_at := (await target.get("/arrivals"))["first_at"]) is None:  # noqa: ASYNC110 - another process's
                    await asyncio.sleep(0.05)
    after = [
        datetime.fromisoformat(event["timestamp"]).timestamp() - spawned_at for event in (serving, loaded)
    ]
    return [
        Figure("first poke after a restart with 100,000 waits", first_at - spawned_at, "s", at_most=5, note=f"from the start of the process; it serves after {after[0]:.2f} s"),
        Figure("  all waits loaded after", after[1], "s", note=f"{usage.cpu:.2f} s CPU, {usage.kept_waiting:.2f} s kept waiting, {usage.rss / 2**20:.0f} MiB"),
    ]  # fmt: skip


async def fill_store(daemon: MeasuredDaemon, target: JobServer, poke_interval: float) -> None:
    """Fills a daemon's store with WAITS waits that were poked once, and stops it."""
    await daemon.submit(waits_on(target, WAITS, poke_interval))
    await daemon.until_poked(WAITS)
    await stop(daemon.process)


def all_loaded(event: Mapping[str, Any]) -> bool:
    """Whether a log event contains the number of waits, whatever its name and fields are."""
    return any(value == WAITS for value in event.values() if not isinstance(value, bool))
