"""The client of the API, before a server that is none: what it reads is bounded."""

import asyncio
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from daemon import serving
from stream_server import stream_server

from waitd import client as client_module
from waitd.client import Client, DaemonUnreachable, RequestRefused
from waitd.core.http import server_sent_events

LIMIT = 64 * 1024
#: What the buffers of both ends and of aiohttp may hold besides what is read.
BUFFERED = 16 * 1024 * 1024
PIECE = b"x" * 65_536


@pytest.fixture(autouse=True)
def small_limits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client_module, "MAX_ANSWER", LIMIT)
    monkeypatch.setattr(server_sent_events, "MAX_EVENT", LIMIT)


@asynccontextmanager
async def endless(head: bytes, part: Callable[[], bytes]) -> AsyncIterator[tuple[Client, list[int]]]:
    """A client of a server that sends `head` and parts without end, and the sizes of those."""
    sent: list[int] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(head)
        while sum(sent) < 4 * BUFFERED:
            data = part()
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(0)
            sent.append(len(data))

    async with stream_server(answer) as port, Client(f"http://127.0.0.1:{port}", timeout=30.0) as client:
        yield client, sent


CHUNKED = b"\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunk(data: bytes = PIECE) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


@pytest.mark.parametrize("status", [b"200 OK", b"500 Sorry"])
@pytest.mark.parametrize(
    ("head", "part"),
    [
        (b"\r\n\r\n", lambda: PIECE),
        (b"\r\nContent-Length: 99999999999\r\n\r\n", lambda: PIECE),
        (CHUNKED, chunk),
    ],
)
async def test_an_endless_answer_is_not_read(status: bytes, head: bytes, part: Callable[[], bytes]) -> None:
    async with endless(b"HTTP/1.1 " + status + head, part) as (client, sent):
        with pytest.raises(RequestRefused, match="more than a waitd daemon"):
            await client.get("some")
        assert sum(sent) < BUFFERED


async def test_a_small_answer_that_becomes_large_is_not_decoded() -> None:
    deflate = zlib.compressobj()
    first, more = (deflate.compress(bytes(1 << 20)) + deflate.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    head = b"HTTP/1.1 200 OK\r\nContent-Encoding: deflate" + CHUNKED + chunk(first)
    async with endless(head, lambda: chunk(more)) as (client, sent):
        with pytest.raises(RequestRefused, match="more than a waitd daemon"):
            await client.metrics()
        assert sum(sent) < BUFFERED


@pytest.mark.parametrize("part", [b"HTTP/1.1 103 Early Hints\r\n\r\n", b"X-Field: 1\r\n"])
async def test_an_endless_head_is_not_read(part: bytes) -> None:
    head = b"" if part.startswith(b"HTTP") else b"HTTP/1.1 200 OK\r\n"
    async with endless(head, lambda: part * 1000) as (client, sent):
        with pytest.raises(DaemonUnreachable):
            await client.get("some")
        assert sum(sent) < BUFFERED


@pytest.mark.parametrize("part", [PIECE, b"data: x\n" * 1000])
async def test_an_endless_line_or_event_ends_the_stream(part: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream" + CHUNKED
    async with endless(head, lambda: chunk(part)) as (client, sent):
        with pytest.raises(RequestRefused, match="more than a waitd daemon"):
            await anext(client.follow())
        assert sum(sent) < BUFFERED


async def test_a_refused_stream_is_bounded_too() -> None:
    async with endless(b"HTTP/1.1 410 Gone" + CHUNKED, chunk) as (client, sent):
        with pytest.raises(RequestRefused, match="more than a waitd daemon"):
            await anext(client.follow("7"))
        assert sum(sent) < BUFFERED


async def test_a_list_is_followed_although_its_pages_end_early() -> None:
    async def page(request: web.Request) -> web.Response:
        start = int(request.query.get("page_token", "0"))
        end = min(start + 2, start + int(request.query["limit"]), 9)
        waits = [{"id": number} for number in range(start, end)]
        token = str(end) if end < 9 else None
        return web.json_response({"waits": waits, "next_page_token": token})

    async with serving("GET", "/v1/waits", page) as url, Client(url) as client:
        assert [wait["id"] for wait in await client.find({}, 5)] == [0, 1, 2, 3, 4]
        assert [wait["id"] async for wait in client.each({})] == list(range(9))
