"""Reading what was sent: bounded while it arrives, and in portions that leave the event loop to others."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from time import monotonic

from aiohttp import web

from waitd.api.problems import refusal
from waitd.models import MAX_BATCH_BODY, MAX_BATCH_LINES, MAX_BODY

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
        ProblemError: 413, it is over `MAX_BODY` bytes.
    """
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large(MAX_BODY)
    body = bytearray()
    async for chunk in request.content.iter_any():
        body += chunk
        if len(body) > MAX_BODY:
            raise _too_large(MAX_BODY)
    return bytes(body)


async def read_lines(request: web.Request) -> AsyncIterator[Sequence[bytes | None]]:
    """The lines of a batch, without their ends, as they arrive; None stands for a line of more than `MAX_BODY` bytes.

    Raises:
        ProblemError: 413, more than `MAX_BATCH_BODY` bytes or `MAX_BATCH_LINES` lines.
    """
    if (request.content_length or 0) > MAX_BATCH_BODY:
        raise _too_large(MAX_BATCH_BODY)
    splitter, size, count = LineSplitter(), 0, 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
        if size > MAX_BATCH_BODY:
            raise _too_large(MAX_BATCH_BODY)
        lines = splitter.feed(chunk)
        count += len(lines)
        _check_count(count)
        yield lines
    last = splitter.end()
    _check_count(count + len(last))
    yield last


class LineSplitter:
    """Cuts chunks into lines; what is too long for a line is not kept."""

    def __init__(self, max_line: int = MAX_BODY) -> None:
        self._max = max_line
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> Sequence[bytes | None]:
        """The lines that end in `chunk`."""
        first, *others = chunk.split(b"\n")
        self._keep(first)
        if not others:
            return ()
        *whole, last = others
        lines = [self._taken(), *(line if len(line) <= self._max else None for line in whole)]
        self._keep(last)
        return lines

    def end(self) -> Sequence[bytes | None]:
        """The last line, where it has no line end."""
        return (self._taken(),) if self._rest else ()

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
