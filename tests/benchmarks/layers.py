"""Measures the CPU time of one operation by ever more layers of waitd, in this process.

The smallest of the rounds counts: whatever else the machine does only adds.
"""

import argparse
import asyncio
import gc
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import aiohttp
import uvloop
from figures import Figure, print_figures
from lab import CORES, running_target, say, use_other_cores

from waitd.bench.children import JobServer
from waitd.bench.machine import machine
from waitd.core.waits.wait import EMPTY_PROGRESS, Progress
from waitd.ports import Probe
from waitd.probes.transport.pool import ConnectionPool

#: The number of different URLs, and of requests at the same time.
URLS, CONCURRENCY = 2_000, 64
#: Seconds.
WARM_UP, WINDOW = 1.0, 4.0
HEADERS = {"User-Agent": "waitd", "Accept": "*/*"}

#: Measures one layer against a target; returns CPU seconds per operation.
Layer = Callable[[JobServer], Awaitable[float]]


class PolledWait(NamedTuple):
    """What a probe sees of a wait."""

    target: Any
    progress: Progress = EMPTY_PROGRESS


async def cpu_in_window(count: Callable[[], float]) -> float:
    """CPU seconds of this process per counted operation."""
    before, cpu = count(), time.process_time()
    await asyncio.sleep(WINDOW)
    return (time.process_time() - cpu) / (count() - before)


async def cpu_per_call(call: Callable[[int], Awaitable[object]]) -> float:
    """CPU seconds of a coroutine that gets the number of its URL."""
    done, stopped = 0, False

    async def worker(n: int) -> None:
        nonlocal done
        while not stopped:
            await call(n % URLS)
            done += 1
            n += CONCURRENCY

    workers = [asyncio.create_task(worker(first)) for first in range(CONCURRENCY)]
    await asyncio.sleep(WARM_UP)
    cpu = await cpu_in_window(lambda: done)
    stopped = True
    await asyncio.gather(*workers)
    return cpu


async def cpu_per_start(
    call: Callable[[int], Awaitable[object]], start: Callable[[int, Callable[[object], None]], object]
) -> float:
    """CPU seconds of an operation that is started with a callback.

    `call` opens the connections before.
    """
    done, stopped = 0, False

    def repeat(n: int) -> None:
        def on_done(_: object) -> None:
            nonlocal done, n
            done += 1
            n += CONCURRENCY
            if not stopped and start(n % URLS, on_done) is None:
                raise RuntimeError("there is no idle connection")

        start(n, on_done)

    await asyncio.gather(*map(call, range(CONCURRENCY)))
    for first in range(CONCURRENCY):
        repeat(first)
    await asyncio.sleep(WARM_UP)
    cpu = await cpu_in_window(lambda: done)
    stopped = True
    await asyncio.sleep(WARM_UP)
    return cpu


async def cpu_per_poke(probe: Probe, groups: Sequence[Sequence[PolledWait]]) -> float:
    """CPU seconds of a poke on each of URLS groups of waits, as the poker starts it."""
    return await cpu_per_start(
        lambda n: probe.poke(groups[n]), lambda n, on_done: probe.start_poke(groups[n], on_done)
    )


@asynccontextmanager
async def connection_pool() -> AsyncIterator[ConnectionPool]:
    """waitd's connection pool."""
    async with aiohttp.TCPConnector(limit=0) as connector:
        pool = ConnectionPool(connector, HEADERS)
        yield pool
        pool.close()


async def _measure(layers: Mapping[str, Layer], rounds: int, *, with_s3: bool) -> Sequence[Figure]:
    async with running_target(with_s3=with_s3) as target:
        os.sched_setaffinity(0, CORES.measured)
        gc.set_threshold(5000, 2, 1000)  # as the daemon does
        measured: dict[str, list[float]] = {name: [] for name in layers}
        for number in range(rounds):
            for name, layer in layers.items():
                measured[name].append(await layer(target) * 1e6)
            say(f"round {number + 1}: " + ", ".join(f"{values[-1]:.1f} µs" for values in measured.values()))
    return [
        Figure(name, min(values), "µs", note="of " + ", ".join(f"{value:.1f}" for value in values))
        for name, values in measured.items()
    ]


def main(layers: Mapping[str, Layer], description: str | None, *, with_s3: bool = False) -> None:
    """Runs the command line of a script that measures layers."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3, help="how often each layer is measured (default: 3)")
    parser.add_argument("--only", default="", help="only layers whose names contain this")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    facts = machine()
    use_other_cores()
    chosen = {name: layer for name, layer in layers.items() if options.only in name}
    figures = uvloop.run(_measure(chosen, options.rounds, with_s3=with_s3))
    print_figures(figures, facts, as_json=options.json)
