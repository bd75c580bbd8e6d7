"""Connections that are used again: only those that can be trusted, and none for longer than it may be."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from stream_server import stream_server

from waitd.probes.transport.pool import CLOSED_WHILE_IDLE, ConnectionPool
from waitd.probes.transport.response import InvalidHttp


def answer(body: bytes, *lines: str) -> bytes:
    head = "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *lines, "", ""])
    return head.encode() + body


class Server:
    """Answers the n-th request, on whatever connection it comes, with `script[n]`; counts connections."""

    def __init__(self, script: list[bytes]) -> None:
        self.script = script
        self.asked = 0
        self.heads: list[str] = []
        self.connections: list[asyncio.StreamWriter] = []
        self.url = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                self.asked += 1
                writer.write(self.script[self.asked - 1])
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def asking(*script: bytes, keepalive: float = 30.0) -> AsyncIterator[tuple[Server, ConnectionPool]]:
    served = Server(list(script))
    async with stream_server(served.serve) as port:
        served.url = f"http://127.0.0.1:{port}/x"
        connector = aiohttp.TCPConnector(limit=0)
        pool = ConnectionPool(connector, {"Accept": "*/*"}, keepalive=keepalive)
        try:
            yield served, pool
        finally:
            pool.close()
            await connector.close()


async def body(pool: ConnectionPool, url: str, method: str = "GET") -> bytes:
    response = await pool.request(method, url, None, True)
    content = b""
    while not response.at_eof():
        content += await response.readany()
    return content


async def test_a_connection_is_used_again() -> None:
    async with asking(answer(b"one"), answer(b"two")) as (server, pool):
        assert [await body(pool, server.url) for _ in range(2)] == [b"one", b"two"]
        assert len(server.connections) == 1


@pytest.mark.parametrize(
    "surplus",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", b"HTTP/1.1 200 OK\r\nX-Half: ", b"garbage"],
)
async def test_what_comes_after_an_answer_is_never_taken_for_the_next(surplus: bytes) -> None:
    async with asking(answer(b"one") + surplus, answer(b"two")) as (server, pool):
        assert [await body(pool, server.url) for _ in range(2)] == [b"one", b"two"]
        assert len(server.connections) == 2


async def test_the_body_that_a_head_request_does_not_have_is_not_waited_for() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with asking(head, answer(b"two")) as (server, pool):
        assert await body(pool, server.url, "HEAD") == b""
        assert await body(pool, server.url) == b"two"
        assert len(server.connections) == 1


async def test_a_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    async with asking(answer(b"one"), answer(b"two")) as (server, pool):
        assert await body(pool, server.url) == b"one"
        server.connections[0].transport.abort()
        assert await body(pool, server.url) == b"two"
        assert len(server.connections) == 2


async def test_an_idle_connection_is_closed_when_it_has_been_kept_long_enough() -> None:
    async with asking(answer(b"one"), keepalive=0.05) as (server, pool):
        assert await body(pool, server.url) == b"one"
        async with asyncio.timeout(10):
            await server.connections[0].wait_closed()


async def test_an_endless_head_is_no_answer() -> None:
    async with asking(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000) as (server, pool):
        with pytest.raises(InvalidHttp, match="too large"):
            await body(pool, server.url)


async def test_a_large_body_that_is_not_read_is_not_taken_in() -> None:
    async with asking(answer(b"z" * 8_000_000)) as (server, pool):
        response = await pool.request("GET", server.url, None, True)
        for _ in range(2_000):  # turns of the loop that the server runs in, too: enough for all of it to come
            await asyncio.sleep(0)
        assert response.unread < 1_000_000
        content = bytearray()
        while not response.at_eof():
            content += await response.readany()
        assert len(content) == 8_000_000


async def test_a_request_that_was_given_up_before_it_left_is_not_sent() -> None:
    async with asking(answer(b"1"), answer(b"2")) as (server, pool):
        assert await body(pool, server.url) == b"1"
        given_up = asyncio.ensure_future(pool.request("GET", server.url, None, True))
        loop = asyncio.get_running_loop()
        loop.call_soon(given_up.cancel)  # it has asked by then, and the turn of the loop is not over
        await asyncio.wait([given_up])
        assert given_up.cancelled()
        assert await body(pool, server.url) == b"2", "on a connection of its own"
        assert (server.asked, len(server.connections)) == (2, 2)


async def test_what_was_begun_and_given_up_before_it_left_is_not_sent() -> None:
    async with asking(answer(b"1"), answer(b"2")) as (server, pool):
        assert await body(pool, server.url) == b"1"
        results: list[object] = []
        sent = pool.send("GET", server.url, None, True, results.append)
        assert sent is not None
        sent.cancel()
        assert await body(pool, server.url) == b"2", "on a connection of its own"
        assert (server.asked, len(server.connections), results) == (2, 2, [])


async def test_without_a_free_connection_nothing_is_begun() -> None:
    async with asking(answer(b"1")) as (server, pool):
        assert pool.send("GET", server.url, None, True, lambda _: None) is None
        assert await body(pool, server.url) == b"1"
        assert server.asked == 1


async def test_who_began_on_a_connection_that_the_server_had_closed_is_told_so() -> None:
    async with asking(answer(b"1")) as (server, pool):
        assert await body(pool, server.url) == b"1"
        server.connections[0].transport.abort()
        results: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        assert pool.send("GET", server.url, None, True, results.set_result) is not None
        assert isinstance(await results, CLOSED_WHILE_IDLE)


async def test_what_comes_before_a_request_has_left_is_not_its_answer() -> None:
    async with asking(answer(b"one"), answer(b"two")) as (server, pool):
        assert await body(pool, server.url) == b"one"
        results: list[object] = []
        connection = pool.send("GET", server.url, None, True, results.append)
        assert connection is not None
        connection.data_received(
            answer(b"stray")
        )  # in the turn of the loop at whose end the request would leave
        assert [type(each) for each in results] == [aiohttp.ServerDisconnectedError]
        assert pool.send("GET", server.url, None, True, results.append) is None, "nobody else gets it"
        assert await body(pool, server.url) == b"two"
        assert (server.asked, len(server.connections)) == (2, 2)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nHTTP/1.1 200",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ],
)
async def test_a_connection_is_not_used_again_where_more_than_a_head_answered_a_head(head: bytes) -> None:
    async with asking(head, answer(b"two")) as (server, pool):
        assert await body(pool, server.url, "HEAD") == b""
        assert await body(pool, server.url) == b"two"
        assert len(server.connections) == 2


async def test_a_connection_of_a_route_that_is_not_kept_any_more_is_closed_after_its_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("waitd.probes.transport.pool._MAX_ROUTES", 1)
    async with asking(answer(b"1"), answer(b"2")) as (server, pool):
        asked = asyncio.ensure_future(body(pool, server.url))
        await asyncio.sleep(0)  # it has a route now, and no connection that is free
        assert await body(pool, server.url.replace("127.0.0.1", "localhost")) in {b"1", b"2"}
        await asked
        async with asyncio.timeout(10):
            await asyncio.wait(
                [asyncio.ensure_future(each.wait_closed()) for each in server.connections],
                return_when=asyncio.FIRST_COMPLETED,
            )


async def test_a_requests_own_headers_win_over_the_common_ones_however_they_are_written() -> None:
    async with asking(*[answer(b"")] * 2) as (server, pool):
        await pool.request("GET", server.url, {"accept": "text/csv", "X-One": "1"}, True)
        await pool.request("GET", server.url, {"X-One": "1"}, True)
    own, common = (head.split("\r\n")[2:-2] for head in server.heads)
    assert sorted(own) == ["X-One: 1", "accept: text/csv"]
    assert sorted(common) == ["Accept: */*", "X-One: 1"]


@pytest.mark.parametrize(
    "headers", [{"X": "a\rb"}, {"X": "a\nb"}, {"X": "a\r\nY: b"}, {"X\r\n": "a"}, {"X": "\0"}]
)
async def test_no_header_makes_another(headers: dict[str, str]) -> None:
    async with asking(answer(b"")) as (server, pool):
        with pytest.raises(ValueError, match="control character"):
            await pool.request("GET", server.url, headers, True)
    assert server.heads == []
