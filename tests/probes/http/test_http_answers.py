"""The answer table, each row a case, the hostile ones too, against a real server over a real socket."""

import asyncio
import gc
import gzip
import ssl
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from daemon import until
from raw_server import (
    CLOSE,
    ENDLESS,
    HANG,
    RESET,
    RawServer,
    Script,
    Transport,
    answer,
    poke,
    probe,
    raw_server,
)
from stream_server import stream_server

from waitd.core.connections.connection import Connection
from waitd.core.connections.egress import HostSource
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable
from waitd.probes.transport.connection import Http1Connection
from waitd.probes.transport.response import Http1Response

OK = answer(200, b'{"state": "done", "n": 1}')
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
STATE = {"success_when": "body.state == 'done'"}
SEEN = {"success_when": "status == 404 || body.state == 'done'"}
BIG = b'{"state": "done", "x": "' + b"x" * 80_000 + b'"}'
HUGE = b'{"state": "done", "x": "' + b"x" * (1 << 20) + b'"}'


def gzipped(body: bytes, encoding: str = "gzip") -> bytes:
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    return answer(200, packed, f"Content-Encoding: {encoding}")


class Case(NamedTuple):
    name: str
    script: Script
    kind: type
    reason: str
    params: dict[str, Any] = {}  # noqa: RUF012 - a NamedTuple's default is never changed
    message: str = ""
    payload: Any = None
    retry_after: float | None = None
    silenceable: bool = False


CASES = [
    # row 1: no complete answer
    Case("reset before the answer", [RESET], Unreachable, "connection_reset"),
    Case("closed before the answer", [CLOSE], Unreachable, "disconnected"),
    Case("closed inside the head", [b"HTTP/1.1 200 OK\r\nContent-", CLOSE], Unreachable, "disconnected"),
    Case("garbage", [b"\x00\xffwhat is this?\r\n\r\n", CLOSE], Unreachable, "bad_answer"),
    Case("another protocol", [b"SSH-2.0-OpenSSH_9.2\r\n", CLOSE], Unreachable, "bad_answer"),
    Case("a head without end", [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, CLOSE], Unreachable, "bad_answer"),
    Case("two lengths", [answer(200, b"{}", "Content-Length: 7")], Unreachable, "bad_answer"),
    Case("a negative length", [b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"], Unreachable, "bad_answer"),
    Case("a body shorter than its length", [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", CLOSE], Unreachable, "truncated"),
    Case("the same, asked by a condition", [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", CLOSE], Unreachable, "truncated", STATE),
    Case("a body reset half-way", [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", RESET], Unreachable, "truncated", STATE),
    Case("chunks without an end", [CHUNKED + b"2\r\n{}\r\n", CLOSE], Unreachable, "truncated", STATE),
    Case("chunks that are none", [CHUNKED + b"zz\r\n{}\r\n", CLOSE], Unreachable, "bad_answer", STATE),
    Case("gzip that is none", [answer(200, b"{}", "Content-Encoding: gzip")], Unreachable, "truncated", STATE),
    Case("gzip cut off", [answer(200, gzip.compress(HUGE)[:200], "Content-Encoding: gzip"), CLOSE], Unreachable, "truncated", STATE),
    Case("gzip cut off is no success either", [answer(200, gzip.compress(BIG)[:-4], "Content-Encoding: gzip")], Unreachable, "truncated", {"result": "size(text)"}),
    Case("an encoding that was not asked for", [answer(200, b"{}", "Content-Encoding: br")], Unreachable, "truncated", STATE),
    Case("an endless body", [CHUNKED, ENDLESS], Unreachable, "too_large", STATE, "1 MiB"),
    Case("an announced huge body", [b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", HANG], Unreachable, "too_large", STATE),
    Case("a gzip bomb", [gzipped(b"0" * (200 << 20))], Unreachable, "too_large", STATE),
    Case("a gzip bomb that nothing looks into", [answer(404, gzip.compress(HUGE), "Content-Encoding: gzip")], Pending, "http_404"),
    # row 2: the conditions
    Case("200 by default", [OK], Success, "success", payload={"state": "done", "n": 1}, message="HTTP 200 OK"),
    Case("204", [answer(204)], Success, "success"),
    Case("201 with null", [answer(201, b"null")], Success, "success"),
    Case("true", [OK], Success, "success", STATE, payload={"state": "done", "n": 1}),
    Case("a result", [OK], Success, "success", STATE | {"result": "body.n + 1"}, payload=2),
    Case("a result with the status", [answer(200)], Success, "success", {"result": "status"}, payload=200),
    Case("a result that is no JSON", [OK], Success, "result_omitted", {"result": "b'x'"}),
    Case("a result that fails", [OK], Success, "result_omitted", {"result": "body.missing"}),
    Case("a result over its limit", [answer(200, BIG)], Success, "result_omitted", {"result": "body.x"}),
    Case("a body that is no JSON", [answer(200, b"<html>")], Success, "result_omitted"),
    Case("a body over 64 KiB", [answer(200, BIG)], Success, "result_omitted"),
    Case("a condition on a body over 64 KiB", [answer(200, BIG)], Success, "result_omitted", STATE),
    Case("an endless body that no condition needs", [CHUNKED, ENDLESS], Success, "result_omitted"),
    Case("a message", [OK], Success, "success", {"message": "'it is ' + body.state"}, "it is done", {"state": "done", "n": 1}),
    Case("a failure", [OK], Failure, "failure", {"failure_when": "body.n == 1", "success_when": "true"}, payload={"state": "done", "n": 1}),
    Case("a failure's message and result", [OK], Failure, "failure", {"failure_when": "body.n == 1", "message": "body.state", "result": "body.n"}, "done", 1),
    Case("not a failure, so a success", [OK], Success, "success", {"failure_when": "body.n == 2"}, payload={"state": "done", "n": 1}),
    Case("a 404 that is a success", [answer(404, b'{"a": 1}')], Success, "success", SEEN, payload={"a": 1}),
    Case("a 500 that is a failure", [answer(500, b'{"a": 1}')], Failure, "failure", {"failure_when": "status == 500 && body.a == 1"}, payload={"a": 1}),
    Case("a 503 is not asked without status", [answer(503, b'{"state": "done"}')], Unreachable, "http_503", STATE),
    Case("headers, lower case and joined", [answer(200, b"1", "X-A: p", "x-a: q")], Success, "success", {"success_when": "headers['x-a'] == 'p, q'"}, payload=1),
    Case("a header that is no UTF-8", [answer(200, b"1", "X-A: p") .replace(b": p", b": \xff")], Success, "success", {"success_when": "headers['x-a'] == '\ufffd'"}, payload=1),
    Case("text", [answer(200, b"all done")], Success, "result_omitted", {"success_when": "text.endsWith('done')"}),
    Case("text in its charset", [answer(200, "fertig: \u00fc".encode("latin-1"), "Content-Type: text/plain; charset=latin-1")], Success, "result_omitted", {"success_when": "text == 'fertig: \u00fc'"}),
    Case("invalid UTF-8", [answer(200, b"\xff done")], Success, "result_omitted", {"success_when": "text == '\ufffd done'"}),
    Case("invalid UTF-8 as JSON", [answer(200, b'{"state": "\xff"}')], Pending, "http_200", {"success_when": "body != null"}),
    Case("an unknown charset", [answer(200, b"done", "Content-Type: text/plain; charset=klingon")], Success, "result_omitted", {"success_when": "text == 'done'"}),
    Case("gzip", [gzipped(b'{"state": "done"}')], Success, "success", STATE, payload={"state": "done"}),
    Case("deflate", [gzipped(b'{"state": "done"}', "deflate")], Success, "success", STATE, payload={"state": "done"}),
    Case("deflate without its header", [answer(200, zlib.compress(b'{"state": "done"}')[2:-4], "Content-Encoding: deflate")], Success, "success", STATE, payload={"state": "done"}),
    Case("gzip in two members", [answer(200, gzip.compress(b'{"state":') + gzip.compress(b' "done"}'), "Content-Encoding: gzip")], Success, "success", STATE, payload={"state": "done"}),
    Case("gzip of nothing", [answer(200, b"", "Content-Encoding: gzip")], Success, "success"),
    Case("chunks", [CHUNKED + b'9\r\n{"state":\r\n', b'8\r\n "done"}\r\n0\r\n\r\n'], Success, "success", STATE, payload={"state": "done"}),
    Case("a body until the end of the connection", [b'HTTP/1.1 200 OK\r\n\r\n{"state": "done"}', CLOSE], Success, "success", STATE, payload={"state": "done"}),
    Case("a HEAD", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-A: 1\r\n\r\n"], Success, "success", {"method": "HEAD", "success_when": "headers['x-a'] == '1'"}),
    # row 2, not true: 8
    Case("false", [answer(200, b'{"state": "running"}')], Pending, "http_200", STATE, "HTTP 200 OK"),
    Case("a missing field", [answer(200, b"{}")], Pending, "http_200", STATE, 'Key not found in map : "state"'),
    Case("null", [answer(200, b"null")], Pending, "http_200", STATE),
    Case("no boolean after all", [answer(200, b'{"state": 3}')], Pending, "http_200", {"success_when": "body.state"}, "not a boolean"),
    Case("a pending message", [answer(200, b'{"state": "running"}')], Pending, "http_200", STATE | {"message": "body.state"}, "running"),
    Case("a message that is no string", [answer(200, b'{"state": 3}')], Pending, "http_200", STATE | {"message": "body.state"}, "HTTP 200 OK"),
    Case("more iterations than allowed", [answer(200, b"[" + b"1," * 10_001 + b"1]")], Pending, "http_200", {"success_when": "body.exists(x, x == 2)"}, "Iteration budget"),
    # row 3
    Case("404", [answer(404, b"nope")], Pending, "http_404", message="HTTP 404 Not Found"),
    Case("a listed status", [answer(503)], Pending, "http_503", {"response_error_codes_allowlist": ["503"]}),
    Case("a listed 401", [answer(401)], Pending, "http_401", {"response_error_codes_allowlist": ["401"]}),
    # row 4
    *(Case(f"{status}", [answer(status)], Unreachable, f"http_{status}") for status in (408, 425, 429, 500, 502, 503, 504, 599)),
    Case("Retry-After in seconds", [answer(429, b"", "Retry-After: 7")], Unreachable, "http_429", retry_after=7.0),
    Case("Retry-After as a date", [answer(503, b"", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT", "Date: Fri, 31 Dec 1999 23:59:00 GMT")], Unreachable, "http_503", retry_after=59.0),
    Case("Retry-After as a date against the clock", [answer(503, b"", "Retry-After: Thu, 01 Jan 1970 00:01:40 GMT")], Unreachable, "http_503", retry_after=100.0),
    Case("Retry-After in the past", [answer(503, b"", "Retry-After: Thu, 01 Jan 1970 00:01:40 GMT", "Date: Fri, 31 Dec 1999 23:59:00 GMT")], Unreachable, "http_503", retry_after=0.0),
    Case("Retry-After that is neither", [answer(503, b"", "Retry-After: soon")], Unreachable, "http_503"),
    # rows 5 and 7, without a connection
    Case("401", [answer(401)], Failure, "http_401", message="HTTP 401 Unauthorized", silenceable=True),
    Case("a redirect to another origin", [answer(302, b"", "Location: http://login.example/?next=secret")], Failure, "redirected_elsewhere", message="http://login.example", silenceable=True),
    Case("a redirect to another port", [answer(307, b"", "Location: //127.0.0.1:1/x")], Failure, "redirected_elsewhere", silenceable=True),
    Case("a redirect elsewhere that is a success", [answer(302, b"", "Location: http://login.example/")], Success, "success", {"success_when": "status == 302"}),
    # row 6
    *(Case(f"{status} without a location", [answer(status)], Unreachable, f"http_{status}") for status in (300, 301, 302, 303, 304, 305, 307, 308)),
    *(Case(f"a loop of {status}", [answer(status, b"", "Location: /again")], Unreachable, "redirect_loop") for status in (301, 302, 303, 307, 308)),
    Case("a redirect nowhere", [answer(302, b"", "Location: http://[")], Unreachable, "http_302"),
    Case("a redirect with a backslash", [answer(302, b"", "Location: /\\evil.example/")], Unreachable, "http_302"),
    Case("a redirect with a password", [answer(302, b"", "Location: http://a:b@127.0.0.1/")], Unreachable, "http_302"),
    Case("a redirect to a file", [answer(302, b"", "Location: file:///etc/passwd")], Unreachable, "http_302"),
    # row 7
    *(Case(f"{status}", [answer(status)], Failure, f"http_{status}", silenceable=True) for status in (400, 403, 405, 410, 418, 422, 451, 499)),
    Case("a refusal's message", [answer(403, b'{"e": "no"}')], Failure, "http_403", {"message": "status == 403 ? string(body.e) : ''"}, "no", silenceable=True),
    # row 8
    Case("202, not yet", [answer(202, b"{}")], Pending, "http_202", {"success_when": "status == 200"}, "HTTP 202 Accepted"),
    Case("a status nobody knows", [answer(799)], Pending, "http_799", message="HTTP 799"),
]  # fmt: skip


@pytest.fixture(autouse=True, params=["cold pool", "warm pool", "session"])
def _every_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every answer means the same on a new connection, on an idle one without a task, and through aiohttp's session."""
    monkeypatch.setattr(Transport, "pooled", request.param != "session")
    monkeypatch.setattr(Transport, "warm", request.param == "warm pool")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_an_answer_means_what_the_table_says(case: Case) -> None:
    before = Transport.taskless
    async with raw_server(case.script) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": f"{server.url}/jobs/1?key=hidden", **case.params})
    assert Transport.taskless == before + (
        Transport.warm and case.params.get("method") in {None, "GET", "HEAD"}
    )
    assert (type(verdict), verdict.reason) == (case.kind, case.reason), verdict
    assert case.message in verdict.message
    assert "hidden" not in verdict.message
    assert "secret" not in verdict.message
    assert getattr(verdict, "payload", None) == case.payload
    assert getattr(verdict, "retry_after", None) == case.retry_after
    assert getattr(verdict, "silenceable", False) == case.silenceable


@pytest.mark.parametrize(
    "script", [[b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", CLOSE], [CLOSE], [RESET], [b"nonsense\r\n\r\n"]], ids=str
)  # fmt: skip
async def test_a_connection_that_broke_leaves_nothing_to_the_garbage_collector(script: Script) -> None:
    """It comes seldom where a hundred thousand waits are held."""
    async with raw_server(script) as server, probe() as http:
        gc.collect()
        gc.disable()
        try:
            [verdict] = await poke(http, {"endpoint": server.url, **STATE})
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


async def test_a_connection_that_was_used_again_and_is_closed_was_no_answer() -> None:
    def script(_: str, n: int) -> Script:
        return [CLOSE] if n == 2 else [OK]

    async with raw_server(script) as server, probe() as http:
        seen = [(await poke(http, {"endpoint": server.url, **STATE}))[0] for _ in range(2)]
        assert [type(verdict) for verdict in seen] == [Success, Success]
        assert len(server.requests) == 3


async def test_where_every_connection_was_closed_meanwhile_it_is_asked_twice_and_no_more() -> None:
    def script(_: str, n: int) -> Script:
        return [OK] if n <= 2 else [CLOSE]

    async with raw_server(script) as server, probe() as http:
        await asyncio.gather(*(poke(http, {"endpoint": f"{server.url}/{n}"}) for n in range(2)))
        [verdict] = await poke(http, {"endpoint": server.url})
        assert isinstance(verdict, Unreachable)
        assert len(server.requests) == 4


async def test_a_refused_connection_is_not_seeing() -> None:
    async with raw_server([OK]) as server:
        url = server.url
    async with probe() as http:
        [verdict] = await poke(http, {"endpoint": url})
    assert verdict == Unreachable("connection_refused", "The connection was refused.")


async def test_an_unknown_host_is_not_seeing() -> None:
    async with probe() as http:
        [verdict] = await poke(http, {"endpoint": "http://no-such-host.invalid/"})
    assert verdict == Unreachable("dns", "The host name could not be resolved.")


async def test_tls_to_a_plain_port_is_not_seeing() -> None:
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


@pytest.mark.parametrize(("verify", "seen"), [(False, Success), (True, Unreachable)])
async def test_tls_is_spoken_and_an_unknown_certificate_is_taken_only_where_the_connection_says_so(
    verify: bool, seen: type
) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(OK)
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(Path(__file__).parents[2] / "sinks" / "self_signed.pem")
    async with stream_server(serve, tls=context) as port:
        api = Connection("api", host="127.0.0.1", schema="https", port=port, extra={"verify": verify})
        async with probe(api) as http:
            [verdict] = await poke(http, {"http_conn_id": "api", "endpoint": "/x", **STATE})
    assert isinstance(verdict, seen)
    assert verify is False or verdict.reason == "tls"


async def test_a_hanging_target_is_left_when_the_caller_gives_up_and_its_connection_is_closed() -> None:
    async with raw_server([b"HTTP/1.1 200 OK\r\nContent-Le", HANG]) as server, probe() as http:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(poke(http, {"endpoint": server.url}), 0.05)
        connector = http._client._sessions[HostSource.SUBMITTER].connector
        assert connector is not None
        assert not connector._acquired


async def test_a_gzip_bomb_and_an_endless_body_are_not_taken_in() -> None:
    async with raw_server([CHUNKED, ENDLESS]) as server, probe() as http:
        await poke(http, {"endpoint": server.url, **STATE})
        assert server.sent < 32 << 20


async def test_a_body_that_nothing_needs_keeps_the_connection_where_it_is_short() -> None:
    async with raw_server([answer(404, b"x" * 1000)]) as server, probe() as http:
        for _ in range(3):
            await poke(http, {"endpoint": server.url})
        assert (len(server.requests), server.connections) == (3, 1)


async def test_a_body_that_nothing_needs_and_that_never_comes_changes_nothing() -> None:
    script: Script = [b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\n\r\n", HANG]
    async with raw_server(script) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": server.url})
    assert verdict == Pending("http_404", "HTTP 404 Not Found")


def redirecting(status: int) -> Callable[[str, int], Script]:
    def script(head: str, n: int) -> Script:
        body = b"" if head.startswith("HEAD") else b"{}"
        return [answer(status, body, "Location: ../there?x=1#y") if n == 1 else answer(200, body)]

    return script


@pytest.mark.parametrize(
    ("status", "method", "then"),
    [
        *((status, "GET", "GET") for status in (301, 302, 303, 307, 308)),
        (303, "HEAD", "HEAD"),
        (301, "POST", "GET"),
        (302, "POST", "GET"),
        (303, "PUT", "GET"),
        (302, "PUT", "PUT"),
        (307, "POST", "POST"),
        (308, "POST", "POST"),
    ],
)
async def test_a_redirect_within_the_origin_is_followed_with_the_right_method(
    status: int, method: str, then: str
) -> None:
    async with raw_server(redirecting(status)) as server, probe() as http:
        params = {"endpoint": f"{server.url}/a/here", "method": method} | (
            {"json": {"a": 1}} if method in {"POST", "PUT"} else {}
        )
        [verdict] = await poke(http, params)
    assert isinstance(verdict, Success)
    assert [request.partition("\r\n")[0] for request in server.requests] == [
        f"{method} /a/here HTTP/1.1",
        f"{then} /there?x=1 HTTP/1.1",
    ]
    kept = method in {"POST", "PUT"} and then == method
    assert ('{"a":1}' in server.requests[1]) == kept
    assert ("content-type" in server.requests[1].lower()) == kept


async def test_five_redirects_are_followed_and_no_more() -> None:
    def script(_: str, n: int) -> Script:
        return [answer(302, b"", f"Location: /{n}") if n <= 5 else OK]

    async with raw_server(script) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": server.url})
    assert isinstance(verdict, Success)
    assert server.paths == ["/", "/1", "/2", "/3", "/4", "/5"]


async def test_the_sixth_redirect_is_a_loop() -> None:
    def script(_: str, n: int) -> Script:
        return [answer(302, b"", f"Location: /{n}") if n <= 6 else OK]

    async with raw_server(script) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": server.url})
    assert verdict.reason == "redirect_loop"
    assert len(server.requests) == 6


# ---------------------------------------------------------------- with a connection


def connection(server: RawServer, password: str = "old", **more: Any) -> Connection:
    return Connection("job_api", host=server.url, password=password, extra={"auth_type": "bearer", **more})


BY_CONNECTION = {"endpoint": "jobs/1", "http_conn_id": "job_api"}


def only_for(token: str, refusal: bytes) -> Callable[[str, int], Script]:
    return lambda head, _: [OK if f"Authorization: Bearer {token}\r\n" in head else refusal]


LOGIN = answer(302, b"", "Location: https://login.example/")


@pytest.mark.parametrize("refusal", [answer(401), LOGIN])
async def test_a_refusal_is_asked_again_with_fresh_credentials(refusal: bytes) -> None:
    async with (
        raw_server(only_for("new", refusal)) as server,
        probe(connection(server), connection(server, "new")) as http,
    ):
        [verdict] = await poke(http, BY_CONNECTION)
    assert isinstance(verdict, Success)
    assert len(server.requests) == 2


@pytest.mark.parametrize(("refusal", "reason"), [(answer(401), "http_401"), (LOGIN, "redirected_elsewhere")])
async def test_a_second_refusal_is_a_failure_that_silent_fail_may_silence(
    refusal: bytes, reason: str
) -> None:
    async with raw_server([refusal]) as server, probe(connection(server)) as http:
        [verdict] = await poke(http, BY_CONNECTION)
    assert isinstance(verdict, Failure)
    assert (verdict.reason, verdict.silenceable) == (reason, True)
    assert "old" not in verdict.message
    assert len(server.requests) == 2


async def test_a_refusal_while_the_secrets_backend_is_down_is_not_seeing() -> None:
    async with (
        raw_server([answer(401)]) as server,
        probe(connection(server), ConnectionUnavailable("vault is sealed: hunter2")) as http,
    ):
        [verdict] = await poke(http, BY_CONNECTION)
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == "credentials_unavailable"
    assert "hunter2" not in verdict.message


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (UnknownConnection("job_api"), "unknown_connection"),
        (ConnectionUnavailable("down"), "credentials_unavailable"),
    ],
)
async def test_a_connection_that_cannot_be_resolved_is_not_seeing(error: Exception, reason: str) -> None:
    async with probe(error) as http:
        [verdict] = await poke(http, BY_CONNECTION)
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == reason


@pytest.mark.parametrize(
    "broken",
    [
        Connection("job_api"),
        Connection("job_api", host="http://u:hunter2@h"),
        Connection("job_api", host="h", password="hunter2\r\nX: y", extra={"auth_type": "bearer"}),
        Connection("job_api", host="h", password="hunter2", extra={"auth_type": "kerberos"}),
    ],
)
async def test_a_connection_that_cannot_be_used_is_not_seeing_and_its_secret_is_not_quoted(
    broken: Connection,
) -> None:
    async with probe(broken) as http:
        [verdict] = await poke(http, BY_CONNECTION)
    assert isinstance(verdict, Unreachable)
    assert verdict.reason == "connection_invalid"
    assert "hunter2" not in verdict.message


async def test_credentials_do_not_follow_an_absolute_endpoint_to_another_origin() -> None:
    async with raw_server([OK]) as server, raw_server([OK]) as other, probe(connection(server)) as http:
        [verdict] = await poke(http, {"endpoint": f"{other.url}/x", "http_conn_id": "job_api"})
        assert isinstance(verdict, Unreachable)
        assert other.requests == []


async def test_a_redirect_elsewhere_is_never_requested() -> None:
    async with raw_server([OK]) as other:
        away = [answer(307, b"", f"Location: {other.url}/x")]
        async with raw_server(away) as server, probe(connection(server)) as http:
            await poke(http, BY_CONNECTION)
        assert other.requests == []


async def test_a_redirect_within_the_origin_keeps_the_credentials() -> None:
    async with raw_server(redirecting(302)) as server, probe(connection(server)) as http:
        await poke(http, BY_CONNECTION)
    assert all("Authorization: Bearer old\r\n" in request for request in server.requests)


# ---------------------------------------------------------------- groups


async def test_a_group_is_one_request_and_each_member_is_judged_by_its_own_conditions() -> None:
    async with raw_server([OK]) as server, probe() as http:
        url = {"endpoint": server.url}
        verdicts = await poke(
            http,
            url | {"success_when": "body.state == 'other'"},
            url | STATE,
            url | {"failure_when": "body.n == 1"},
            url | {"success_when": "status == 201"},
            *[url] * 20,
        )
    assert len(server.requests) == 1
    assert [type(verdict) for verdict in verdicts] == [Pending, Success, Failure, Pending, *[Success] * 20]


async def test_in_a_group_only_those_who_need_it_suffer_from_a_body_that_is_too_large() -> None:
    async with raw_server([answer(200, HUGE)]) as server, probe() as http:
        url = {"endpoint": server.url}
        verdicts = await poke(http, url | STATE, url, url | {"success_when": "status == 201"})
    assert [verdict.reason for verdict in verdicts] == ["too_large", "result_omitted", "http_200"]


async def test_in_a_group_only_the_refused_are_asked_again() -> None:
    async with raw_server([answer(401)]) as server, probe(connection(server)) as http:
        verdicts = await poke(http, BY_CONNECTION, BY_CONNECTION | {"success_when": "status == 401"})
    assert [type(verdict) for verdict in verdicts] == [Failure, Success]
    assert len(server.requests) == 2


async def test_a_group_shares_the_trouble_too() -> None:
    async with raw_server([RESET]) as server, probe() as http:
        verdicts = await poke(http, {"endpoint": server.url}, {"endpoint": server.url, **STATE})
    assert [verdict.reason for verdict in verdicts] == ["connection_reset"] * 2


async def test_equal_answers_give_equal_verdicts_so_that_they_form_one_run() -> None:
    async with (
        raw_server([answer(503, b"", "Date: Fri, 31 Dec 1999 23:59:00 GMT")]) as server,
        probe() as http,
    ):
        first = await poke(http, {"endpoint": server.url})
        second = await poke(http, {"endpoint": server.url})
    assert first[0] is second[0]
