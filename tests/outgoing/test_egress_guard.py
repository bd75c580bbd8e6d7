"""The egress rules at the socket: the address that is connected to is the one that is checked."""

import asyncio
import socket
from collections.abc import AsyncIterator, Sequence

import aiohttp
import psutil
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from daemon import serving

from waitd.core.connections.egress import EgressPolicy, HostSource
from waitd.outgoing import EgressGuard, IdleConnections, find_address_refused

NO_PRIVATE = EgressPolicy(private=False)


class ChangingResolver(AbstractResolver):
    """A DNS resolver that returns other addresses for each query; the last ones stay."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = answers
        self.queries = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self.answers[min(self.queries, len(self.answers) - 1)]
        self.queries += 1
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in answer
        ]

    async def close(self) -> None:
        pass


class Target:
    """A server that counts its requests."""

    def __init__(self) -> None:
        self.requests = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.requests += 1
        return web.Response(text="reached", headers={"Connection": "close"})

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    target = Target()
    async with serving("GET", "/", target.answer) as target.url:
        yield target


async def get(egress: EgressGuard, url: str, source: HostSource = HostSource.SUBMITTER) -> int:
    connector = egress.connector(egress.check_url(url, source))
    async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as response:
        return response.status


async def refusal(egress: EgressGuard, url: str, source: HostSource = HostSource.SUBMITTER) -> str:
    with pytest.raises(aiohttp.ClientConnectorError) as raised:
        await get(egress, url, source)
    blocked = find_address_refused(raised.value)
    assert blocked is not None
    return blocked.why


@pytest.mark.parametrize(
    ("policy", "addresses", "source"),
    [
        (EgressPolicy(), ["169.254.169.254", "127.0.0.1"], HostSource.SUBMITTER),  # the second one
        (EgressPolicy.from_settings(["api.example"], [], private=False), ["127.0.0.1"], HostSource.SUBMITTER),
        (NO_PRIVATE, ["127.0.0.1"], HostSource.OPERATOR),
    ],
)
async def test_a_host_is_reached_at_its_permitted_addresses(
    target: Target, policy: EgressPolicy, addresses: Sequence[str], source: HostSource
) -> None:
    egress = EgressGuard(policy, resolver=lambda: ChangingResolver(addresses))
    assert await get(egress, f"http://api.example:{target.port}/", source) == 200


@pytest.mark.parametrize(
    ("policy", "addresses", "source", "why"),
    [
        (NO_PRIVATE, ["127.0.0.1"], HostSource.SUBMITTER, "egress_allow"),
        (EgressPolicy(), ["169.254.169.254", "169.254.0.1"], HostSource.SUBMITTER, "metadata"),
        (NO_PRIVATE, ["169.254.169.254"], HostSource.OPERATOR, "metadata"),
    ],
)
async def test_a_host_without_a_permitted_address_is_blocked(
    target: Target, policy: EgressPolicy, addresses: Sequence[str], source: HostSource, why: str
) -> None:
    egress = EgressGuard(policy, resolver=lambda: ChangingResolver(addresses))
    assert why in await refusal(egress, f"http://api.example:{target.port}/", source)
    assert target.requests == 0


async def test_dns_rebinding_is_blocked(target: Target) -> None:
    resolver = ChangingResolver(["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1"])
    egress = EgressGuard(resolver=lambda: resolver)
    url = f"http://rebound.example:{target.port}/"
    connector = egress.connector(HostSource.SUBMITTER, use_dns_cache=False)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(url) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectorError) as raised:
            await session.get(url)
        assert find_address_refused(raised.value) is not None
    assert resolver.queries == 2
    assert target.requests == 1


@pytest.mark.parametrize("source", list(HostSource))
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::"])
async def test_waitds_own_listener_is_blocked_by_any_name(
    target: Target, source: HostSource, bound: str
) -> None:
    egress = EgressGuard(resolver=lambda: ChangingResolver(["127.0.0.1"]))
    url = f"http://me.example:{target.port}/"
    assert await get(egress, url, source) == 200
    egress.add_listener(bound, target.port)
    assert "own listener" in await refusal(egress, url, source)
    assert target.requests == 1


def own_addresses() -> list[str]:
    """This machine's IPv4 addresses but for loopback."""
    return [
        entry.address
        for entries in psutil.net_if_addrs().values()
        for entry in entries
        if entry.family == socket.AF_INET and not entry.address.startswith("127.")
    ]


@pytest.mark.skipif(not own_addresses(), reason="this machine has loopback only")
async def test_a_listener_on_all_addresses_is_blocked_at_the_machines_addresses(target: Target) -> None:
    egress = EgressGuard()
    egress.add_listener("0.0.0.0", target.port)
    assert "own listener" in await refusal(egress, f"http://{own_addresses()[0]}:{target.port}/")


async def test_an_address_of_the_machine_counts_as_its_listener(target: Target) -> None:
    egress = EgressGuard()
    egress.add_listener("0.0.0.0", target.port)
    connector = egress.connector(HostSource.OPERATOR)
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as raised:
            await session.get(f"http://127.0.0.2:{target.port}/")  # another loopback address
    assert find_address_refused(raised.value) is not None


async def test_connections_have_tcp_keepalive() -> None:
    read = asyncio.Event()

    async def answer(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse()
        await response.prepare(request)
        await read.wait()
        return response

    async with serving("GET", "/", answer) as url:
        connector = EgressGuard().connector(HostSource.SUBMITTER)
        async with aiohttp.ClientSession(connector=connector) as session, session.get(url) as response:
            assert response.connection is not None
            assert response.connection.transport is not None
            made = response.connection.transport.get_extra_info("socket")
            assert made.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
            assert made.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE) == 30
            read.set()


async def test_a_session_keeps_idle_connections_of_few_origins() -> None:
    async def answer(request: web.Request) -> web.Response:
        ports.append(request.transport.get_extra_info("peername")[1] if request.transport else 0)
        return web.Response()

    ports: list[int] = []
    egress = EgressGuard(idle=IdleConnections(max_connections=16))  # two origins of a session
    async with (
        serving("GET", "/", answer) as a,
        serving("GET", "/", answer) as b,
        serving("GET", "/", answer) as c,
        aiohttp.ClientSession(connector=egress.connector(HostSource.SUBMITTER)) as session,
    ):
        for url in (a, b, a, c, a, b):
            async with session.get(url) as response:
                await response.read()
    assert ports[0] == ports[2] == ports[4]
    assert ports[1] != ports[5], "it was the least recently used"


async def test_an_origin_with_several_connections_is_recently_used_when_one_of_them_is() -> None:
    async def answer(request: web.Request) -> web.Response:
        ports.append(request.transport.get_extra_info("peername")[1] if request.transport else 0)
        if len(ports) <= 2:
            await both.wait()  # so that the second needs another connection
        return web.Response()

    async def get(url: str) -> None:
        async with session.get(url) as response:
            await response.read()

    ports: list[int] = []
    both = asyncio.Barrier(2)
    egress = EgressGuard(idle=IdleConnections(max_connections=16))  # two origins of a session
    async with (
        serving("GET", "/", answer) as a,
        serving("GET", "/", answer) as b,
        serving("GET", "/", answer) as c,
        aiohttp.ClientSession(connector=egress.connector(HostSource.SUBMITTER)) as session,
    ):
        await asyncio.gather(get(a), get(a))
        for url in (b, a, c, a):
            await get(url)
    assert ports[-1] in ports[:2]
