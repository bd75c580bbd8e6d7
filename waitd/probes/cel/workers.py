"""Worker processes for what is too heavy for the loop: bounded in memory, and killed when the caller's time is over."""

import resource
from collections.abc import Callable
from typing import Any

from anyio import CapacityLimiter, to_process
from anyio.lowlevel import checkpoint

#: How many a probe uses at a time.
WORKERS = 2
#: The address space of a worker: an expression can ask for far more memory than it is given.
WORKER_MEMORY = 1 << 30


async def apart(function: Callable[..., Any], *args: Any, limiter: CapacityLimiter) -> Any:
    """What `function`, of a module that is cheap to import, returns in a worker process.

    Raises:
        anyio.BrokenWorkerProcess, MemoryError: it asked for more memory than there is.
    """
    await checkpoint()
    return await to_process.run_sync(_bounded, function, *args, cancellable=True, limiter=limiter)


def _bounded(function: Callable[..., Any], *args: Any) -> Any:
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft > WORKER_MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (WORKER_MEMORY, hard))
    return function(*args)
