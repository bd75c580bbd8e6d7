"""Counts how long the turns of a daemon's event loop take.

    python tests/benchmarks/loop_turns.py waitd serve      with LOOP_TURNS=FILE

A turn is what the loop does before it returns to a timer of one millisecond. Its lag is how late
the timer is; its CPU time is what the loop's thread used, which a busy machine does not change.
"""

import asyncio
import mmap
import os
import sys
import time
from pathlib import Path
from typing import NamedTuple

from waitd.app import run
from waitd.bench.quantiles import bucket_quantile, cumulative
from waitd.cli import main

VARIABLE = "LOOP_TURNS"
#: How often the timer fires, in seconds.
TICK_SECONDS = 0.001
#: Counts by whole milliseconds; the last one takes all longer turns.
BUCKETS = 4096
_COUNT_BYTES = 8


class Turns(NamedTuple):
    """How many turns took how many milliseconds: their lag, and their CPU time."""

    lag: list[int]
    cpu: list[int]

    @classmethod
    def read(cls, file: Path) -> "Turns":
        """Returns the counts that a daemon has written so far."""
        counts = memoryview(file.read_bytes()).cast("Q").tolist()
        return cls(counts[:BUCKETS], counts[BUCKETS:])

    def since(self, before: "Turns") -> "Turns":
        """Returns what was counted after `before`."""
        return Turns(
            *(
                [now - then for now, then in zip(*each, strict=True)]
                for each in zip(self, before, strict=True)
            )
        )


def p99(counts: list[int]) -> float:
    """The 99th percentile in milliseconds."""
    bounds = [float(n + 1) for n in range(BUCKETS - 1)]
    return bucket_quantile(cumulative(bounds, counts), 0.99)


def longest(counts: list[int]) -> int:
    """The longest turn in whole milliseconds, rounded up."""
    return max((n + 1 for n, count in enumerate(counts) if count), default=0)


class _Ticker:
    """Counts the turns of one loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop, counts: memoryview) -> None:
        self._loop, self._counts = loop, counts
        self._due, self._cpu = loop.time(), time.thread_time()
        loop.call_soon(self._tick)

    def _tick(self) -> None:
        now, cpu = self._loop.time(), time.thread_time()
        self._counts[_bucket(now - self._due)] += 1
        self._counts[BUCKETS + _bucket(cpu - self._cpu)] += 1
        self._due, self._cpu = now + TICK_SECONDS, cpu
        self._loop.call_at(self._due, self._tick)


def _bucket(seconds: float) -> int:
    return min(max(int(seconds * 1000), 0), BUCKETS - 1)


def _run_measured() -> None:
    with Path(os.environ[VARIABLE]).open("wb+") as file:
        file.truncate(2 * BUCKETS * _COUNT_BYTES)
        counts = memoryview(mmap.mmap(file.fileno(), 0)).cast("Q")
    plain_loop = run.new_loop

    def measured_loop() -> asyncio.AbstractEventLoop:
        loop = plain_loop()
        _Ticker(loop, counts)
        return loop

    run.new_loop = measured_loop
    del sys.argv[0]  # what follows is the command line of `waitd`
    main()


if __name__ == "__main__":
    _run_measured()
