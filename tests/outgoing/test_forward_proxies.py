"""Requests through forward proxies: tinyproxy, and a small proxy where one fails."""

import asyncio
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from certificates import Authority
from daemon import serving
from forward_proxy import LOGIN, PASSWORD, small_proxy, tinyproxy
from stream_server import stream_server

from waitd.bench.children import free_port
from waitd.core.connections.egress import EgressPolicy, EgressRefused, HostSource
from waitd.core.connections.http_options import ClientTls
from waitd.core.connections.proxies import DEFAULT_PROXIES, Proxies, parse_proxies
from waitd.core.errors import ConnectionUnavailable
from waitd.core.waits.verdict import Unreachable
from waitd.outgoing import EgressGuard, JsonClient, find_address_refused
from waitd.outgoing.tls import client_tls
from waitd.probes.transport.client import HttpClient, Request
from waitd.probes.transport.errors import classify_error

#: Both transports: the pool sends a GET, a session a POST.
METHODS = ["GET", "POST"]


class Target:
    """A server of https and one of http, which say what they got."""

    def __init__(self) -> None:
        self.heads: list[str] = []
        self.connections = 0
        self.tls_port = 0
        self.url = ""

    @property
    def tls_url(self) -> str:
        return f"https://127.0.0.1:{self.tls_port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        while not reader.at_eof():
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).decode()
            except asyncio.IncompleteReadError:
                break
            self.heads.append(head)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
        writer.close()

    async def answer(self, request: web.Request) -> web.Response:
        fields = "".join(f"{name}: {value}\r\n" for name, value in request.headers.items())
        self.heads.append(f"{request.method} {request.path_qs} HTTP/1.1\r\n{fields}")
        return web.Response(text="{}")


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    authority = Authority(tmp_path)
    authority.issue()
    return authority


@pytest.fixture
async def target(authority: Authority) -> AsyncIterator[Target]:
    target = Target()
    async with (
        stream_server(target.serve, tls=authority.server_context()) as target.tls_port,
        serving("*", "/{path:.*}", target.answer) as target.url,
    ):
        yield target


@pytest.fixture
async def trusted(authority: Authority) -> bool | ssl.SSLContext:
    return await client_tls(ClientTls(str(authority.file)))


@asynccontextmanager
async def http_client(egress: EgressGuard | None = None) -> AsyncIterator[HttpClient]:
    client = await HttpClient(egress=egress).start()
    try:
        yield client
    finally:
        await client.close()


def through(
    url: str,
    proxy: str,
    tls: bool | ssl.SSLContext = True,
    method: str = "GET",
    source: HostSource = HostSource.OPERATOR,
) -> Request:
    """A request whose connection names a proxy."""
    body = b"{}" if method == "POST" else None
    return Request(method, url, None, body, tls, source, proxies=parse_proxies({"all": proxy}))


async def send(client: HttpClient, request: Request) -> int:
    answer = await client.fetch(request, 0.0)
    assert await client.read(answer.response, 100) is not None
    await client.release(answer.response)
    return answer.facts.status


async def verdict_of(request: Request, egress: EgressGuard | None = None) -> Unreachable:
    async with http_client(egress) as client:
        with pytest.raises((aiohttp.ClientError, OSError)) as raised:
            await send(client, request)
    return classify_error(raised.value)


@pytest.mark.parametrize("method", METHODS)
async def test_a_tunnel_leads_to_https_and_is_kept(
    method: str, target: Target, trusted: ssl.SSLContext, tmp_path: Path
) -> None:
    async with tinyproxy(tmp_path, login=True) as proxy, http_client() as client:
        for _ in range(3):
            request = through(f"{target.tls_url}/jobs?a=b", proxy.with_login, trusted, method)
            assert await send(client, request) == 200
        assert proxy.count("CONNECT") == target.connections == 1
    assert [head.split("\r\n")[0].removeprefix("{}") for head in target.heads] == [
        f"{method} /jobs?a=b HTTP/1.1"
    ] * 3
    assert "proxy" not in "".join(target.heads).lower(), "neither the login nor its header"


@pytest.mark.parametrize("method", METHODS)
async def test_http_is_requested_in_absolute_form(method: str, target: Target, tmp_path: Path) -> None:
    async with tinyproxy(tmp_path, login=True) as proxy, http_client() as client:
        request = through(f"{target.url}/jobs?a=b", proxy.with_login, True, method)
        assert await send(client, request) == 200
        assert proxy.count(method) == 1
    assert target.heads[0].startswith(f"{method} /jobs?a=b ")
    assert "via" in target.heads[0].lower(), "tinyproxy was there"


@pytest.mark.parametrize("scheme", ["http", "https"])
@pytest.mark.parametrize("method", METHODS)
async def test_an_https_proxy_is_verified_by_the_system(
    scheme: str,
    method: str,
    target: Target,
    authority: Authority,
    trusted: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    answer = None if scheme == "https" else b"HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n"
    async with small_proxy(answer, tls=authority.server_context()) as proxy:
        url = target.tls_url if scheme == "https" else "http://target.test/"
        # A connection's own authority, or none, is for its target.
        for tls in (trusted, False):
            verdict = await verdict_of(through(url, proxy.url, tls, method))
            assert verdict.message == f"The TLS certificate of the proxy {proxy.url} is not trusted."
        monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
        async with http_client() as client:
            assert await send(client, through(url, proxy.url, trusted, method)) < 300
        assert proxy.heads[-1].startswith(
            "CONNECT " if scheme == "https" else f"{method} http://target.test/"
        )


@pytest.mark.parametrize("method", METHODS)
async def test_credentials_are_part_of_the_key_of_a_connection(
    method: str, target: Target, trusted: ssl.SSLContext
) -> None:
    async with small_proxy() as proxy, http_client() as client:
        host = proxy.url.removeprefix("http://")
        for login in ("one:pw", "two:pw", "one:pw"):
            await send(client, through(target.tls_url, f"http://{login}@{host}", trusted, method))
        await send(client, through(target.tls_url, proxy.url, trusted, method))
        await send(client, Request(method, target.tls_url, None, None, trusted, HostSource.OPERATOR))
        assert len(proxy.heads) == 3, "one connection for each login, and one without"
        assert target.connections == 4, "and one without a proxy"


@pytest.mark.parametrize("url", ["https://target.test", "http://target.test"])
@pytest.mark.parametrize("method", METHODS)
async def test_a_proxy_that_is_down_is_named(url: str, method: str) -> None:
    proxy = f"127.0.0.1:{free_port()}"
    verdict = await verdict_of(through(url, f"http://{LOGIN}:{PASSWORD}@{proxy}", True, method))
    assert verdict == Unreachable("proxy", f"Could not connect to the proxy http://{proxy}.")
    verdict = await verdict_of(through(url, "http://u:planted-pw@proxy.invalid:3128", True, method))
    assert verdict.reason == "proxy"
    assert verdict.message == "The host name of the proxy http://proxy.invalid:3128 does not resolve."


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"HTTP/1.1 407 x\r\nContent-Length: 0\r\n\r\n", "refuses the credentials, or needs some (407)"),
        (b"HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n", "does not allow the target (403)"),
        (b"HTTP/1.1 502 x\r\nContent-Length: 0\r\n\r\n", "cannot reach the target (502)"),
        (b"", "broke before it answered"),
        (b"HTTP/1.1 200 x\r\n\r\n", "to the target broke behind"),
        (b"SSH-2.0-x\r\n", "did not answer with valid HTTP"),
    ],
)
@pytest.mark.parametrize("method", METHODS)
async def test_a_proxy_that_opens_no_tunnel_is_named(answer: bytes, message: str, method: str) -> None:
    async with small_proxy(answer) as proxy:
        verdict = await verdict_of(through("https://target.test", proxy.url, True, method))
    assert (verdict.reason, f"the proxy {proxy.url}" in verdict.message.replace("The", "the")) == (
        "proxy",
        True,
    )
    assert message in verdict.message


@pytest.mark.parametrize("method", METHODS)
async def test_a_login_that_a_proxy_refuses_is_no_answer(method: str, target: Target, tmp_path: Path) -> None:
    async with tinyproxy(tmp_path, login=True) as proxy:
        for url in (target.url, target.tls_url):
            verdict = await verdict_of(through(url, proxy.url, True, method))
            assert verdict.message == f"The proxy {proxy.url} refuses the credentials, or needs some (407)."
    assert not target.heads


async def test_the_environments_proxy_resolves_the_name(target: Target, trusted: ssl.SSLContext) -> None:
    async with small_proxy() as proxy:
        proxy.resolve = lambda host: "127.0.0.1" if host == "localhost.test" else host
        environment = parse_proxies({"https": proxy.url})
        egress = EgressGuard(EgressPolicy(private=False), proxies=environment)
        context = await client_tls(ClientTls(verify=False))
        url = f"https://localhost.test:{target.tls_port}"
        async with http_client(egress) as client:
            assert await send(client, Request("GET", url, None, None, context)) == 200
            own = Proxies(trust_env=False)
            with pytest.raises((aiohttp.ClientError, OSError)):
                await send(client, Request("GET", url, None, None, context, proxies=own))
        assert proxy.heads[0].startswith(f"CONNECT localhost.test:{target.tls_port} ")
        assert len(proxy.heads) == 1


async def test_the_rules_judge_the_target_not_the_proxy() -> None:
    async with small_proxy(b"HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n") as proxy:
        environment = parse_proxies({"all": proxy.url})
        policy = EgressPolicy.from_settings((), ("*.denied.test",), private=False)
        egress = EgressGuard(policy, proxies=environment)
        async with http_client(egress) as client:
            assert await send(client, Request("GET", "http://target.test", None, None, True)) == 204
            for refused in ("http://a.denied.test", "http://10.1.2.3", "http://169.254.169.254"):
                with pytest.raises(EgressRefused):
                    await send(client, Request("GET", refused, None, None, True))
    assert len(proxy.heads) == 1


async def test_a_proxy_may_not_be_waitd_or_a_metadata_address() -> None:
    async with small_proxy() as proxy, http_client(egress := EgressGuard()) as client:
        egress.add_listener("127.0.0.1", int(proxy.url.rpartition(":")[2]))
        for url in (proxy.url, "http://169.254.169.254"):
            with pytest.raises(aiohttp.ClientError) as raised:
                await send(client, through("https://target.test", url))
            assert find_address_refused(raised.value) is not None
    assert not proxy.heads


@pytest.mark.parametrize("own", [True, False])
async def test_the_operators_services_use_it(own: bool, tmp_path: Path, target: Target) -> None:
    async with tinyproxy(tmp_path, login=True) as proxy, small_proxy(b"HTTP/1.1 204 x\r\n\r\n") as other:
        egress = EgressGuard(proxies=parse_proxies({"all": other.url}))
        proxies = parse_proxies({"all": proxy.with_login}) if own else DEFAULT_PROXIES
        url = target.url if own else "http://target.test"
        async with JsonClient(egress, ConnectionUnavailable, max_bytes=100, timeout=5.0) as client:
            response = await client.request("GET", url, service="Vault", proxies=proxies)
            assert response.status == (200 if own else 204)
            assert (proxy.count("GET"), len(other.heads)) == ((1, 0) if own else (0, 1))
            refused = parse_proxies({"all": proxy.url})
            with pytest.raises(
                ConnectionUnavailable, match=f"^the proxy {proxy.url} refuses the credentials"
            ):
                await client.request("GET", target.url, service="Vault", proxies=refused)
