"""What the expressions of a `submit` say of an answer: the handle, and a sentence for people. In the loop where that is cheap, else in a
worker process.
"""

from collections.abc import Mapping
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


class SubmitResponse:
    """An answer as these expressions see it: `waitd.probes.cel.evaluation.Response`, and the idempotency key."""

    __slots__ = ("key", "response")

    def __init__(self, response: ResponseVariables, key: str) -> None:
        self.response = response
        self.key = key

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.response.status

    @property
    def headers(self) -> dict[str, str]:
        """By lower-case names."""
        return self.response.headers

    @property
    def body(self) -> Any:
        """The body as JSON; None where it is none."""
        return self.response.body

    @property
    def text(self) -> str:
        """The body as text."""
        return self.response.text


async def evaluate_handle(
    source: str, seen: SubmitResponse, limiter: CapacityLimiter
) -> JobHandle | ErrorValue | None:
    """The handle that an answer names; None where it says null, Trouble where there is none.

    Raises:
        anyio.BrokenWorkerProcess, MemoryError: the expression asked for more memory than there is.
    """
    value = await _value(source, seen, limiter)
    return value if value is None or isinstance(value, ErrorValue) else _handle(value)


async def evaluate_refusal(source: str | None, seen: SubmitResponse, limiter: CapacityLimiter) -> str | None:
    """The sentence that an expression makes of an answer; None where there is none. Raises as `evaluate_handle` does."""
    value = None if source is None else await _value(source, seen, limiter)
    return value[:MESSAGE_LIMIT] if isinstance(value, str) and not isinstance(value, ErrorValue) else None


async def _value(source: str, seen: SubmitResponse, limiter: CapacityLimiter) -> Any:
    response = seen.response
    if response.raw is None:
        return ErrorValue("the body is over 1 MiB")
    size = len(response.raw) + sum(map(len, response.headers.values()))
    expression = HANDLE_ENV.compile(source)
    if size <= INLINE_BODY and expression.cost(size, size // 2) <= INLINE_COST:
        return expression.evaluate(seen)
    parts = (response.status, response.headers, response.raw, response.charset)
    return await run_in_worker(_in_worker, source, seen.key, *parts, limiter=limiter)


def _in_worker(source: str, key: str, *response: Any) -> Any:
    return HANDLE_ENV.compile(source).evaluate(SubmitResponse(ResponseVariables(*response), key))


def _handle(value: Any) -> JobHandle | ErrorValue:
    """A value as a handle: text, a whole number, or a map of plain values."""
    if isinstance(value, Mapping):
        if not value or not all(isinstance(name, str) and _is_plain(item) for name, item in value.items()):
            return ErrorValue("it is no map of strings, numbers and booleans")
        handle: JobHandle = dict(value)
    elif isinstance(value, str | int) and not isinstance(value, bool) and value != "":
        handle = value
    else:
        return ErrorValue("it is neither a string, nor a whole number, nor a map of them")
    try:
        size = len(orjson.dumps(handle))
    except TypeError:  # text that is no Unicode, a number of more than 64 bits
        return ErrorValue("it cannot be written as JSON")
    return ErrorValue(f"it has more than {MAX_HANDLE} bytes") if size > MAX_HANDLE else handle


def _is_plain(value: Any) -> bool:
    return isinstance(value, str | int | float)
