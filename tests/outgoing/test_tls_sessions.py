"""TLS of outgoing connections, against real servers: resumed sessions, and who is trusted."""

import asyncio
import shutil
import ssl
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import trustme
import uvloop
from stream_server import stream_server

from waitd.bench.children import free_port
from waitd.core.connections.egress import HostSource
from waitd.core.connections.http_options import ClientTls
from waitd.outgoing import EgressGuard, TlsContexts
from waitd.outgoing.tls import client_tls
from waitd.outgoing.tls_sessions import MAX_SESSION_AGE, ResumingContext
from waitd.probes.transport.client import HttpClient, Request
from waitd.probes.transport.errors import classify_error

BOTH = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
CLOSING = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"


class Authority:
    """An authority with its file, and the certificates that it issues."""

    def __init__(self, folder: Path) -> None:
        self.ca = trustme.CA()
        self.file = folder / "ca.pem"
        self.ca.cert_pem.write_to_path(self.file)
        self._folder = folder

    def client(self, name: str) -> ClientTls:
        """Options with a client certificate for this name."""
        issued, path = self.ca.issue_cert(f"{name}@example.org"), self._folder / f"{name}.pem"
        issued.private_key_and_cert_chain_pem.write_to_path(path)
        return ClientTls(str(self.file), str(path))


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


class _CurrentContext(ssl.SSLContext):
    """Stands for another context, which can be replaced."""

    current: ssl.SSLContext

    def wrap_bio(self, *args: Any, **options: Any) -> ssl.SSLObject:
        return self.current.wrap_bio(*args, **options)


@dataclass
class Server:
    """Answers each request, and closes its connection."""

    authority: Authority
    answer: bytes = CLOSING
    versions: ssl.TLSVersion | None = None
    protocols: tuple[str, ...] = ("h2", "http/1.1")
    #: Of each connection: whether its session was resumed, and the protocol that was agreed on.
    reused: list[bool] = field(default_factory=list)
    agreed: list[str | None] = field(default_factory=list)
    port: int = 0

    def restart(self) -> None:
        """Forgets all sessions."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.authority.ca.issue_cert("localhost").configure_cert(context)
        context.set_alpn_protocols(self.protocols)
        self.authority.ca.configure_trust(context)
        context.verify_mode = ssl.CERT_OPTIONAL
        if self.versions is not None:
            context.minimum_version = context.maximum_version = self.versions
        self.context.current = context

    @property
    def url(self) -> str:
        return f"https://localhost:{self.port}/"

    @asynccontextmanager
    async def run(self) -> AsyncIterator["Server"]:
        self.context = _CurrentContext(ssl.PROTOCOL_TLS_SERVER)
        self.restart()
        async with stream_server(self.serve, tls=self.context) as self.port:
            yield self

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        tls = writer.get_extra_info("ssl_object")
        self.reused.append(tls.session_reused)
        self.agreed.append(tls.selected_alpn_protocol())
        await reader.readuntil(b"\r\n\r\n")
        writer.write(self.answer)
        writer.close()


async def exchange(context: ssl.SSLContext | bool, server: Server) -> None:
    """One request over a session of aiohttp."""
    connector = EgressGuard().connector(HostSource.SUBMITTER)
    async with (
        aiohttp.ClientSession(connector=connector) as session,
        session.post(server.url, ssl=context) as response,
    ):
        assert await response.read() == b"ok"


async def poke(context: ssl.SSLContext | bool, url: str, egress: EgressGuard | None = None) -> bytes | None:
    """One request over the pool."""
    client = await HttpClient(egress=egress).start()
    try:
        answer = await client.fetch(Request("GET", url, None, None, context), 0.0)
        return await client.read(answer.response, 100)
    finally:
        await client.close()


async def failure(context: ssl.SSLContext | bool, url: str, egress: EgressGuard | None = None) -> str:
    """The message of the verdict on a request that fails."""
    with pytest.raises((aiohttp.ClientError, OSError)) as raised:
        await poke(context, url, egress)
    return classify_error(raised.value).message


async def trusting(authority: Authority) -> ssl.SSLContext:
    context = await client_tls(ClientTls(str(authority.file)))
    assert isinstance(context, ssl.SSLContext)
    return context


@pytest.mark.parametrize("loop", [asyncio.SelectorEventLoop, uvloop.new_event_loop])
@pytest.mark.parametrize("version", BOTH)
def test_the_session_of_an_earlier_connection_is_resumed(
    version: ssl.TLSVersion, loop: Any, authority: Authority
) -> None:
    async def run() -> list[bool]:
        context = await trusting(authority)
        async with Server(authority, versions=version).run() as server:
            await exchange(context, server)
            assert await poke(context, server.url) == b"ok"
            await exchange(context, server)
            assert await poke(context, server.url) == b"ok"
            return server.reused

    with asyncio.Runner(loop_factory=loop) as runner:
        assert runner.run(run()) == [False, True, True, True]


async def test_other_credentials_and_authorities_share_no_session(authority: Authority) -> None:
    others = [authority.client("one"), authority.client("two"), ClientTls(str(authority.file))]
    async with Server(authority).run() as server:
        for tls in others:
            await exchange(await client_tls(tls), server)
        await exchange(False, server)
        assert server.reused == [False] * 4
        await exchange(await client_tls(others[0]), server)
        assert server.reused[4:] == [True]
        assert await failure(True, server.url), "a session vouches for no other context"


async def test_another_port_of_the_same_host_is_another_origin(authority: Authority) -> None:
    context = await trusting(authority)
    async with Server(authority).run() as one, Server(authority).run() as other:
        for server in (one, other, one, other):
            await exchange(context, server)
        assert one.reused == other.reused == [False, True]


async def test_an_old_session_is_not_resumed(authority: Authority) -> None:
    clock = [0.0]
    context = ResumingContext(monotonic=lambda: clock[0])
    context.load_verify_locations(authority.file)
    async with Server(authority).run() as server:
        for now in (0.0, MAX_SESSION_AGE - 1, MAX_SESSION_AGE, MAX_SESSION_AGE + 1):
            clock[0] = now
            await exchange(context, server)
        assert server.reused == [False, True, False, True]


async def test_a_server_that_forgot_the_session_gets_a_full_handshake(authority: Authority) -> None:
    context = await trusting(authority)
    async with Server(authority).run() as server:
        await exchange(context, server)
        server.restart()
        for _ in range(3):
            await exchange(context, server)
        assert server.reused == [False, False, True, True]


async def test_the_minimum_version_is_a_setting(authority: Authority) -> None:
    context, egress = await trusting(authority), EgressGuard(tls=TlsContexts(minimum_version="1.3"))
    async with Server(authority, versions=ssl.TLSVersion.TLSv1_2).run() as old:
        assert await failure(context, old.url, egress)
        assert old.reused == []
    async with Server(authority, versions=ssl.TLSVersion.TLSv1_3).run() as new:
        assert await poke(context, new.url, egress) == b"ok"


async def test_the_trust_store_is_a_setting(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    async with Server(authority).run() as server:
        assert await poke(True, server.url, EgressGuard(tls=TlsContexts("system"))) == b"ok"
        refused = await failure(True, server.url, EgressGuard(tls=TlsContexts("certifi")))
        assert refused == "TLS failed: self-signed certificate in certificate chain."
        assert await poke(False, server.url, EgressGuard(tls=TlsContexts("certifi"))) == b"ok"


async def test_a_connection_with_a_certificate_trusts_the_store_of_the_setting(
    authority: Authority, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    context = [await client_tls(authority.client(name)._replace(verify=True)) for name in ("ann", "bob")]
    async with Server(authority).run() as server:
        assert await poke(context[0], server.url, EgressGuard(tls=TlsContexts("system"))) == b"ok"
        refused = await failure(context[1], server.url, EgressGuard(tls=TlsContexts("certifi")))
        assert refused == "TLS failed: self-signed certificate in certificate chain."


async def test_http_1_1_is_agreed_on(authority: Authority) -> None:
    async with Server(authority).run() as server:
        await exchange(await trusting(authority), server)
        assert server.agreed == ["http/1.1"]


@pytest.fixture
def http2_server(authority: Authority, tmp_path: Path) -> Iterator[int]:
    """The port of a server that agrees on nothing but HTTP/2."""
    program = shutil.which("openssl")
    if program is None:
        pytest.skip("there is no openssl")
    pem, port = tmp_path / "server.pem", free_port()
    authority.ca.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(pem)
    command = [program, "s_server", "-alpn", "h2", "-cert", str(pem), "-accept", str(port), "-www"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        while b"ACCEPT" not in (line := process.stdout.readline()):
            assert line, "it ended"
        yield port
        process.terminate()


async def test_a_server_that_answers_in_http2_is_named(authority: Authority) -> None:
    context, settings = await trusting(authority), b"\0\0\6\4\0\0\0\0\0\0\3\0\0\0\x80"
    async with Server(authority, answer=settings).run() as server:
        assert "speaks only HTTP/2" in await failure(context, server.url)
        with pytest.raises(aiohttp.ClientError, match="speaks only HTTP/2"):
            await exchange(context, server)


async def test_a_server_that_refuses_http_1_1_is_named(authority: Authority, http2_server: int) -> None:
    message = await failure(await trusting(authority), f"https://localhost:{http2_server}/")
    assert message == (
        "The server speaks only HTTP/2 and waitd speaks HTTP/1.1: enable HTTP/1.1 on the server, or use a reverse proxy that translates."
    )
