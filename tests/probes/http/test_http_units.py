"""What leaves the probe, and what it makes of the client's errors: no server is needed to see it."""

import asyncio
import ssl
from functools import partial
from typing import Any
from unittest.mock import Mock

import aiohttp
import pytest
from aioresponses import CallbackResult, aioresponses
from fakes import FixedAuthorizations
from raw_server import Transport, poke, probe

from waitd import __version__
from waitd.core.connections.connection import Connection
from waitd.core.connections.egress import HostSource
from waitd.core.waits.verdict import Success, Unreachable
from waitd.probes.http.probe import HttpProbe
from waitd.probes.transport.errors import classify_error

#: aioresponses 0.7.9 does not hand a response the writer that aiohttp 3.14 asks for.
RESPONSE: Any = partial(aiohttp.ClientResponse, stream_writer=Mock())


@pytest.fixture(autouse=True)
def _through_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """What aioresponses stands in for is the session."""
    monkeypatch.setattr(Transport, "pooled", False)


async def sent(params: dict[str, Any], *connections: Connection) -> tuple[str, str, dict[str, Any]]:
    """Method, URL and arguments of the one request that these parameters lead to."""
    with aioresponses() as mocked:
        async with probe(*connections) as http:
            base = connections[0].base_url() if connections else ""
            for method in ("GET", "POST"):
                mocked.add(f"{base}{params['url']}", method=method, payload={}, response_class=RESPONSE)
            wanted = {name: value for name, value in params.items() if name != "url"}
            [verdict] = await poke(http, wanted)
            assert isinstance(verdict, Success), verdict
        [((method, url), [call])] = mocked.requests.items()
    return method, str(url), call.kwargs


async def test_parameters_become_the_request() -> None:
    method, url, call = await sent(
        {
            "url": "http://h.example/a?x=1&page=2&tag=a&tag=b%26c",
            "endpoint": "http://h.example/a?x=1",
            "request_params": {"page": 2, "tag": ["a", "b&c"]},
            "method": "POST",
            "headers": {"X-A": "1"},
            "json": {"k": "ü"},
        }
    )
    assert (method, url) == ("POST", "http://h.example/a?page=2&tag=a&tag=b%26c&x=1")  # as the mock sorts it
    assert call["data"] == '{"k":"ü"}'.encode()
    assert dict(call["headers"]).items() >= {"X-A": "1", "Content-Type": "application/json"}.items()
    assert call["allow_redirects"] is False


async def test_a_connections_headers_win_over_the_waits_own() -> None:
    api = Connection("c", host="h.example", schema="https", login="u", password="p", extra={"X-A": "theirs"})
    _, url, call = await sent(
        {"url": "/jobs/1", "endpoint": "jobs/1", "http_conn_id": "c", "headers": {"x-a": "mine", "X-B": "2"}},
        api,
    )
    assert url == "https://h.example/jobs/1"
    own = {"user-agent", "accept", "accept-encoding"}
    assert {name.lower(): value for name, value in call["headers"].items() if name.lower() not in own} == {
        "x-a": "theirs",
        "x-b": "2",
        "authorization": "Basic dTpw",
    }
    assert call["ssl"] is True


async def test_verification_of_certificates_is_the_connections_choice() -> None:
    api = Connection("c", host="h.example", schema="https", extra={"verify": False})
    _, _, call = await sent({"url": "/x", "endpoint": "x", "http_conn_id": "c"}, api)
    assert call["ssl"] is False


async def test_the_session_names_waitd_keeps_no_cookies_and_reads_no_environment() -> None:
    async with probe() as http:
        assert set(http._client._sessions) == set(HostSource)
        for session in http._client._sessions.values():
            assert session.headers["User-Agent"] == f"waitd/{__version__}"
            assert isinstance(session.cookie_jar, aiohttp.DummyCookieJar)
            assert session.trust_env is False
            assert session.timeout.total is None


async def test_an_unforeseen_error_is_a_verdict_too_and_quotes_nothing() -> None:
    with aioresponses() as mocked:

        def broken(*_: Any, **__: Any) -> CallbackResult:
            raise LookupError("hunter2")

        mocked.get("http://h.example/", callback=broken)
        async with probe() as http:
            [verdict] = await poke(http, {"endpoint": "http://h.example/"})
    assert verdict == Unreachable("probe_error", "The poke itself failed: LookupError.")


async def test_a_cancelled_poke_is_cancelled() -> None:
    with aioresponses() as mocked:

        async def hanging(*_: Any, **__: Any) -> CallbackResult:
            await asyncio.sleep(float("inf"))
            return CallbackResult()

        mocked.get("http://h.example/", callback=hanging)
        async with probe() as http:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(poke(http, {"endpoint": "http://h.example/"}), 0.01)


class Known(FixedAuthorizations):
    """Connections of which some are in the cache."""

    def __init__(self, *connections: Connection) -> None:
        self.cache = {connection.conn_id: connection for connection in connections}

    async def get(self, conn_id: str) -> Connection:
        return self.cache[conn_id]

    refresh = get

    def cached_any(self, conn_id: str) -> Connection | None:
        return self.cache.get(conn_id)


def test_a_target_waits_at_its_origin_or_else_at_its_connection() -> None:
    http = HttpProbe(Known(Connection("c", host="H.example", port=81), Connection("bad")), secret_headers=())

    def origin(**params: Any) -> str:
        return http.origin(http.parse(params, namespace="default"))

    assert origin(endpoint="HTTPS://H.example:443/x?y") == "https://h.example"
    assert origin(endpoint="x", http_conn_id="c") == "http://h.example:81"
    assert origin(endpoint="x", http_conn_id="unknown") == "connection unknown"


KEY = aiohttp.client_reqrep.ConnectionKey("h", 1, False, True, None, None, None)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (aiohttp.ClientConnectorError(KEY, OSError(111, "Connect call failed ('10.0.0.1', 4711)")), "connection_refused"),
        (aiohttp.ClientConnectorError(KEY, OSError(110, "x")), "timeout"),
        (aiohttp.ClientConnectorError(KEY, OSError(113, "x")), "no_route"),
        (aiohttp.ClientConnectorError(KEY, OSError(24, "x")), "connection_failed"),
        (aiohttp.ClientConnectorDNSError(KEY, OSError(-2, "x")), "dns"),
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
def test_each_trouble_has_a_stable_name_that_quotes_nothing(error: Exception, reason: str) -> None:
    verdict = classify_error(error)
    assert verdict.reason == reason
    assert "hunter2" not in verdict.message
    assert "4711" not in verdict.message
    assert classify_error(error) == verdict
