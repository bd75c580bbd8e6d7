"""Look-ups by c-ares against a real DNS server on loopback, and by `getaddrinfo`."""

import asyncio
import os
import resource
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from pathlib import Path
from typing import Any

import aiodns
import aiohttp
import pytest
from aiohttp.client_reqrep import ConnectionKey
from name_server import NameServer, name_server

from waitd.core.local_trouble import local_trouble
from waitd.outgoing import CachingResolver, CaresLookup, LookupFailed, NameNotFound, SystemLookup, lookups
from waitd.outgoing.lookups import MAX_ADDRESSES, NEGATIVE_TTL
from waitd.outgoing.names import RETRY_SECONDS

KEY = ConnectionKey("x", 80, False, True, None, None, None)


@asynccontextmanager
async def cares(server: NameServer, **options: Any) -> AsyncIterator[CaresLookup]:
    lookup = CaresLookup({"servers": [server.address], "timeout": 1.0} | options)
    try:
        yield lookup
    finally:
        await lookup.close()


@pytest.fixture
async def server() -> AsyncIterator[NameServer]:
    async with name_server() as running:
        yield running


async def addresses(lookup: CaresLookup | SystemLookup, host: str) -> list[str]:
    return [address for _, address in (await lookup.find(host)).addresses]


@pytest.mark.parametrize("routed", [True, False])
async def test_both_families_are_found_with_their_ttl(
    server: NameServer, monkeypatch: pytest.MonkeyPatch, routed: bool
) -> None:
    monkeypatch.setattr(lookups, "_has_route", lambda family, _: routed or family == socket.AF_INET)
    server.records, server.ttl = {"both.example": ["127.0.0.5", "::1"], "six.example": ["::1"]}, 77
    async with cares(server) as lookup:
        answer = await lookup.find("both.example")
        assert await addresses(lookup, "six.example") == ["::1"]
    assert answer.ttl == 77
    four, six = (socket.AF_INET, "127.0.0.5"), (socket.AF_INET6, "::1")
    assert sorted(answer.addresses) == ([four, six] if routed else [four])


async def test_a_chain_of_aliases_is_followed(server: NameServer) -> None:
    server.records = {"a.example": ["b.example"], "b.example": ["c.example"], "c.example": ["127.0.0.6"]}
    async with cares(server) as lookup:
        assert await addresses(lookup, "a.example") == ["127.0.0.6"]


async def test_search_domains_as_in_kubernetes(server: NameServer) -> None:
    server.records = {
        "jobs.default.svc.cluster.local": ["127.0.0.7"],
        "api.other.svc.cluster.local": ["127.0.0.8"],
        "outside.example": ["127.0.0.9"],
    }
    domains = ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]
    async with cares(server, domains=domains, ndots=5) as lookup:
        assert await addresses(lookup, "jobs") == ["127.0.0.7"]
        assert await addresses(lookup, "api.other") == ["127.0.0.8"]
        assert await addresses(lookup, "outside.example") == ["127.0.0.9"]
        assert server.queries["outside.example.cluster.local A"] == 1
        assert await addresses(lookup, "outside.example.") == ["127.0.0.9"]
        assert server.queries["outside.example.cluster.local A"] == 1  # the dot ends the name


async def test_an_international_name_is_asked_for_in_ascii(server: NameServer) -> None:
    server.records = {"xn--bcher-kva.example": ["127.0.0.5"]}
    async with cares(server) as lookup:
        assert await addresses(lookup, "xn--bcher-kva.example") == ["127.0.0.5"]
        assert await addresses(lookup, "bücher.example") == ["127.0.0.5"]


async def test_a_truncated_answer_is_fetched_by_tcp(server: NameServer) -> None:
    server.records = {"many.example": [f"127.0.1.{number}" for number in range(1, 60)]}
    async with cares(server) as lookup:
        found = await addresses(lookup, "many.example")
    assert server.over_tcp == 1
    assert len(set(found)) == MAX_ADDRESSES


@pytest.mark.parametrize(
    ("codes", "error"),
    [
        ({}, NameNotFound),
        ({"x.example": "SERVFAIL"}, LookupFailed),
        ({"x.example": "REFUSED"}, LookupFailed),
        ({"x.example": "NOERROR"}, LookupFailed),  # an empty answer
        ({"x.example A": "SERVFAIL", "x.example AAAA": "NOERROR"}, LookupFailed),
    ],
)
async def test_a_name_that_does_not_exist_differs_from_a_failure(
    server: NameServer, codes: dict[str, str], error: type[Exception]
) -> None:
    server.codes = codes
    async with cares(server) as lookup:
        with pytest.raises(error):
            await lookup.find("x.example")


@pytest.mark.parametrize("host", ["a b", "x" * 64 + ".example", "a..example", "." * 3, "\udc80.example"])
async def test_a_malformed_name_does_not_exist(server: NameServer, host: str) -> None:
    async with cares(server) as lookup:
        with pytest.raises(NameNotFound):
            await lookup.find(host)
    assert not server.queries


async def test_a_name_that_appears_is_found_soon_whatever_the_zone_says(
    server: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookups, "NEGATIVE_TTL", 0.0)
    async with cares(server) as lookup:
        with pytest.raises(NameNotFound):
            await lookup.find("new.example")
        server.records = {"new.example": ["127.0.0.5"]}
        async with asyncio.timeout(60):
            while True:
                with suppress(NameNotFound):
                    assert await addresses(lookup, "new.example") == ["127.0.0.5"]
                    break


def test_c_ares_forgets_before_a_name_is_looked_up_again() -> None:
    assert NEGATIVE_TTL < RETRY_SECONDS


@pytest.mark.parametrize(
    ("code", "hung", "answers"),
    [("", "", True), ("REFUSED", "", True), ("SERVFAIL", "", False), ("", "d", False)],
)
async def test_whether_the_name_servers_answer_at_all(
    server: NameServer, code: str, hung: str, answers: bool
) -> None:
    async with cares(server, tries=1, timeout=0.2) as lookup:
        assert await lookup.servers_answer()  # is not remembered
        server.code, server.hung = code, (hung,) if hung else ()
        assert await lookup.servers_answer() is answers


async def test_a_hung_name_fails_by_itself(server: NameServer) -> None:
    server.hung, server.records = ("hung.example",), {"good.example": ["127.0.0.5"]}
    async with cares(server) as lookup:
        hung = [asyncio.create_task(lookup.find(f"{number}.hung.example")) for number in range(100)]
        await asyncio.sleep(0)
        assert await addresses(lookup, "good.example") == ["127.0.0.5"]
        assert not any(task.done() for task in hung)
    results = await asyncio.gather(*hung, return_exceptions=True)
    assert {type(result) for result in results} == {LookupFailed}  # cancelled by `close`
    async with cares(server, tries=1, timeout=0.1) as lookup:
        with pytest.raises(LookupFailed):
            await lookup.find("1.hung.example")


@pytest.mark.parametrize(
    ("lines", "has_ipv6"),
    [("127.0.0.1 localhost", False), ("127.0.0.1 localhost\n::1 ip6-localhost localhost # both", True)],
)
async def test_localhost_needs_no_name_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: str, has_ipv6: bool
) -> None:
    monkeypatch.setattr(lookups, "_has_route", lambda *_: True)
    (tmp_path / "hosts").write_text(lines)
    lookup = CaresLookup(hosts=tmp_path / "hosts")
    found = await addresses(lookup, "localhost")
    assert sorted(found) == (["127.0.0.1", "::1"] if has_ipv6 else ["127.0.0.1"])
    await lookup.close()


async def test_a_changed_resolv_conf_names_another_server(server: NameServer, tmp_path: Path) -> None:
    server.records = {"x.example": ["127.0.0.5"]}
    resolv_conf, hosts = tmp_path / "resolv.conf", tmp_path / "hosts"
    resolv_conf.write_text("old")
    options = {"servers": [server.address]}
    lookup = CaresLookup(options, resolv_conf=resolv_conf, hosts=hosts)
    async with name_server(records={"x.example": ["127.0.0.6"]}) as other:
        assert await addresses(lookup, "x.example") == ["127.0.0.5"]
        assert not lookup.has_changed()
        options["servers"] = [other.address]
        assert await addresses(lookup, "x.example") == ["127.0.0.5"]
        (tmp_path / "new").write_text("new")
        (tmp_path / "new").replace(resolv_conf)
        assert lookup.has_changed()
        assert not lookup.has_changed()
        assert await addresses(lookup, "x.example") == ["127.0.0.6"]
        hosts.write_text("127.0.0.9 x.example\n")
        assert lookup.has_changed()
        await lookup.close()


async def test_the_system_decides_which_servers_are_asked() -> None:
    text = lookups.RESOLV_CONF.read_text()
    named = [line.split()[1] for line in text.splitlines() if line.startswith("nameserver")]
    assert aiodns.DNSResolver().nameservers == named


async def test_a_machine_without_name_servers_fails() -> None:
    async with name_server() as server:
        pass  # its port is closed now
    async with cares(server) as lookup:
        with pytest.raises(LookupFailed):
            await lookup.find("x.example")


async def test_the_system_finds_localhost() -> None:
    assert "127.0.0.1" in await addresses(SystemLookup(), "localhost")


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (socket.gaierror(socket.EAI_NONAME, "planted"), NameNotFound),
        (socket.gaierror(socket.EAI_AGAIN, "planted"), LookupFailed),
        (OSError(24, "planted"), LookupFailed),
        (UnicodeError("planted"), NameNotFound),
    ],
)
async def test_errors_of_the_system(
    monkeypatch: pytest.MonkeyPatch, failure: Exception, error: type[Exception]
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(error):
        await SystemLookup().find("x.example")


async def test_without_a_descriptor_a_look_up_says_so_and_blames_no_name(server: NameServer) -> None:
    """c-ares opens its sockets itself."""
    server.records = {"jobs.example": ["127.0.0.7"]}
    async with cares(server) as lookup:
        names = CachingResolver(lookup)
        with no_descriptor_left(), pytest.raises(LookupFailed) as raised:
            await names.resolve("jobs.example")
        assert local_trouble(aiohttp.ClientConnectorDNSError(KEY, raised.value)) == (
            "the daemon has no free file descriptor (ulimit -n)"
        )
        assert await addresses(lookup, "jobs.example") == ["127.0.0.7"]
        await names.close()


@contextmanager
def no_descriptor_left() -> Iterator[None]:
    """The process can open no file in the block, but uses those that it has."""
    used = max(int(each.name) for each in Path("/proc/self/fd").iterdir())
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, before[1]))
    taken: list[int] = []
    try:
        with suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        for each in taken:
            os.close(each)
        resource.setrlimit(resource.RLIMIT_NOFILE, before)
