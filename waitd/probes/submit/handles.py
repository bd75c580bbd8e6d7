"""Evaluates the expressions of a `submit`: the job's handle, and the message of a refusal.

They never fail, since the call that they are about is done: what cannot be evaluated is an
`ErrorValue`. They are evaluated in the loop where that is cheap, else in a worker process.
"""

from collections.abc import Callable, Mapping
from math import inf, isfinite
from typing import Any, TypeVar

import orjson
from anyio import BrokenWorkerProcess, CapacityLimiter

from waitd.core.waits.submission import JobHandle
from waitd.probes.cel.evaluation import INLINE_BODY, evaluate_message
from waitd.probes.cel.expressions import INLINE_COST, ErrorValue
from waitd.probes.cel.response import ResponseVariables
from waitd.probes.cel.workers import run_in_worker, worker_timeout
from waitd.probes.submit.plan import HANDLE_ENV

#: The largest handle as JSON, in bytes.
MAX_HANDLE = 2048

_Value = TypeVar("_Value")


class SubmitResponse(ResponseVariables, eq=False):
    """The variables of these expressions: a response's, and the idempotency key."""

    key: str = ""

    @classmethod
    def from_response(cls, response: ResponseVariables, key: str) -> "SubmitResponse":
        """Adds the key to a response."""
        return cls(
            response.status,
            response.headers,
            response.content,
            response.charset,
            response.mask,
            key=key,
        )

    def __reduce__(self) -> tuple[Callable[..., "SubmitResponse"], tuple[Any, ...]]:
        """Pickles what was received, as `ResponseVariables` does."""
        create, fields = super().__reduce__()
        return SubmitResponse.from_response, (create(*fields), self.key)


async def evaluate_handle(
    source: str, response: SubmitResponse, limiter: CapacityLimiter
) -> JobHandle | ErrorValue | None:
    """Returns the handle in a response, None for null, or an ErrorValue if it is not a handle."""
    return await _evaluate(_handle, source, response, limiter)


async def evaluate_refusal(
    source: str | None, response: SubmitResponse, limiter: CapacityLimiter
) -> str | None:
    """Returns the message of a refusal; None if there is none."""
    message = None if source is None else await _evaluate(_message, source, response, limiter)
    return None if isinstance(message, ErrorValue) else message


async def _evaluate(
    evaluate: Callable[[str, SubmitResponse], _Value],
    source: str,
    response: SubmitResponse,
    limiter: CapacityLimiter,
) -> _Value | ErrorValue:
    if response.content is None:
        return ErrorValue("the body is over 1 MiB")
    size = len(response.content) + sum(map(len, response.headers.values()))
    if size <= INLINE_BODY and HANDLE_ENV.compile(source).cost(size, size // 2) <= INLINE_COST:
        return evaluate(source, response)
    try:
        async with worker_timeout(inf, 1):
            return await run_in_worker(evaluate, source, response, limiter=limiter)
    except (TimeoutError, BrokenWorkerProcess, MemoryError):
        return ErrorValue("it needs too much time or memory for this body")


# What workers return is checked there: not every value of CEL can be sent to another process.


def _handle(source: str, response: SubmitResponse) -> JobHandle | ErrorValue | None:
    value = HANDLE_ENV.compile(source).evaluate(response)
    return value if value is None or isinstance(value, ErrorValue) else _checked_handle(value)


def _message(source: str, response: SubmitResponse) -> str | None:
    return evaluate_message(HANDLE_ENV.compile(source), response)


def _checked_handle(value: Any) -> JobHandle | ErrorValue:
    """Returns a value as a handle: a string, a whole number, or a map of simple values."""
    if isinstance(value, Mapping):
        if not value or not all(isinstance(name, str) and _is_simple(item) for name, item in value.items()):
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


def _is_simple(value: Any) -> bool:
    """Whether JSON keeps the value: it has neither NaN nor infinity."""
    return isinstance(value, str | int) or (isinstance(value, float) and isfinite(value))
