"""Runs work that could block the event loop in worker processes with limited memory."""

import asyncio
import resource
from collections.abc import Callable
from math import inf
from typing import Any, TypeVar

from anyio import BrokenWorkerProcess, CapacityLimiter, to_process
from anyio.lowlevel import RunVar, checkpoint

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
    async with limiter:
        workers = _workers.get(None)
        if workers is None:
            workers = _Workers()
            _workers.set(workers)
        await workers.reserve(function)
        try:
            result = await to_process.run_sync(
                run_with_limited_memory, function, *args, cancellable=True, limiter=workers.unlimited
            )
        except (asyncio.CancelledError, BrokenWorkerProcess):
            raise  # the worker is gone
        except BaseException:
            workers.idle += 1
            raise
        workers.idle += 1
        return result


class _Workers:
    """Counts the idle workers, and starts more in tasks that no cancellation of a call ends.

    anyio forgets the process of a call that is cancelled while its worker starts. Many short pokes
    would leave many processes, and none of them would ever be used.
    """

    def __init__(self) -> None:
        self.idle = 0
        self.unlimited = CapacityLimiter(inf)
        self._starting: asyncio.Task[None] | None = None

    async def reserve(self, function: Callable[..., object]) -> None:
        """Takes an idle worker, or waits for a new one, which imports the module of `function`."""
        while not self.idle:
            if self._starting is None:
                self._starting = asyncio.create_task(
                    to_process.run_sync(_import_only, function, limiter=self.unlimited)
                )
                self._starting.add_done_callback(self._on_started)
            await asyncio.shield(self._starting)
        self.idle -= 1

    def _on_started(self, task: "asyncio.Task[None]") -> None:
        self._starting = None
        self.idle += not task.cancelled() and task.exception() is None


#: The workers of the event loop.
_workers: RunVar[_Workers] = RunVar("_workers")


def _import_only(_function: Callable[..., object]) -> None:
    """Does nothing: reading the argument has imported its module."""


def worker_timeout(left: float, sharers: int) -> asyncio.Timeout:
    """Limits the time of one of several evaluations that share the time left for a poke.

    Args:
        left: the time left, in seconds.
        sharers: how many evaluations are left, this one included.
    """
    return asyncio.timeout(min(max(left * _WORKER_SHARE / sharers, 0.0), WORKER_SECONDS))


def run_with_limited_memory(function: Callable[..., _Result], *args: Any) -> _Result:
    """Runs `function` in this process, whose address space stays limited to WORKER_MEMORY.

    Raises:
        MemoryError: it needed more.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if soft == resource.RLIM_INFINITY or soft > WORKER_MEMORY:
        resource.setrlimit(resource.RLIMIT_AS, (WORKER_MEMORY, hard))
    return function(*args)
