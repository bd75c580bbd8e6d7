"""Reads request bodies within limits of size, time and nesting, and writes JSON responses.

Long work on one body yields to the event loop: see `waitd.api.server.turns`.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple, cast

import orjson
from aiohttp import HttpVersion11, hdrs, web

from waitd import exact_json
from waitd.api.problems import MAX_PROBLEMS, refusal
from waitd.api.server.connection import ApiConnection
from waitd.api.server.loopback_guard import JSON
from waitd.api.server.seats import take_seat
from waitd.core.errors import InvalidInput, Problem
from waitd.core.repeated_fields import may_repeat, repeated_fields
from waitd.models import MAX_BATCH_BODY, MAX_BATCH_LINES, MAX_BODY, pointer

#: How deep objects and arrays may nest. JSON writers have lower limits than readers.
MAX_DEPTH = 64
#: How long the body of one request and that of a batch may take to arrive, in seconds.
BODY_SECONDS = 30.0
BATCH_SECONDS = 300.0
#: How long a batch may pause, in seconds, and how fast it must arrive apart from that.
PAUSE_SECONDS = 30.0
BATCH_BYTES_PER_SECOND = 16 * 1024


class MalformedBody(InvalidInput):
    """A body that is not JSON, or whose fields do not have the form that the call takes."""


async def read_body(request: web.Request) -> bytes:
    """Reads the body of a request that is not a batch; the request takes its seat then.

    Raises:
        ProblemError: 413, it is larger than `MAX_BODY`; 408, it did not arrive in time.
    """
    await _accept(request, MAX_BODY)
    body = bytearray()
    deadline = _now() + BODY_SECONDS
    while chunk := await _next_chunk(request, deadline):
        body += chunk
        if len(body) > MAX_BODY:
            raise _too_large(MAX_BODY)
    await take_seat(request)
    return bytes(body)


async def read_json(request: web.Request) -> Any:
    """Reads the body of a request and decodes it; raises as `read_body` and `decoded` do."""
    return decoded(await read_body(request))


async def read_no_fields(request: web.Request) -> None:
    """Reads the body of a call that takes no fields: nothing, or an empty object.

    Raises:
        InvalidInput: the body has fields, or is not an object.
    """
    body = await read_body(request)
    fields = decoded(body) if body else {}
    if not isinstance(fields, dict):
        raise InvalidInput.at("", "send no body, or an empty JSON object")
    if fields:
        raise InvalidInput(Problem(pointer([name]), "unknown field; this call takes none") for name in fields)


def json_response(body: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Returns a response with `body` as JSON; bytes are sent as they are."""
    encoded = body if isinstance(body, bytes) else exact_json.dumps(body)
    return web.Response(status=status, body=encoded, headers={"Content-Type": JSON, **(headers or {})})


class BatchLines(NamedTuple):
    """Some lines of a batch, without their ends; None stands for a line longer than `MAX_BODY`.

    Attributes:
        plain: whether every line satisfies `is_plain`.
    """

    lines: Sequence[bytes | None]
    plain: bool


async def read_lines(request: web.Request) -> AsyncIterator[BatchLines]:
    """Yields the lines of a batch as they arrive.

    Raises:
        ProblemError: 413, there are more than `MAX_BATCH_BODY` bytes or `MAX_BATCH_LINES`
            lines; 408, they did not arrive in time.
    """
    await _accept(request, MAX_BATCH_BODY)
    splitter, size, count = LineSplitter(), 0, 0
    started = _now()
    while chunk := await _next_chunk(
        request, started + min(BATCH_SECONDS, PAUSE_SECONDS + size / BATCH_BYTES_PER_SECOND)
    ):
        size += len(chunk)
        if size > MAX_BATCH_BODY:
            raise _too_large(MAX_BATCH_BODY)
        lines = splitter.feed(chunk)
        count += len(lines.lines)
        _check_count(count)
        yield lines
    last = splitter.end()
    _check_count(count + len(last.lines))
    yield last


async def _accept(request: web.Request, limit: int) -> None:
    """Asks for the body if the client waits for that; raises 413 if it says it is too large."""
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    if hdrs.EXPECT in request.headers and request.version >= HttpVersion11:
        await request.writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        request.writer.output_size = 0  # the answer has not begun


async def _next_chunk(request: web.Request, deadline: float) -> bytes:
    """Returns what has arrived since the last call, b"" at the end.

    `deadline`: on the loop's clock.
    """
    if request.content.is_eof():  # a small body comes with its head, so no timer is needed
        return request.content.read_nowait()
    if request.content.total_bytes:
        await asyncio.sleep(0)  # `readany` waits only if nothing is there
    try:
        async with asyncio.timeout_at(deadline):
            chunk = await request.content.readany()
    except TimeoutError:
        raise refusal("request-timeout", "nothing was stored; send it again") from None
    except RuntimeError:  # aiohttp's, if the connection was closed before
        if request.transport is not None:
            raise
        raise web.RequestPayloadError("the connection was closed") from None
    cast(ApiConnection, request.protocol).allow_body(request.content.total_bytes)
    return chunk


def _now() -> float:
    return asyncio.get_running_loop().time()


def is_plain(text: bytes) -> bool:
    """Whether JSON text is printable ASCII without escapes, so that its strings need no check.

    Characters below the space are not valid inside JSON strings; the decoder refuses them.
    """
    return text.isascii() and b"\\" not in text and b"\x7f" not in text


def decoded_field(text: bytes) -> Any:
    """Decodes one field of a body; raises as `decoded` does."""
    return decoded(text, MAX_DEPTH - 1)


def decoded(text: bytes, max_depth: int = MAX_DEPTH) -> Any:
    """Decodes JSON.

    Raises:
        MalformedBody: `text` is not JSON, gives a field twice, or nests deeper than `max_depth`.
    """
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise MalformedBody.at("", f"not JSON: {error}") from None
    if text.count(b"{") + text.count(b"[") > max_depth and _deeper_than(value, max_depth):
        raise MalformedBody.at("", f"nested more than {max_depth} levels deep")
    refuse_repeated(text, orjson.dumps(value))
    return value


def refuse_repeated(text: bytes, encoded: bytes, missing: int = 0) -> None:
    """Refuses JSON text with repeated fields.

    `encoded`: its decoded value, encoded again, where some fields may be `missing`.

    Raises:
        MalformedBody: one problem per repeated field.
    """
    if may_repeat(text, encoded, missing) and (paths := list(islice(repeated_fields(text), MAX_PROBLEMS))):
        raise MalformedBody(Problem(pointer(path), "this field is given more than once") for path in paths)


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
    """Cuts chunks into lines, and drops the content of a line that is too long."""

    def __init__(self, max_line: int = MAX_BODY) -> None:
        self._max = max_line
        self._rest = bytearray()

    def feed(self, chunk: bytes) -> BatchLines:
        """Returns the lines that end in `chunk`; the first may have begun in an earlier chunk."""
        *ended, rest = chunk.split(b"\n")
        if not ended:
            self._keep(rest)
            return BatchLines((), plain=True)
        self._keep(ended[0])
        first = self._take()
        lines: list[bytes | None] = [first, *ended[1:]]
        if max(map(len, ended)) > self._max:
            lines[1:] = [line if len(line) <= self._max else None for line in ended[1:]]
        self._keep(rest)
        return BatchLines(lines, is_plain(chunk) and is_plain(first or b""))

    def end(self) -> BatchLines:
        """Returns the last line if it has no line end."""
        if not self._rest:
            return BatchLines((), plain=True)
        last = self._take()
        return BatchLines((last,), is_plain(last or b""))

    def _keep(self, part: bytes) -> None:
        # One byte over the limit is enough to know that the line is too long.
        self._rest += part[: self._max + 1 - len(self._rest)]

    def _take(self) -> bytes | None:
        line = bytes(self._rest)
        self._rest.clear()
        return line if len(line) <= self._max else None


def _check_count(lines: int) -> None:
    if lines > MAX_BATCH_LINES:
        raise refusal("too-large", f"a batch has at most {MAX_BATCH_LINES} lines; nothing was stored")


def _too_large(limit: int) -> Exception:
    return refusal("too-large", f"at most {limit} bytes; nothing was stored")
