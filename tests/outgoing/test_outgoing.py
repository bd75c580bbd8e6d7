"""The egress rules at the socket: the address that is connected to is the one that is checked."""

import socket
from collections.abc import AsyncIterator, Sequence

import aiohttp
import psutil
import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult
from daemon import serving

from waitd.core.connections.egress import EgressPolicy, HostSource
from waitd.outgoing import EgressBlocked, Outgoing, find_egress_blocked

REFUSING = EgressPolicy(private=False)


class ChangingResolver(AbstractResolver):
    """A DNS that answers another address each time; the last one stays."""

    def __init__(self, answers: Sequence[Sequence[str]]) -> None:
        self.answers = list(answers)
        self.asked = 0

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        answer = self.answers[min(self.asked, len(self.answers) - 1)]
        self.asked += 1
        return [
            ResolveResult(hostname=host, host=address, port=port, family=socket.AF_INET, proto=0, flags=0)
            for address in answer
        ]

    async def close(self) -> None:
        pass


class Target:
    """A server that counts who reached it."""

    def __init__(self) -> None:
        self.reached = 0
        self.url = ""

    async def answer(self, request: web.Request) -> web.Response:
        self.reached += 1
        return web.Response(text="reached", headers={"Connection": "close"})

    @property
    def port(self) -> int:
        return int(self.url.rpartition(":")[2])


@pytest.fixture
async def target() -> AsyncIterator[Target]:
    target = Target()
    async with serving("GET", "/", target.answer) as target.url:
        yield target


async def get(outgoing: Outgoing, url: str, named: HostSource = HostSource.SUBMITTER) -> int:
    judged = outgoing.check_url(url, named)
    async with (
        aiohttp.ClientSession(connector=outgoing.connector(judged)) as session,
        session.get(url) as response,
    ):
        return response.status


async def refusal(outgoing: Outgoing, url: str, named: HostSource = HostSource.SUBMITTER) -> str:
    with pytest.raises(aiohttp.ClientConnectorError) as raised:
        await get(outgoing, url, named)
    found = find_egress_blocked(raised.value)
    assert isinstance(found, EgressBlocked)
    return found.why


async def test_a_name_that_resolves_to_a_private_address_is_blocked(target: Target) -> None:
    outgoing = Outgoing(REFUSING, resolver=lambda: ChangingResolver([["127.0.0.1"]]))
    assert "egress_allow" in await refusal(outgoing, f"http://rebound.example:{target.port}/")
    assert target.reached == 0


async def test_dns_rebinding_is_blocked(
    target: Target,
) -> None:
    resolver = ChangingResolver([["127.0.0.1"], ["169.254.169.254"], ["127.0.0.1"]])
    outgoing = Outgoing(resolver=lambda: resolver)
    url = f"http://rebound.example:{target.port}/"
    connector = outgoing.connector(HostSource.SUBMITTER, use_dns_cache=False)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.get(url) as response:
            assert response.status == 200
        with pytest.raises(aiohttp.ClientConnectorError) as raised:
            await session.get(url)
        assert find_egress_blocked(raised.value) is not None
    assert resolver.asked == 2
    assert target.reached == 1


async def test_only_permitted_addresses_of_a_host_are_tried(target: Target) -> None:
    resolver = ChangingResolver([["169.254.169.254", "127.0.0.1"]])
    assert await get(Outgoing(resolver=lambda: resolver), f"http://two.example:{target.port}/") == 200
    both = ChangingResolver([["169.254.169.254", "169.254.0.1"]])
    assert "metadata" in await refusal(Outgoing(resolver=lambda: both), "http://two.example/")


async def test_a_name_in_egress_allow_may_resolve_to_a_private_address(target: Target) -> None:
    egress = EgressPolicy.from_settings(["airbyte.internal"], [], private=False)
    resolver = ChangingResolver([["127.0.0.1"]])
    assert (
        await get(Outgoing(egress, resolver=lambda: resolver), f"http://airbyte.internal:{target.port}/")
        == 200
    )


async def test_a_connections_host_may_be_private_but_not_a_metadata_address(target: Target) -> None:
    outgoing = Outgoing(REFUSING, resolver=lambda: ChangingResolver([["127.0.0.1"], ["169.254.169.254"]]))
    assert await get(outgoing, f"http://api.internal:{target.port}/", HostSource.OPERATOR) == 200
    metadata = Outgoing(REFUSING, resolver=lambda: ChangingResolver([["169.254.169.254"]]))
    assert "metadata" in await refusal(metadata, "http://api.internal/", HostSource.OPERATOR)


@pytest.mark.parametrize("named", list(HostSource))
@pytest.mark.parametrize("bound", ["127.0.0.1", "0.0.0.0", "::"])
async def test_waitds_own_listener_is_blocked_by_any_name(
    target: Target, named: HostSource, bound: str
) -> None:
    outgoing = Outgoing(resolver=lambda: ChangingResolver([["127.0.0.1"]]))
    url = f"http://me.example:{target.port}/"
    assert await get(outgoing, url, named) == 200
    outgoing.add_listener(bound, target.port)
    assert "own listener" in await refusal(outgoing, url, named)
    assert target.reached == 1


def own_addresses() -> list[str]:
    """This machine's addresses but for loopback."""
    addresses = [
        one.address for ones in psutil.net_if_addrs().values() for one in ones if one.family == socket.AF_INET
    ]
    return [address for address in addresses if not address.startswith("127.")]


@pytest.mark.skipif(not own_addresses(), reason="this machine has loopback only")
async def test_a_listener_on_all_addresses_is_blocked_at_the_machines_addresses(target: Target) -> None:
    outgoing = Outgoing()
    outgoing.add_listener("0.0.0.0", target.port)
    assert "own listener" in await refusal(outgoing, f"http://{own_addresses()[0]}:{target.port}/")


async def test_an_address_of_the_machine_counts_as_its_listener(target: Target) -> None:
    outgoing = Outgoing()
    outgoing.add_listener("0.0.0.0", target.port)
    connector = outgoing.connector(HostSource.OPERATOR)
    async with aiohttp.ClientSession(connector=connector) as session:
        with pytest.raises(aiohttp.ClientConnectorError) as raised:
            await session.get(
                f"http://127.0.0.2:{target.port}/"
            )  # another loopback address than the listener's
    assert find_egress_blocked(raised.value) is not None
