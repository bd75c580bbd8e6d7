"""Requests to names with addresses of both families, or only of IPv6, or that may not be cached."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager

import pytest
from name_server import name_server
from stream_server import answering, stream_server

from waitd.outgoing import CachingResolver, CaresLookup, EgressGuard
from waitd.probes.transport.client import HttpClient, Request

ANSWER = answering(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
#: Both transports: the pool sends a GET, a session a POST.
METHODS = ["GET", "POST"]

pytestmark = pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")


@asynccontextmanager
async def client_of(*addresses: str) -> AsyncIterator[HttpClient]:
    """A client for which `host.test` has these addresses, with a TTL of 0."""
    async with name_server(records={"host.test": list(addresses)}, ttl=0) as names:
        resolver = CachingResolver(CaresLookup({"servers": [names.address]}))
        client = await HttpClient(egress=EgressGuard(resolver=lambda: resolver)).start()
        try:
            yield client
        finally:
            await client.close()
            await resolver.close()


@contextmanager
def black_hole(port: int) -> Iterator[None]:
    """Connections to this port of ::1 neither open nor fail: the queue of its listener is full."""
    with socket.socket(socket.AF_INET6) as listening:
        listening.bind(("::1", port))
        listening.listen(0)
        clients = [socket.socket(socket.AF_INET6) for _ in range(3)]
        for client in clients:
            client.setblocking(False)
            client.connect_ex(("::1", port))
        yield
        for client in clients:
            client.close()


async def status_of(client: HttpClient, method: str, port: int) -> int:
    body = b"x" if method == "POST" else None
    request = Request(method, f"http://host.test:{port}/", None, body, True)
    async with asyncio.timeout(30):
        answer = await client.fetch(request, 0.0)
    await client.release(answer.response)
    return answer.facts.status


@pytest.mark.parametrize("method", METHODS)
async def test_a_black_holed_ipv6_address_costs_no_poke(method: str) -> None:
    async with stream_server(ANSWER) as port, client_of("::1", "127.0.0.1") as client:
        with black_hole(port):
            for _ in range(2):  # the addresses take turns to be the first
                assert await status_of(client, method, port) == 200


@pytest.mark.parametrize("method", METHODS)
async def test_a_name_may_have_addresses_of_ipv6_only(method: str) -> None:
    async with stream_server(ANSWER, host="::1") as port, client_of("::1") as client:
        assert await status_of(client, method, port) == 200
