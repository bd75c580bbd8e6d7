"""The requests that the probe sends and the verdicts of the client's errors, without a server."""

import asyncio
import socket
import ssl
from functools import partial
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import CallbackResult, aioresponses
from fakes import FakeConnections
from raw_server import Transport, poke, probe

from waitd import __version__
from waitd.core.connections.connection import Connection
from waitd.core.connections.egress import HostSource
from waitd.core.waits.verdict import Success, Unreachable
from waitd.probes.http.probe import HttpProbe
from waitd.probes.transport.errors import classify_error

#: aioresponses 0.7.9 does not pass a response the writer that aiohttp 3.14 needs.
RESPONSE: Any = partial(aiohttp.ClientResponse, stream_writer=Mock())


@pytest.fixture(autouse=True)
def _through_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """aioresponses replaces the session only."""
    monkeypatch.setattr(Transport, "pooled", False)


async def sent(url: str, params: dict[str, Any], *connections: Connection) -> tuple[str, str, dict[str, Any]]:
    """Returns method, URL and arguments of the one request, to `url`, of a poke."""
    with aioresponses() as mocked:
        for method in ("GET", "POST"):
            mocked.add(url, method=method, payload={}, response_class=RESPONSE)
        async with probe(*connections) as http:
            [verdict] = await poke(http, params)
            assert isinstance(verdict, Success), verdict
        [((method, requested), [call])] = mocked.requests.items()
    return method, str(requested), call.kwargs


async def test_a_request_has_the_method_query_headers_and_body_of_the_params() -> None:
    method, url, call = await sent(
        "http://h.example/a?x=1&page=2&tag=a&tag=b%26c",
        {
            "endpoint": "http://h.example/a?x=1",
            "request_params": {"page": 2, "tag": ["a", "b&c"]},
            "method": "POST",
            "headers": {"X-A": "1"},
            "json": {"k": "ü"},
        },
    )
    assert (method, url) == ("POST", "http://h.example/a?page=2&tag=a&tag=b%26c&x=1")  # as the mock sorts it
    assert call["data"] == '{"k":"ü"}'.encode()
    assert dict(call["headers"]).items() >= {"X-A": "1", "Content-Type": "application/json"}.items()
    assert call["allow_redirects"] is False


async def test_headers_of_the_connection_replace_those_of_the_wait() -> None:
    api = Connection("c", host="h.example", schema="https", login="u", password="p", extra={"X-A": "theirs"})
    params = {"endpoint": "jobs/1", "http_conn_id": "c", "headers": {"x-a": "mine", "X-B": "2"}}
    _, url, call = await sent("https://h.example/jobs/1", params, api)
    assert url == "https://h.example/jobs/1"
    own = {"user-agent", "accept", "accept-encoding"}
    assert {name.lower(): value for name, value in call["headers"].items() if name.lower() not in own} == {
        "x-a": "theirs",
        "x-b": "2",
        "authorization": "Basic dTpw",
    }
    assert call["ssl"] is True


async def test_a_connection_can_disable_the_verification_of_certificates() -> None:
    api = Connection("c", host="h.example", schema="https", extra={"verify": False})
    _, _, call = await sent("https://h.example/x", {"endpoint": "x", "http_conn_id": "c"}, api)
    assert call["ssl"] is False


async def test_a_session_sends_waitds_user_agent_and_no_cookies_and_ignores_proxy_variables() -> None:
    async with probe() as http:
        assert set(http._client._sessions) == set(HostSource)
        for session in http._client._sessions.values():
            assert session.headers["User-Agent"] == f"waitd/{__version__}"
            assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
            assert session.trust_env is False
            assert session.timeout.total is None


async def test_the_verdict_of_an_unexpected_error_quotes_nothing() -> None:
    with aioresponses() as mocked:

        def broken(*_: Any, **__: Any) -> CallbackResult:
            raise LookupError("hunter2")

        mocked.get("http://h.example/", callback=broken)
        async with probe() as http:
            [verdict] = await poke(http, {"endpoint": "http://h.example/"})
    assert verdict == Unreachable("probe_error", "The poke itself failed: LookupError.")


async def test_a_cancelled_poke_cancels_its_request() -> None:
    with aioresponses() as mocked:

        async def hanging(*_: Any, **__: Any) -> CallbackResult:
            await asyncio.sleep(float("inf"))
            return CallbackResult()

        mocked.get("http://h.example/", callback=hanging)
        async with probe() as http:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(poke(http, {"endpoint": "http://h.example/"}), 0.01)


@pytest.mark.parametrize(
    ("params", "origin"),
    [
        ({"endpoint": "HTTPS://H.example:443/x?y"}, "https://h.example"),
        ({"endpoint": "x", "http_conn_id": "c"}, "http://h.example:81"),
        ({"endpoint": "x", "http_conn_id": "unknown"}, "connection unknown"),
    ],
)
def test_the_origin_of_a_target(params: dict[str, Any], origin: str) -> None:
    http = HttpProbe(FakeConnections(Connection("c", host="H.example", port=81)), secret_headers=())
    assert http.origin(http.parse(params, namespace="default")) == origin


KEY = aiohttp.client_reqrep.ConnectionKey("h", 1, False, True, None, None, None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (aiohttp.ClientConnectorError(KEY, OSError(111, "Connect call failed ('10.0.0.1', 4711)")), "connection_refused"),
        (aiohttp.ClientConnectorError(KEY, OSError(110, "x")), "timeout"),
        (aiohttp.ClientConnectorError(KEY, OSError(113, "x")), "no_route"),
        (aiohttp.ClientConnectorError(KEY, OSError(24, "x")), "local_error"),
            (aiohttp.ClientConnectorError(KEY, OSError(101, "x")), "no_route"),
            (aiohttp.ClientConnectorError(KEY, OSError(22, "x")), "connection_failed"),
        (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "x")), "dns"),
        (socket.gaierror(-2, "x"), "dns"),
        (aiohttp.ClientConnectorSSLError(KEY, ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] x")), "tls"),
        (aiohttp.ClientConnectorCertificateError(KEY, ssl.SSLCertVerificationError("x")), "tls"),
        (aiohttp.ServerDisconnectedError(), "disconnected"),
        (aiohttp.ClientOSError(104, "x"), "connection_reset"),
        (ConnectionResetError(104, "x"), "connection_reset"),
        (aiohttp.ClientPayloadError("x"), "truncated"),
        (aiohttp.InvalidURL("http://hunter2"), "bad_url"),
        (TimeoutError(), "timeout"),
        (RuntimeError("hunter2"), "probe_error"),
    ],
)  # fmt: skip
def test_each_error_has_a_stable_reason_and_a_message_that_quotes_nothing(
    error: Exception, reason: str
) -> None:
    verdict = classify_error(error)
    assert verdict.reason == reason
    assert "hunter2" not in verdict.message
    assert "4711" not in verdict.message
    assert classify_error(error) == verdict
