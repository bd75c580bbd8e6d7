"""Evaluates the expressions of a `submit`: the job's handle, and the message of a refusal.

They are evaluated in the loop where that is cheap, else in a worker process.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson
from anyio import CapacityLimiter

from waitd.core.waits.submission import JobHandle
from waitd.core.waits.verdict import MESSAGE_LIMIT
from waitd.probes.cel.evaluation import INLINE_BODY, ResponseVariables
from waitd.probes.cel.expressions import INLINE_COST, ErrorValue
from waitd.probes.cel.workers import run_in_worker
from waitd.probes.submit.plan import HANDLE_ENV

#: The largest handle as JSON, in bytes.
MAX_HANDLE = 2048


class SubmitResponse(ResponseVariables):
    """The variables of these expressions: a response's, and the idempotency key."""

    __slots__ = ("key",)

    def __init__(self, response: ResponseVariables, key: str) -> None:
        super().__init__(response.status, response.headers, response.raw, response.charset)
        self.key = key

    def __reduce__(self) -> tuple[Callable[..., "SubmitResponse"], tuple[Any, ...]]:
        """Pickles what was received, as `ResponseVariables` does."""
        return SubmitResponse, (
            ResponseVariables(self.status, self.headers, self.raw, self.charset),
            self.key,
        )


async def evaluate_handle(
    source: str, response: SubmitResponse, limiter: CapacityLimiter
) -> JobHandle | ErrorValue | None:
    """Returns the handle in a response, None for null, or an ErrorValue if it is not a handle.

    Raises:
        anyio.BrokenWorkerProcess, MemoryError: the expression needed more memory than a worker has.
    """
    value = await _evaluate(source, response, limiter)
    return value if value is None or isinstance(value, ErrorValue) else _checked_handle(value)


async def evaluate_refusal(
    source: str | None, response: SubmitResponse, limiter: CapacityLimiter
) -> str | None:
    """Returns the message of a refusal; None if there is none. Raises as `evaluate_handle`."""
    value = None if source is None else await _evaluate(source, response, limiter)
    return value[:MESSAGE_LIMIT] if isinstance(value, str) and not isinstance(value, ErrorValue) else None


async def _evaluate(source: str, response: SubmitResponse, limiter: CapacityLimiter) -> Any:
    if response.raw is None:
        return ErrorValue("the body is over 1 MiB")
    size = len(response.raw) + sum(map(len, response.headers.values()))
    if size <= INLINE_BODY and HANDLE_ENV.compile(source).cost(size, size // 2) <= INLINE_COST:
        return _evaluate_here(source, response)
    return await run_in_worker(_evaluate_here, source, response, limiter=limiter)


def _evaluate_here(source: str, response: SubmitResponse) -> Any:
    return HANDLE_ENV.compile(source).evaluate(response)


def _checked_handle(value: Any) -> JobHandle | ErrorValue:
    """Returns a value as a handle: a string, a whole number, or a map of simple values."""
    if isinstance(value, Mapping):
        if not value or not all(
            isinstance(name, str) and isinstance(item, str | int | float) for name, item in value.items()
        ):
            return ErrorValue("a map must have strings, numbers and booleans only, and at least one")
        handle: JobHandle = dict(value)
    elif isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        handle = value
    else:
        return ErrorValue("it must be a string, a whole number, or a map of strings, numbers and booleans")
    try:
        size = len(orjson.dumps(handle))
    except TypeError:  # text that is not Unicode, an integer of over 64 bits
        return ErrorValue("it cannot be written as JSON")
    return ErrorValue(f"it has more than {MAX_HANDLE} bytes") if size > MAX_HANDLE else handle
