"""Runs work that could block the event loop in worker processes with limited memory."""

import asyncio
import resource
from collections.abc import Callable
from typing import Any, TypeVar

from anyio import CapacityLimiter, to_process
from anyio.lowlevel import checkpoint

#: How many worker processes a probe uses at a time.
WORKERS = 2
#: The address space of a worker, in bytes: an expression can build values far larger than its
#: input.
WORKER_MEMORY = 1 << 30
#: The longest that a worker evaluates one expression, in seconds: others wait for the worker.
WORKER_SECONDS = 10.0
#: The share of a poke's remaining time that workers get, so that their verdict comes before the
#: poke times out.
_WORKER_SHARE = 0.9

_Result = TypeVar("_Result")


async def run_in_worker(function: Callable[..., _Result], *args: Any, limiter: CapacityLimiter) -> _Result:
    """Runs `function` in a worker process and returns its result.

    The worker imports the function's module, which should be cheap to import. Cancellation kills
    the worker.

    Raises:
        anyio.BrokenWorkerProcess, MemoryError: the function needed more memory than a worker has.
    """
    await checkpoint()
    return await to_process.run_sync(_limit_memory, function, *args, cancellable=True, limiter=limiter)


def worker_timeout(left: float, sharers: int) -> asyncio.Timeout:
    """Limits the time of one of several evaluations that share the time left for a poke.

    Args:
        left: the time left, in seconds.
        sharers: how many evaluations are left, this one included.
    """
    return asyncio.timeout(min(max(left * _WORKER_SHARE / sharers, 0.0), WORKER_SECONDS))


def _limit_memory(function: Callable[..., _Result], *args: Any) -> _Result:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft > WORKER_MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (WORKER_MEMORY, hard))
    return function(*args)
