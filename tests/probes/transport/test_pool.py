"""The connection pool: which connections are reused, and what a response may contain."""

import asyncio
import errno
import socket
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import aiohttp
import pytest
from stream_server import stream_server

from waitd.outgoing import Http2Only, IdleConnections, InvalidHttp
from waitd.probes.transport.pool import CLOSED_WHILE_IDLE, ConnectionPool


def answer(body: bytes, *lines: str) -> bytes:
    head = "\r\n".join(["HTTP/1.1 200 OK", f"Content-Length: {len(body)}", *lines, "", ""])
    return head.encode() + body


@dataclass
class Server:
    """Answers the n-th request, on any connection, with `script[n]`."""

    script: Sequence[bytes]
    heads: list[str] = field(default_factory=list)
    connections: list[asyncio.StreamWriter] = field(default_factory=list)
    url: str = ""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections.append(writer)
        try:
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                writer.write(self.script[len(self.heads) - 1])
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def server_and_pool(
    *script: bytes, all_idle: IdleConnections | None = None
) -> AsyncIterator[tuple[Server, ConnectionPool]]:
    server = Server(script)
    async with stream_server(server.serve) as port, aiohttp.TCPConnector(limit=0) as connector:
        server.url = f"http://127.0.0.1:{port}/x"
        pool = ConnectionPool(connector, {"Accept": "*/*"}, all_idle=all_idle)
        try:
            yield server, pool
        finally:
            pool.close()


async def body(pool: ConnectionPool, url: str, method: str = "GET") -> bytes:
    response = await pool.request(method, url, None, True)
    content = b""
    while not response.at_eof():
        content += await response.readany()
    return content


async def test_a_connection_is_reused() -> None:
    async with server_and_pool(answer(b"one"), answer(b"two")) as (server, pool):
        assert [await body(pool, server.url) for _ in range(2)] == [b"one", b"two"]
        assert len(server.connections) == 1


@pytest.mark.parametrize(
    "surplus",
    [b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged", b"HTTP/1.1 200 OK\r\nX-Half: ", b"garbage"],
)
async def test_surplus_data_after_a_response_is_not_the_next_response(surplus: bytes) -> None:
    async with server_and_pool(answer(b"one") + surplus, answer(b"two")) as (server, pool):
        assert [await body(pool, server.url) for _ in range(2)] == [b"one", b"two"]
        assert len(server.connections) == 2


async def test_a_response_to_head_has_no_body() -> None:
    head = b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
    async with server_and_pool(head, answer(b"two")) as (server, pool):
        assert await body(pool, server.url, "HEAD") == b""
        assert await body(pool, server.url) == b"two"
        assert len(server.connections) == 1


async def test_an_idle_connection_that_the_server_closed_is_replaced() -> None:
    async with server_and_pool(answer(b"one"), answer(b"two")) as (server, pool):
        assert await body(pool, server.url) == b"one"
        server.connections[0].transport.abort()
        assert await body(pool, server.url) == b"two"
        assert len(server.connections) == 2


@pytest.mark.parametrize(
    ("field", "seconds"),
    [
        ("Keep-Alive: timeout=75, max=100", 73),
        ("keep-alive: max=5,Timeout=3", 1.5),
        ("Keep-Alive: timeout=0", 0),
    ],
)
async def test_an_idle_connection_is_closed_before_the_server_does_so(
    field: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("waitd.probes.transport.pool._SWEEP_SECONDS", 0.001)
    async with server_and_pool(answer(b"one", field), answer(b"two")) as (server, pool):
        clock = [1000.0]
        pool.time = lambda: clock[0]
        assert await body(pool, server.url) == b"one"
        clock[0] += seconds
        await asyncio.sleep(0.01)  # several sweeps
        assert len(list(pool.idle_connections())) == 1
        clock[0] += 0.001
        async with asyncio.timeout(60):
            await server.connections[0].wait_closed()
        assert await body(pool, server.url) == b"two"


async def test_a_connection_that_was_in_use_during_a_sweep_is_closed_before_the_server_does_so(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("waitd.probes.transport.pool._SWEEP_SECONDS", 0.001)
    async with server_and_pool(answer(b"one", "Keep-Alive: timeout=75"), b"") as (server, pool):
        clock = [1000.0]
        pool.time = lambda: clock[0]
        assert await body(pool, server.url) == b"one"
        second = asyncio.create_task(body(pool, server.url))
        await asyncio.sleep(0.01)  # several sweeps
        server.connections[0].write(answer(b"two"))
        assert await second == b"two"
        clock[0] += 74
        async with asyncio.timeout(60):
            await server.connections[0].wait_closed()


async def test_an_idle_connection_is_kept_as_long_as_the_server_keeps_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("waitd.probes.transport.pool._SWEEP_SECONDS", 0.001)
    async with server_and_pool(answer(b"one"), answer(b"two")) as (server, pool):
        clock = [1000.0]
        pool.time = lambda: clock[0]
        assert await body(pool, server.url) == b"one"
        clock[0] += 86_400
        pool.schedule_sweep()
        await asyncio.sleep(0.01)  # a sweep
        assert await body(pool, server.url) == b"two"
        assert len(server.connections) == 1


async def test_the_least_recently_used_of_all_pools_is_closed_first() -> None:
    idle = IdleConnections(max_connections=2)
    async with (
        server_and_pool(answer(b"1"), answer(b"4"), all_idle=idle) as (first, pool),
        server_and_pool(answer(b"2"), all_idle=idle) as (second, other),
        server_and_pool(answer(b"3"), all_idle=idle) as (third, _),
    ):
        clock = [1000.0]
        pool.time = other.time = lambda: clock[0]
        assert await body(pool, first.url) == b"1"
        clock[0] += 1
        assert await body(other, second.url) == b"2"
        clock[0] += 1
        assert await body(pool, third.url) == b"3"
        async with asyncio.timeout(60):
            await first.connections[0].wait_closed()
        assert [len(list(each.idle_connections())) for each in (pool, other)] == [1, 1]
        assert await body(pool, first.url) == b"4"
        async with asyncio.timeout(60):
            await second.connections[0].wait_closed()


async def test_a_connection_that_the_server_closed_does_not_count_as_idle() -> None:
    idle = IdleConnections(max_connections=1)
    async with (
        server_and_pool(answer(b"one"), all_idle=idle) as (first, pool),
        server_and_pool(answer(b"two"), answer(b"three"), all_idle=idle) as (second, _),
    ):
        assert await body(pool, first.url) == b"one"
        first.connections[0].close()
        async with asyncio.timeout(60):
            while list(pool.idle_connections()):  # noqa: ASYNC110 - the pool has no event for it
                await asyncio.sleep(0.001)
        assert not idle.trim()
        assert [await body(pool, second.url) for _ in range(2)] == [b"two", b"three"]
        assert len(second.connections) == 1, "the closed one no longer counts"


async def test_descriptors_that_run_out_close_idle_connections() -> None:
    full = [False]

    def make_socket(info: Any) -> socket.socket:
        if full[0] and list(pool.idle_connections()):
            raise OSError(errno.EMFILE, "too many open files")
        return socket.socket(*info[:3])

    idle = IdleConnections()
    async with (
        server_and_pool(answer(b"1")) as (first, _),
        server_and_pool(answer(b"2")) as (second, _),
        aiohttp.TCPConnector(limit=0, socket_factory=make_socket) as connector,
    ):
        pool = ConnectionPool(connector, {}, all_idle=idle)
        assert await body(pool, first.url) == b"1"
        full[0] = True
        assert await body(pool, second.url) == b"2"
        async with asyncio.timeout(60):
            await first.connections[0].wait_closed()
        pool.close()


@pytest.mark.parametrize("preface", [b"\0\0\x12\4\0\0\0\0\0" + bytes(18), b"\0\0\x08\7\0\0\0\0\0" + bytes(8)])
async def test_a_server_that_speaks_only_http2_is_named(preface: bytes) -> None:
    async with server_and_pool(preface) as (server, pool):
        with pytest.raises(Http2Only, match="speaks only HTTP/2"):
            await body(pool, server.url)


async def test_a_body_with_a_frame_of_http2_is_invalid() -> None:
    head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n"
    async with server_and_pool(head) as (server, pool):
        response = await pool.request("GET", server.url, None, True)
        assert await response.readany() == b"a"
        server.connections[0].write(b"\0\0\x12\4\0\0\0\0\0" + bytes(18))
        with pytest.raises(InvalidHttp) as raised:
            await response.readany()
        assert type(raised.value) is InvalidHttp


async def test_an_endless_head_is_invalid() -> None:
    async with server_and_pool(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 20_000) as (server, pool):
        with pytest.raises(InvalidHttp, match="too large"):
            await body(pool, server.url)


async def test_an_unread_large_body_is_received_only_in_part() -> None:
    async with server_and_pool(answer(b"z" * 8_000_000)) as (server, pool):
        response = await pool.request("GET", server.url, None, True)
        for _ in range(2_000):  # the server runs in this loop, too, and could send the whole body
            await asyncio.sleep(0)
        assert response.unread < 1_000_000
        content = bytearray()
        while not response.at_eof():
            content += await response.readany()
        assert len(content) == 8_000_000


async def test_a_request_that_is_cancelled_before_it_is_written_is_not_sent() -> None:
    async with server_and_pool(answer(b"1"), answer(b"2")) as (server, pool):
        assert await body(pool, server.url) == b"1"
        request = asyncio.ensure_future(pool.request("GET", server.url, None, True))
        # By then the request is to be written at the end of the turn.
        asyncio.get_running_loop().call_soon(request.cancel)
        await asyncio.wait([request])
        assert request.cancelled()
        assert await body(pool, server.url) == b"2", "on a new connection"
        assert (len(server.heads), len(server.connections)) == (2, 2)


async def test_a_taskless_request_that_is_cancelled_before_it_is_written_is_not_sent() -> None:
    async with server_and_pool(answer(b"1"), answer(b"2")) as (server, pool):
        assert await body(pool, server.url) == b"1"
        results: list[object] = []
        connection = pool.send("GET", server.url, None, True, results.append)
        assert connection is not None
        connection.cancel()
        assert await body(pool, server.url) == b"2", "on a new connection"
        assert (len(server.heads), len(server.connections), results) == (2, 2, [])


async def test_a_taskless_request_needs_an_idle_connection() -> None:
    async with server_and_pool(answer(b"1")) as (server, pool):
        assert pool.send("GET", server.url, None, True, lambda _: None) is None
        assert await body(pool, server.url) == b"1"
        assert len(server.heads) == 1


async def test_a_taskless_request_on_a_closed_connection_gets_the_error() -> None:
    async with server_and_pool(answer(b"1")) as (server, pool):
        assert await body(pool, server.url) == b"1"
        server.connections[0].transport.abort()
        results: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        assert pool.send("GET", server.url, None, True, results.set_result) is not None
        assert isinstance(await results, CLOSED_WHILE_IDLE)


async def test_data_that_arrives_before_the_request_is_written_is_not_its_response() -> None:
    async with server_and_pool(answer(b"one"), answer(b"two")) as (server, pool):
        assert await body(pool, server.url) == b"one"
        results: list[object] = []
        connection = pool.send("GET", server.url, None, True, results.append)
        assert connection is not None
        connection.data_received(answer(b"stray"))  # the request is written at the end of this turn
        assert [type(each) for each in results] == [aiohttp.ServerDisconnectedError]
        assert pool.send("GET", server.url, None, True, results.append) is None, "it is not reused"
        assert await body(pool, server.url) == b"two"
        assert (len(server.heads), len(server.connections)) == (2, 2)


@pytest.mark.parametrize(
    "head",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nHTTP/1.1 200",
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    ],
)
async def test_a_connection_is_not_reused_after_data_or_an_upgrade_in_response_to_head(head: bytes) -> None:
    async with server_and_pool(head, answer(b"two")) as (server, pool):
        assert await body(pool, server.url, "HEAD") == b""
        assert await body(pool, server.url) == b"two"
        assert len(server.connections) == 2


async def test_a_connection_of_a_dropped_route_is_closed_after_its_response(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("waitd.probes.transport.pool._MAX_ROUTES", 1)
    async with server_and_pool(answer(b"1"), answer(b"2")) as (server, pool):
        request = asyncio.ensure_future(body(pool, server.url))
        await asyncio.sleep(0)  # the pool has its route now, without an idle connection
        assert await body(pool, server.url.replace("127.0.0.1", "localhost")) in {b"1", b"2"}
        await request
        async with asyncio.timeout(60):
            await asyncio.wait(
                [asyncio.ensure_future(each.wait_closed()) for each in server.connections],
                return_when=asyncio.FIRST_COMPLETED,
            )


async def test_headers_of_a_request_replace_common_ones_in_any_case() -> None:
    async with server_and_pool(*[answer(b"")] * 2) as (server, pool):
        await pool.request("GET", server.url, {"accept": "text/csv", "X-One": "1"}, True)
        await pool.request("GET", server.url, {"X-One": "1"}, True)
    own, common = (head.split("\r\n")[2:-2] for head in server.heads)
    assert sorted(own) == ["X-One: 1", "accept: text/csv"]
    assert sorted(common) == ["Accept: */*", "X-One: 1"]


@pytest.mark.parametrize(
    "headers", [{"X": "a\rb"}, {"X": "a\nb"}, {"X": "a\r\nY: b"}, {"X\r\n": "a"}, {"X": "\0"}]
)
async def test_headers_with_control_characters_are_refused(headers: dict[str, str]) -> None:
    async with server_and_pool(answer(b"")) as (server, pool):
        with pytest.raises(ValueError, match="control character"):
            await pool.request("GET", server.url, headers, True)
    assert server.heads == []
