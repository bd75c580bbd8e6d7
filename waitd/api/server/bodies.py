"""Reading what was sent: bounded while it arrives, and in portions that leave the event loop to others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from time import monotonic
from typing import Any, NamedTuple

import orjson
from aiohttp import web

from waitd.api.problems import refusal
from waitd.api.submission.texts import is_plain
from waitd.core.errors import InvalidInput
from waitd.models import MAX_BATCH_BODY, MAX_BATCH_LINES, MAX_BODY

#: How deep objects and arrays may lie in each other. JSON writers have such limits too, and lower ones than readers.
MAX_DEPTH = 64
#: How long a whole body may take to arrive, that of one wait and that of a batch; and how long a batch may pause, all in seconds.
BODY_SECONDS = 30.0
BATCH_SECONDS = 300.0
PAUSE_SECONDS = 30.0
#: How long work on one request may hold the loop before others get a turn, seconds.
TURN = 0.002


class Turns:
    """Leaves the loop to others once this request has held it for a while."""

    def __init__(self) -> None:
        self._until = monotonic() + TURN

    def over(self) -> bool:
        """Whether it is time for `next_turn`."""
        return monotonic() >= self._until

    async def next_turn(self) -> None:
        """Lets everything else that is ready run once."""
        await asyncio.sleep(0)
        self._until = monotonic() + TURN


async def read_body(request: web.Request) -> bytes:
    """The body of one wait.

    Raises:
        ProblemError: 413, it is over `MAX_BODY` bytes; 408, it did not arrive in time.
    """
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large(MAX_BODY)
    body = bytearray()
    limit = _now() + BODY_SECONDS
    while chunk := await _next_chunk(request, limit):
        body += chunk
        if len(body) > MAX_BODY:
            raise _too_large(MAX_BODY)
    return bytes(body)


class Lines(NamedTuple):
    """Some lines of a batch, without their ends; None stands for one of more than `MAX_BODY` bytes. `plain`: all of them are; see
    `is_plain`.
    """

    texts: Sequence[bytes | None]
    plain: bool


async def read_lines(request: web.Request) -> AsyncIterator[Lines]:
    """The lines of a batch as they arrive.

    Raises:
        ProblemError: 413, more than `MAX_BATCH_BODY` bytes or `MAX_BATCH_LINES` lines; 408, it did not arrive in time.
    """
    if (request.content_length or 0) > MAX_BATCH_BODY:
        raise _too_large(MAX_BATCH_BODY)
    splitter, size, count = LineSplitter(), 0, 0
    limit = _now() + BATCH_SECONDS
    while chunk := await _next_chunk(request, min(limit, _now() + PAUSE_SECONDS)):
        size += len(chunk)
        if size > MAX_BATCH_BODY:
            raise _too_large(MAX_BATCH_BODY)
        lines = splitter.feed(chunk)
        count += len(lines.texts)
        _check_count(count)
        yield lines
    last = splitter.end()
    _check_count(count + len(last.texts))
    yield last


async def _next_chunk(request: web.Request, limit: float) -> bytes:
    """What has arrived since the last call; b"" is the end. `limit`: the loop's time until which it is waited for."""
    if request.content.is_eof():  # a small body comes with its head: nothing to wait for, and no timer to set
        return request.content.read_nowait()
    try:
        async with asyncio.timeout_at(limit):
            return await request.content.readany()
    except TimeoutError:
        raise refusal("request-timeout", "nothing was stored; send it again") from None


def _now() -> float:
    return asyncio.get_running_loop().time()


def decoded_part(part: bytes) -> Any:
    """The value of a field of a body; raises as `decoded` does of the body."""
    return decoded(part, MAX_DEPTH - 1)


def decoded(body: bytes, levels: int = MAX_DEPTH) -> Any:
    """The JSON value that `body` is.

    Raises:
        InvalidInput: it is none, or nested deeper than `levels`.
    """
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise InvalidInput.at("", f"not JSON: {error}") from None
    if body.count(b"{") + body.count(b"[") > levels and _deeper_than(value, levels):
        raise InvalidInput.at("", f"nested more than {levels} levels deep")
    return value


def _deeper_than(value: Any, levels: int) -> bool:
    layer = [value]
    for _ in range(levels):
        nested = [item for item in layer if isinstance(item, dict | list)]
        if not nested:
            return False
        layer = [
            item for parent in nested for item in (parent.values() if isinstance(parent, dict) else parent)
        ]
    return any(isinstance(item, dict | list) for item in layer)


class LineSplitter:
    """Cuts chunks into lines; what is too long for a line is not kept."""

    def __init__(self, max_line: int = MAX_BODY) -> None:
        self._max = max_line
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Lines:
        """The lines that end in `chunk`; the first of them may have begun before it."""
        *ended, rest = chunk.split(b"\n")
        if not ended:
            self._keep(rest)
            return Lines((), plain=True)
        self._keep(ended[0])
        first = self._taken()
        lines: list[bytes | None] = [first, *ended[1:]]
        if max(map(len, ended)) > self._max:
            lines[1:] = [line if len(line) <= self._max else None for line in ended[1:]]
        self._keep(rest)
        return Lines(lines, is_plain(chunk) and is_plain(first or b""))

    def end(self) -> Lines:
        """The last line, where it has no line end."""
        if not self._rest:
            return Lines((), plain=True)
        last = self._taken()
        return Lines((last,), is_plain(last or b""))

    def _keep(self, part: bytes) -> None:
        # One byte over the limit is enough to know.
        self._rest += part[: self._max + 1 - len(self._rest)]

    def _taken(self) -> bytes | None:
        line = bytes(self._rest)
        self._rest.clear()
        return line if len(line) <= self._max else None


def _check_count(lines: int) -> None:
    if lines > MAX_BATCH_LINES:
        raise refusal("too-large", f"a batch has at most {MAX_BATCH_LINES} lines; nothing was stored")


def _too_large(limit: int) -> Exception:
    return refusal("too-large", f"at most {limit} bytes; nothing was stored")
