"""Hostile answers to the clients of services: each ends with an error, soon."""

import asyncio
import gzip

import pytest
from stream_server import stream_server

from waitd.outgoing import EgressGuard, JsonClient, JsonResponse

MIB = 1 << 20
OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
GZIP = OK + b"Content-Encoding: gzip\r\nContent-Length: %d\r\n\r\n"


class RequestFailedError(Exception):
    pass


def gzipped(body: bytes) -> bytes:
    return GZIP % len(body) + body


async def request(answer: bytes) -> JsonResponse:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        await reader.read()  # until the client closes the connection

    client = JsonClient(EgressGuard(), RequestFailedError, max_bytes=100_000, timeout=10)
    async with stream_server(serve) as port, client:
        return await client.request("GET", f"http://127.0.0.1:{port}/", service="the service")


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 100 \r\n\r\n" * 500_000, "valid HTTP"),
        (b"\r\n" * 4_000_000, "valid HTTP"),
        (OK + b"X: y\r\n" * 100_000, "valid HTTP"),
        (CHUNKED + b"1;" + b"x" * 8 * MIB, "too large"),
        (CHUNKED + (b"1;" + b"x" * 500 + b"\r\nx\r\n") * 20_000, "too large"),
        (CHUNKED + b"1\r\nx\r\n0\r\n" + b"X: y\r\n" * 1_000_000, "valid HTTP"),
        (gzipped(gzip.compress(b"") * 4_000), "too large"),
        (gzipped(gzip.compress(b"1")[:-1]), "cannot be decoded"),
    ],
    ids=["1xx", "blank lines", "fields", "extension", "extensions", "trailer", "members", "truncated gzip"],
)
async def test_a_hostile_answer_is_an_error(answer: bytes, message: str) -> None:
    with pytest.raises(RequestFailedError, match=message):
        await request(answer)


async def test_a_bomb_is_not_inflated() -> None:
    assert (await request(gzipped(gzip.compress(bytes(64 * MIB))))).body is None


async def test_a_compressed_answer_is_decoded() -> None:
    assert (await request(gzipped(gzip.compress(b'{"a": 1}')))).fields == {"a": 1}


@pytest.mark.parametrize("at_once", [True, False])
async def test_a_second_answer_is_not_that_of_the_next_request(at_once: bool) -> None:
    connections: list[asyncio.StreamWriter] = []
    answer = OK + b"Content-Length: 1\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connections.append(writer)
        await reader.readuntil(b"\r\n\r\n")
        if len(connections) == 1:
            writer.write(answer + b"1" + (answer + b"2" if at_once else b""))
        else:
            writer.write(answer + b"3")
        await reader.read()  # until the client closes the connection
        writer.close()

    client = JsonClient(EgressGuard(), RequestFailedError, max_bytes=100, timeout=10)
    async with stream_server(serve) as port, client:
        url = f"http://127.0.0.1:{port}/"
        assert (await client.request("GET", url, service="the service")).body == 1
        if not at_once:
            connections[0].write(answer + b"2")
            async with asyncio.timeout(60):
                await connections[0].wait_closed()
        assert (await client.request("GET", url, service="the service")).body == 3
