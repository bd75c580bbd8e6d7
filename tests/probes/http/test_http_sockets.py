"""What a poke does with its sockets: broken and reused connections, TLS, unread bodies."""

import asyncio
import gc
import ssl
from pathlib import Path
from typing import Any

import pytest
from certificates import Authority
from daemon import until
from job_api import CHUNKED, DONE, IS_DONE
from raw_server import CLOSE, ENDLESS, HANG, RESET, RawServer, Script, answer, poke, probe, raw_server
from stream_server import ClosingServer, stream_server

from waitd.core.connections.connection import Connection
from waitd.core.connections.egress import HostSource
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable
from waitd.probes.http.probe import HttpPoke
from waitd.probes.transport.connection import Http1Connection
from waitd.probes.transport.response import Http1Response

pytestmark = pytest.mark.usefixtures("every_transport")


@pytest.mark.parametrize(
    "script", [[b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", CLOSE], [CLOSE], [RESET], [b"nonsense\r\n\r\n"]], ids=str
)  # fmt: skip
async def test_a_broken_connection_leaves_no_reference_cycle(script: Script) -> None:
    """With a hundred thousand waits the garbage collector seldom runs."""
    async with raw_server(script) as server, probe() as http:
        gc.collect()
        gc.disable()
        try:
            [verdict] = await poke(http, {"endpoint": server.url, **IS_DONE})
            assert isinstance(verdict, Unreachable)
            # The transport takes some turns of the loop to close.
            await until(
                lambda: (
                    not any(isinstance(each, Http1Connection | Http1Response) for each in gc.get_objects())
                ),
                5,
            )
        finally:
            gc.enable()


@pytest.mark.parametrize("sent", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}"])
async def test_a_poke_that_times_out_leaves_no_reference_cycle(sent: bytes) -> None:
    """Many of them at once would hold the loop while the garbage collector finds them."""
    async with raw_server([sent, HANG]) as server, probe() as http:
        gc.collect()
        gc.disable()
        try:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(poke(http, {"endpoint": server.url, **IS_DONE}), 0.2)
            kinds = HttpPoke | Http1Connection | Http1Response
            await until(lambda: not any(isinstance(each, kinds) for each in gc.get_objects()))
        finally:
            gc.enable()


async def test_a_request_is_repeated_if_the_reused_connection_was_closed() -> None:
    def script(_: str, n: int) -> Script:
        return [CLOSE] if n == 2 else [DONE]

    async with raw_server(script) as server, probe() as http:
        verdicts = [(await poke(http, {"endpoint": server.url, **IS_DONE}))[0] for _ in range(2)]
        assert [type(verdict) for verdict in verdicts] == [Success, Success]
        assert len(server.requests) == 3


async def test_a_request_is_repeated_on_no_more_than_a_new_connection() -> None:
    def script(_: str, n: int) -> Script:
        return [DONE] if n <= 2 else [CLOSE]

    async with raw_server(script) as server, probe() as http:
        await asyncio.gather(*(poke(http, {"endpoint": f"{server.url}/{n}"}) for n in range(2)))
        [verdict] = await poke(http, {"endpoint": server.url})
        assert isinstance(verdict, Unreachable)
        assert len(server.requests) in {4, 5}, "on one or both of the kept connections, and on a new one"


async def test_a_refused_connection_is_unreachable() -> None:
    async with raw_server([DONE]) as server:
        url = server.url
    async with probe() as http:
        [verdict] = await poke(http, {"endpoint": url})
    assert verdict == Unreachable("connection_refused", "The connection was refused.")


async def test_an_unknown_host_is_unreachable() -> None:
    async with probe() as http:
        [verdict] = await poke(http, {"endpoint": "http://no-such-host.invalid/"})
    assert verdict == Unreachable("dns", "The host name could not be resolved.")


async def test_a_port_that_does_not_speak_tls_is_unreachable() -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(10)
        writer.write(b"this is no TLS\r\n\r\n")
        await writer.drain()
        writer.close()

    async with stream_server(plain) as port, probe() as http:
        [verdict] = await poke(http, {"endpoint": f"https://127.0.0.1:{port}/"})
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == "tls"
    assert str(port) not in verdict.message


@pytest.mark.parametrize(("verify", "expected"), [(False, Success), (True, Unreachable)])
async def test_an_unknown_certificate_is_accepted_only_if_the_connection_says_so(
    verify: bool, expected: type
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(DONE)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(Path(__file__).parents[2] / "sinks" / "self_signed.pem")
    async with stream_server(serve, tls=context) as port:
        api = Connection("api", host="127.0.0.1", schema="https", port=port, extra={"verify": verify})
        async with probe(api) as http:
            [verdict] = await poke(http, {"http_conn_id": "api", "endpoint": "/x", **IS_DONE})
    assert isinstance(verdict, expected)
    assert verify is False or verdict.reason == "tls"


async def test_a_connection_names_its_authority_and_its_client_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    server = RawServer(lambda _head, _n: [DONE])
    async with stream_server(server.serve, tls=authority.demanding_context()) as port:
        api = Connection("api", host=f"https://127.0.0.1:{port}", extra=authority.extra)
        async with probe(api) as http:
            verdicts = [await poke(http, {"http_conn_id": "api", **IS_DONE}) for _ in range(2)]
        without = Connection("api", host=api.host, extra={"verify": str(authority.file)})
        async with probe(without) as http:
            [refused] = await poke(http, {"http_conn_id": "api", **IS_DONE})
    assert [type(verdict) for [verdict] in verdicts] == [Success, Success]
    assert isinstance(refused, Unreachable)
    assert (server.connections, len(server.requests)) == (1, 2)  # equal options share a connection


@pytest.mark.parametrize("extra", [{"verify": "/missing/ca.crt"}, {"cert": ["/missing/c", "/missing/k"]}])
async def test_a_file_of_a_connection_that_is_missing_is_named(extra: dict[str, Any]) -> None:
    async with probe(Connection("api", host="https://127.0.0.1:9", extra=extra)) as http:
        [verdict] = await poke(http, {"http_conn_id": "api", **IS_DONE})
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == "connection_invalid"
    assert "'/missing/" in verdict.message


async def test_a_cancelled_poke_closes_its_connection() -> None:
    async with raw_server([b"HTTP/1.1 200 OK\r\nContent-Le", HANG]) as server, probe() as http:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(poke(http, {"endpoint": server.url}), 0.05)
        connector = http._client._sessions[HostSource.SUBMITTER].connector
        assert connector is not None
        assert not connector._acquired


async def test_an_endless_body_is_read_up_to_a_limit() -> None:
    async with raw_server([CHUNKED, ENDLESS]) as server, probe() as http:
        await poke(http, {"endpoint": server.url, **IS_DONE})
        assert server.sent < 32 << 20


async def test_a_connection_with_a_short_unneeded_body_is_kept() -> None:
    async with raw_server([answer(404, b"x" * 1000)]) as server, probe() as http:
        for _ in range(3):
            await poke(http, {"endpoint": server.url})
        assert (len(server.requests), server.connections) == (3, 1)


@pytest.mark.parametrize(
    ("status", "expected"),
    [("404 Not Found", (Pending, "http_404")), ("403 Forbidden", (Failure, "http_403"))],
)
async def test_an_unneeded_body_that_never_arrives_does_not_change_the_verdict(
    status: str, expected: tuple[type, str]
) -> None:
    script: Script = [f"HTTP/1.1 {status}\r\nContent-Length: 5\r\n\r\n".encode(), HANG]
    async with raw_server(script) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": server.url})
    assert (type(verdict), verdict.reason) == expected


@pytest.mark.parametrize(
    "wait",
    [
        {"method": "GET"},
        {"method": "PUT"},
        {"method": "POST", "safe": True},
        {"method": "POST", "json": {"a": 1}, "safe": True},
        {"method": "PATCH", "safe": True},
    ],
)
async def test_a_safe_poke_that_meets_a_connection_closed_while_idle_is_sent_again(
    wait: dict[str, Any],
) -> None:
    server = ClosingServer(DONE)
    async with stream_server(server.serve) as port, probe() as http:
        for _ in range(3):
            [verdict] = await poke(http, {"endpoint": f"http://127.0.0.1:{port}/", **wait})
            assert isinstance(verdict, Success)
    assert server.requests == 3


@pytest.mark.parametrize("method", ["POST", "PATCH"])
async def test_a_poke_that_may_change_something_is_not_sent_again(method: str) -> None:
    server = ClosingServer(DONE)
    async with stream_server(server.serve) as port, probe() as http:
        wait = {"endpoint": f"http://127.0.0.1:{port}/", "method": method}
        verdicts = [(await poke(http, wait))[0] for _ in range(3)]
    assert [verdict.reason for verdict in verdicts] == ["success", "disconnected", "success"]
