"""The client for small JSON requests."""

import asyncio
import json
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from daemon import serving
from stream_server import ClosingServer, stream_server

from waitd.core.connections.egress import EgressPolicy
from waitd.outgoing import EgressGuard, JsonClient, JsonResponse

MAX_BYTES = 100_000


class RequestFailedError(Exception):
    pass


class Server:
    """Echoes requests at `/echo`; answers `/size/N` with N bytes of JSON in two chunks."""

    def __init__(self) -> None:
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        action, _, size = request.path.strip("/").partition("/")
        if action == "redirect":
            raise web.HTTPFound("/echo")
        if action == "hang":
            await asyncio.sleep(3600)
        if action == "text":
            return web.Response(text="not JSON", status=502)
        if action == "size":
            response = web.StreamResponse()
            await response.prepare(request)
            body = json.dumps("x" * (int(size) - 2)).encode()
            await response.write(body[:10])
            await asyncio.sleep(0.01)  # so that the client reads two chunks
            await response.write(body[10:])
            return response
        content = {
            "method": request.method,
            "path": request.raw_path,
            "body": await request.text(),
            "headers": {name.lower(): value for name, value in request.headers.items()},
        }
        return web.json_response(content, headers={"Retry-After": "3"})


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    running = Server()
    async with serving("*", "/{path:.*}", running.answer) as running.url:
        yield running


def client(egress: EgressGuard | None = None, *, timeout: float = 5.0) -> JsonClient:
    return JsonClient(egress or EgressGuard(), RequestFailedError, max_bytes=MAX_BYTES, timeout=timeout)


async def get(url: str, egress: EgressGuard | None = None, *, seconds: float = 5.0) -> JsonResponse:
    async with client(egress, timeout=seconds) as opened:
        return await opened.request("GET", url, service="the service")


async def test_a_request_carries_its_body_and_headers(server: Server) -> None:
    async with client() as opened:
        as_json = await opened.request(
            "PUT", f"{server.url}/echo/a%2Fb", service="it", headers={"X-One": "1"}, json={"n": [1]}
        )
        as_form = await opened.request("POST", f"{server.url}/echo", service="it", data={"a": "b c"})
        as_bytes = await opened.request("POST", f"{server.url}/echo", service="it", data=b"raw")
    assert (as_json.status, as_json.headers["Retry-After"]) == (200, "3")
    assert (as_json.fields["method"], as_json.fields["path"]) == ("PUT", "/echo/a%2Fb")
    assert as_json.fields["body"] == '{"n":[1]}'
    headers = as_json.fields["headers"]
    assert (headers["content-type"], headers["x-one"]) == ("application/json", "1")
    assert (headers["accept"], headers["user-agent"].split("/")[0]) == ("application/json", "waitd")
    assert as_form.fields["body"] == "a=b+c"
    assert as_bytes.fields["body"] == "raw"


async def test_a_response_in_several_chunks_is_read_completely(server: Server) -> None:
    assert len((await get(f"{server.url}/size/{MAX_BYTES}")).body) == MAX_BYTES - 2


@pytest.mark.parametrize(("path", "status"), [(f"size/{MAX_BYTES + 1}", 200), ("text", 502)])
async def test_a_response_that_is_too_large_or_not_json_has_no_body(
    server: Server, path: str, status: int
) -> None:
    response = await get(f"{server.url}/{path}")
    assert (response.status, response.body, response.fields) == (status, None, {})


async def test_redirects_are_not_followed(server: Server) -> None:
    assert (await get(f"{server.url}/redirect")).status == 302


async def test_a_timeout_is_reported(server: Server) -> None:
    with pytest.raises(RequestFailedError, match=r"^the service did not answer in time$"):
        await get(f"{server.url}/hang", seconds=0.05)


async def test_an_unreachable_service_is_reported() -> None:
    with pytest.raises(RequestFailedError, match=r"^could not connect to the service$"):
        await get("http://127.0.0.1:1/")


@pytest.mark.parametrize("by_name", [True, False])
async def test_the_egress_rules_apply_to_names_and_addresses(server: Server, by_name: bool) -> None:
    url = server.url.replace("127.0.0.1", "localhost")
    egress = EgressGuard(EgressPolicy.from_settings([], ["localhost"] if by_name else [], private=True))
    if not by_name:
        egress.add_listener("127.0.0.1", int(url.rpartition(":")[2]))
    with pytest.raises(RequestFailedError, match=r"^the egress rules block the service: "):
        await get(url, egress)


async def test_it_works_only_within_its_context() -> None:
    with pytest.raises(RuntimeError, match="outside its context"):
        await client().request("GET", "http://127.0.0.1:1/", service="it")


@pytest.mark.parametrize(
    ("fields", "connections"), [("", 1), ("Keep-Alive: timeout=60\r\n", 1), ("Keep-Alive: timeout=0\r\n", 2)]
)
async def test_a_connection_is_used_again_as_long_as_the_server_keeps_it(
    fields: str, connections: int
) -> None:
    accepted = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(f"HTTP/1.1 200 OK\r\n{fields}Content-Length: 2\r\n\r\n{{}}".encode())

    client = JsonClient(EgressGuard(), RequestFailedError, max_bytes=MAX_BYTES, timeout=10)
    async with stream_server(serve) as port, client:
        for _ in range(2):
            await client.request("POST", f"http://127.0.0.1:{port}/", service="the service")
    assert accepted == connections


async def test_a_connection_that_the_server_closed_while_idle_is_not_used_again() -> None:
    accepted, gone = 0, asyncio.Event()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.write_eof()
        await reader.read()
        gone.set()

    client = JsonClient(EgressGuard(), RequestFailedError, max_bytes=MAX_BYTES, timeout=10)
    async with asyncio.timeout(30), stream_server(serve) as port, client:
        for _ in range(2):
            gone.clear()
            await client.request("POST", f"http://127.0.0.1:{port}/", service="the service")
            await gone.wait()
    assert accepted == 2


async def test_a_request_that_meets_a_connection_closed_while_idle_is_repeated() -> None:
    server = ClosingServer(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
    client = JsonClient(EgressGuard(), RequestFailedError, max_bytes=MAX_BYTES, timeout=10)
    async with stream_server(server.serve) as port, client:
        for _ in range(3):
            url = f"http://127.0.0.1:{port}/"
            assert (await client.request("POST", url, service="the service", json={})).status == 200
    assert server.requests == 3


async def test_a_request_that_meets_a_new_connection_that_closes_is_not_repeated() -> None:
    accepted = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal accepted
        accepted += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.close()

    client = JsonClient(EgressGuard(), RequestFailedError, max_bytes=MAX_BYTES, timeout=10)
    async with stream_server(serve) as port, client:
        with pytest.raises(RequestFailedError, match="broke before it answered"):
            await client.request("POST", f"http://127.0.0.1:{port}/", service="the service")
    assert accepted == 1
