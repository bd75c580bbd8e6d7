"""The table of HTTP answers and their verdicts, hostile answers included, over real sockets."""

import gzip
import zlib
from typing import Any, NamedTuple

import pytest
from job_api import CHUNKED, DONE, HUGE, IS_DONE
from raw_server import CLOSE, ENDLESS, HANG, RESET, Script, Transport, answer, poke, probe, raw_server

from waitd.core.http.headers import LONGEST_RETRY_AFTER
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable

pytestmark = pytest.mark.usefixtures("every_transport")

IS_DONE_OR_MISSING = {"success_when": "status == 404 || body.state == 'done'"}
BIG = b'{"state": "done", "x": "' + b"x" * 80_000 + b'"}'


def gzipped(body: bytes, encoding: str = "gzip") -> bytes:
    packed = gzip.compress(body) if encoding == "gzip" else zlib.compress(body)
    return answer(200, packed, f"Content-Encoding: {encoding}")


class Case(NamedTuple):
    name: str
    script: Script
    verdict: type
    reason: str
    params: dict[str, Any] = {}  # noqa: RUF012 - a NamedTuple's default is never changed
    message: str = ""
    payload: Any = None
    retry_after: float | None = None
    silenceable: bool = False


#: How servers write `Retry-After`, and how many seconds they mean.
RETRY_AFTERS: dict[str, float | None] = {
    "3.0": 3.0, "0": 0.0, " 8 ": 8.0, "007": 7.0, "1.": 1.0, "-5": None, "soon": None, "": None, "1e3": None, "NaN": None, "Infinity": None,
    "9" * 400: LONGEST_RETRY_AFTER, "9" * 14 + ".5": LONGEST_RETRY_AFTER, "Thu, 01 Jan 1970 00:01:40 GMT": 100.0,
    "Thursday, 01-Jan-70 00:01:40 GMT": 100.0, "Thu, 99 Jan 1970 00:01:40 GMT": None, "\u0663": None,
}  # fmt: skip

CASES = [
    # row 1: no complete answer
    Case("reset before the answer", [RESET], Unreachable, "connection_reset"),
    Case("closed before the answer", [CLOSE], Unreachable, "disconnected"),
    Case("closed within the head", [b"HTTP/1.1 200 OK\r\nContent-", CLOSE], Unreachable, "disconnected"),
    Case("garbage", [b"\x00\xffwhat is this?\r\n\r\n", CLOSE], Unreachable, "bad_answer"),
    Case("another protocol", [b"SSH-2.0-OpenSSH_9.2\r\n", CLOSE], Unreachable, "bad_answer"),
    Case("a head without end", [b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, CLOSE], Unreachable, "bad_answer"),
    Case("two lengths", [answer(200, b"{}", "Content-Length: 7")], Unreachable, "bad_answer"),
    Case("a negative length", [b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"], Unreachable, "bad_answer"),
    Case("a body shorter than its length", [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", CLOSE], Unreachable, "truncated"),
    Case("a short body that a condition needs", [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", CLOSE], Unreachable, "truncated", IS_DONE),
    Case("a body reset half-way", [b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{}", RESET], Unreachable, "truncated", IS_DONE),
    Case("chunks without an end", [CHUNKED + b"2\r\n{}\r\n", CLOSE], Unreachable, "truncated", IS_DONE),
    Case("malformed chunks", [CHUNKED + b"zz\r\n{}\r\n", CLOSE], Unreachable, "bad_answer", IS_DONE),
    Case("malformed gzip", [answer(200, b"{}", "Content-Encoding: gzip")], Unreachable, "truncated", IS_DONE),
    Case("truncated gzip", [answer(200, gzip.compress(HUGE)[:200], "Content-Encoding: gzip"), CLOSE], Unreachable, "truncated", IS_DONE),
    Case("truncated gzip that lacks its checksum", [answer(200, gzip.compress(BIG)[:-4], "Content-Encoding: gzip")], Unreachable, "truncated", {"result": "size(text)"}),
    Case("an encoding that is none", [answer(200, b'{"state": "done"}', "Content-Encoding: utf-8")], Success, "success", IS_DONE, payload={"state": "done"}),
    Case("an encoding that was not accepted", [answer(200, b"{}", "Content-Encoding: br")], Unreachable, "truncated", IS_DONE),
    Case("an endless body", [CHUNKED, ENDLESS], Unreachable, "too_large", IS_DONE, "1 MiB"),
    Case("an announced huge body", [b"HTTP/1.1 200 OK\r\nContent-Length: 9999999\r\n\r\n", HANG], Unreachable, "too_large", IS_DONE),
    Case("a gzip bomb", [gzipped(b"0" * (200 << 20))], Unreachable, "too_large", IS_DONE),
    Case("a gzip bomb that no condition needs", [answer(404, gzip.compress(HUGE), "Content-Encoding: gzip")], Pending, "http_404"),
    # row 2: the conditions
    Case("200 by default", [DONE], Success, "success", payload={"state": "done", "n": 1}, message="HTTP 200 OK"),
    Case("204", [answer(204)], Success, "success"),
    Case("201 with null", [answer(201, b"null")], Success, "success"),
    Case("true", [DONE], Success, "success", IS_DONE, payload={"state": "done", "n": 1}),
    Case("a result", [DONE], Success, "success", IS_DONE | {"result": "body.n + 1"}, payload=2),
    Case("a result with the status", [answer(200)], Success, "success", {"result": "status"}, payload=200),
    Case("a result that is not JSON", [DONE], Success, "result_omitted", {"result": "b'x'"}),
    Case("a result that fails", [DONE], Success, "result_omitted", {"result": "body.missing"}),
    Case("a result over its limit", [answer(200, BIG)], Success, "result_omitted", {"result": "body.x"}),
    Case("a body that is not JSON", [answer(200, b"<html>")], Success, "result_omitted"),
    Case("a body over 64 KiB", [answer(200, BIG)], Success, "result_omitted"),
    Case("a condition on a body over 64 KiB", [answer(200, BIG)], Success, "result_omitted", IS_DONE),
    Case("an endless body that no condition needs", [CHUNKED, ENDLESS], Success, "result_omitted"),
    Case("a message", [DONE], Success, "success", {"message": "'it is ' + body.state"}, "it is done", {"state": "done", "n": 1}),
    Case("a failure", [DONE], Failure, "failure", {"failure_when": "body.n == 1", "success_when": "true"}, payload={"state": "done", "n": 1}),
    Case("a failure's message and result", [DONE], Failure, "failure", {"failure_when": "body.n == 1", "message": "body.state", "result": "body.n"}, "done", 1),
    Case("not a failure, so a success", [DONE], Success, "success", {"failure_when": "body.n == 2"}, payload={"state": "done", "n": 1}),
    Case("a 404 that is a success", [answer(404, b'{"a": 1}')], Success, "success", IS_DONE_OR_MISSING, payload={"a": 1}),
    Case("a 500 that is a failure", [answer(500, b'{"a": 1}')], Failure, "failure", {"failure_when": "status == 500 && body.a == 1"}, payload={"a": 1}),
    Case("a 503 without a condition on status", [answer(503, b'{"state": "done"}')], Unreachable, "http_503", IS_DONE),
    Case("headers, lower case and joined", [answer(200, b"1", "X-A: p", "x-a: q")], Success, "success", {"success_when": "headers['x-a'] == 'p, q'"}, payload=1),
    Case("a header that is not UTF-8", [answer(200, b"1", "X-A: p").replace(b": p", b": \xff")], Success, "success", {"success_when": "headers['x-a'] == '\ufffd'"}, payload=1),
    Case("text", [answer(200, b"all done")], Success, "result_omitted", {"success_when": "text.endsWith('done')"}),
    Case("text in its charset", [answer(200, "fertig: \u00fc".encode("latin-1"), "Content-Type: text/plain; charset=latin-1")], Success, "result_omitted", {"success_when": "text == 'fertig: \u00fc'"}),
    Case("invalid UTF-8", [answer(200, b"\xff done")], Success, "result_omitted", {"success_when": "text == '\ufffd done'"}),
    Case("invalid UTF-8 as JSON", [answer(200, b'{"state": "\xff"}')], Success, "success", {"success_when": "body.state == '\ufffd'"}, payload={"state": "\ufffd"}),
    Case("an unknown charset", [answer(200, b"done", "Content-Type: text/plain; charset=klingon")], Success, "result_omitted", {"success_when": "text == 'done'"}),
    Case("gzip", [gzipped(b'{"state": "done"}')], Success, "success", IS_DONE, payload={"state": "done"}),
    Case("deflate", [gzipped(b'{"state": "done"}', "deflate")], Success, "success", IS_DONE, payload={"state": "done"}),
    Case("deflate without its header", [answer(200, zlib.compress(b'{"state": "done"}')[2:-4], "Content-Encoding: deflate")], Success, "success", IS_DONE, payload={"state": "done"}),
    Case("gzip in two members", [answer(200, gzip.compress(b'{"state":') + gzip.compress(b' "done"}'), "Content-Encoding: gzip")], Success, "success", IS_DONE, payload={"state": "done"}),
    Case("gzip twice", [answer(200, gzip.compress(gzip.compress(b'{"state": "done"}')), "Content-Encoding: gzip, gzip")], Success, "success", IS_DONE, payload={"state": "done"}),
    Case("gzip of nothing", [answer(200, b"", "Content-Encoding: gzip")], Success, "success"),
    Case("chunks", [CHUNKED + b'9\r\n{"state":\r\n', b'8\r\n "done"}\r\n0\r\n\r\n'], Success, "success", IS_DONE, payload={"state": "done"}),
    Case("a body until the end of the connection", [b'HTTP/1.1 200 OK\r\n\r\n{"state": "done"}', CLOSE], Success, "success", IS_DONE, payload={"state": "done"}),
    Case("a HEAD", [b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\nX-A: 1\r\n\r\n"], Success, "success", {"method": "HEAD", "success_when": "headers['x-a'] == '1'"}),
    # row 2, not true: row 8
    Case("false", [answer(200, b'{"state": "running"}')], Pending, "http_200", IS_DONE, "HTTP 200 OK"),
    Case("a missing field", [answer(200, b"{}")], Pending, "http_200", IS_DONE, 'Key not found in map : "state"'),
    Case("null", [answer(200, b"null")], Pending, "http_200", IS_DONE),
    Case("not a boolean", [answer(200, b'{"state": 3}')], Pending, "http_200", {"success_when": "body.state"}, "not a boolean"),
    Case("a pending message", [answer(200, b'{"state": "running"}')], Pending, "http_200", IS_DONE | {"message": "body.state"}, "running"),
    Case("a message that is not a string", [answer(200, b'{"state": 3}')], Pending, "http_200", IS_DONE | {"message": "body.state"}, "HTTP 200 OK"),
    Case("more iterations than allowed", [answer(200, b"[" + b"1," * 10_001 + b"1]")], Pending, "http_200", {"success_when": "body.exists(x, x == 2)"}, "Iteration budget"),
    # row 3
    Case("404", [answer(404, b"nope")], Pending, "http_404", message="HTTP 404 Not Found"),
    Case("a listed status", [answer(503)], Pending, "http_503", {"response_error_codes_allowlist": ["503"]}),
    Case("a listed 401", [answer(401)], Pending, "http_401", {"response_error_codes_allowlist": ["401"]}),
    # row 4
    *(Case(f"{status}", [answer(status)], Unreachable, f"http_{status}") for status in (408, 425, 429, 500, 502, 503, 504, 599)),
    Case("Retry-After in seconds", [answer(429, b"", "Retry-After: 7")], Unreachable, "http_429", retry_after=7.0),
    Case("Retry-After as a date", [answer(503, b"", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT", "Date: Fri, 31 Dec 1999 23:59:00 GMT")], Unreachable, "http_503", retry_after=59.0),
    Case("Retry-After as a date without Date", [answer(503, b"", "Retry-After: Thu, 01 Jan 1970 00:01:40 GMT")], Unreachable, "http_503", retry_after=100.0),
    Case("Retry-After in the past", [answer(503, b"", "Retry-After: Thu, 01 Jan 1970 00:01:40 GMT", "Date: Fri, 31 Dec 1999 23:59:00 GMT")], Unreachable, "http_503", retry_after=0.0),
    Case("Retry-After with a fraction", [answer(503, b"", "Retry-After: 3.5")], Unreachable, "http_503", retry_after=3.5),
    Case("a 403 with a fraction", [answer(403, b"", "Retry-After: 2.0")], Unreachable, "http_403", retry_after=2.0),
    Case("a 403 that is a rate limit", [answer(403, b"", "x-ratelimit-remaining: 0", "X-RateLimit-Reset: 40")], Unreachable, "http_403", retry_after=40.0),
    Case("a 403 that is a rate limit without an end", [answer(403, b"", "RateLimit-Remaining: 0")], Unreachable, "http_403", retry_after=60.0),
    Case("a 403 with the field RateLimit", [answer(403, b"", 'RateLimit: "default";r=0;t=30')], Unreachable, "http_403", retry_after=30.0),
    Case("a 403 with the older RateLimit", [answer(403, b"", "RateLimit: limit=10, remaining=0, reset=5")], Unreachable, "http_403", retry_after=5.0),
    Case("a 403 whose body is a rate limit", [answer(403, b'{"message": "You have exceeded a secondary rate limit."}')], Unreachable, "http_403", retry_after=60.0),
    Case("the same in gzip", [answer(403, gzip.compress(b'{"reason": "rateLimitExceeded"}'), "Content-Encoding: gzip")], Unreachable, "http_403", retry_after=60.0),
    Case("a 403 with Retry-After and such a body", [answer(403, b"rate limit", "Retry-After: 7")], Unreachable, "http_403", retry_after=7.0),
    Case("a 400 of AWS that throttles", [answer(400, b'{"__type":"ThrottlingException"}')], Unreachable, "http_400", retry_after=60.0),
    Case("a 403 whose body cannot be read", [answer(403, b"{}", "Content-Encoding: br")], Failure, "http_403", silenceable=True),
    Case("a 403 with an endless body", [CHUNKED.replace(b"200 OK", b"403 No"), ENDLESS], Failure, "http_403", silenceable=True),
    Case("a 403 that a condition decides", [answer(403, b'"rate limit"')], Failure, "failure", {"failure_when": "status == 403"}, payload="rate limit"),
    Case("a 403 that is allowed", [answer(403, b"rate limit")], Pending, "http_403", {"response_error_codes_allowlist": ["403"]}),
    Case("a 403 within its rate limit", [answer(403, b"", "X-RateLimit-Remaining: 10", 'RateLimit: "a";r=10;t=30')], Failure, "http_403", silenceable=True),
    Case("a 429 with its rate limit", [answer(429, b"", "X-RateLimit-Remaining: 0", "X-RateLimit-Reset: 8")], Unreachable, "http_429", retry_after=8.0),
    *(Case(f"Retry-After {text!r}", [answer(503, b"", f"Retry-After: {text}")], Unreachable, "http_503", retry_after=pause) for text, pause in RETRY_AFTERS.items()),
    # a pause that any other answer asks for
    *(Case(f"{text!r} on a 202", [answer(202, b"{}", f"retry-after: {text}")], Pending, "http_202", {"success_when": "status == 200"}, retry_after=pause) for text, pause in RETRY_AFTERS.items()),
    Case("a date on a 200", [answer(200, b"{}", "Retry-After: Fri, 31 Dec 1999 23:59:59 GMT", "Date: Fri, 31 Dec 1999 23:59:00 GMT")], Pending, "http_200", IS_DONE, retry_after=59.0),
    Case("a pause on a 404", [answer(404, b"", "Retry-After: 9")], Pending, "http_404", retry_after=9.0),
    Case("a pause on a large answer", [answer(200, BIG.replace(b"done", b"busy"), "Retry-After: 9")], Pending, "http_200", IS_DONE, retry_after=9.0),
    Case("a pause on an answer that is too large", [CHUNKED.replace(b"\r\n\r\n", b"\r\nRetry-After: 9\r\n\r\n"), ENDLESS], Unreachable, "too_large", IS_DONE, retry_after=9.0),
    Case("a pause on a success", [answer(200, b"1", "Retry-After: 9")], Success, "success", payload=1),
    Case("a pause on a redirect loop", [answer(302, b"", "Location: /again", "Retry-After: 9")], Unreachable, "redirect_loop", retry_after=9.0),
    Case("a pause on a redirect to nowhere", [answer(302, b"", "Location: http://[", "Retry-After: 9")], Unreachable, "http_302", retry_after=9.0),
    *(Case(f"a pause on a {status}", [answer(status, b"", "Retry-After: 9")], Unreachable, f"http_{status}", retry_after=9.0) for status in (304, 400, 409, 413, 423)),
    Case("a pause on a 401", [answer(401, b"", "Retry-After: 9")], Failure, "http_401", silenceable=True),
    # rows 5 and 7, without a connection
    Case("401", [answer(401)], Failure, "http_401", message="HTTP 401 Unauthorized", silenceable=True),
    Case("a redirect to another origin", [answer(302, b"", "Location: http://login.example/?next=secret")], Failure, "redirected_elsewhere", message="http://login.example", silenceable=True),
    Case("a redirect to another port", [answer(307, b"", "Location: //127.0.0.1:1/x")], Failure, "redirected_elsewhere", silenceable=True),
    Case("a redirect elsewhere that is a success", [answer(302, b"", "Location: http://login.example/")], Success, "success", {"success_when": "status == 302"}),
    # row 6
    *(Case(f"{status} without a location", [answer(status)], Unreachable, f"http_{status}") for status in (300, 301, 302, 303, 304, 305, 307, 308)),
    *(Case(f"a loop of {status}", [answer(status, b"", "Location: /again")], Unreachable, "redirect_loop") for status in (301, 302, 303, 307, 308)),
    Case("a redirect to a malformed URL", [answer(302, b"", "Location: http://[")], Unreachable, "http_302"),
    Case("a redirect with a backslash", [answer(302, b"", "Location: /\\evil.example/")], Unreachable, "http_302"),
    Case("a redirect with a password", [answer(302, b"", "Location: http://a:b@127.0.0.1/")], Unreachable, "http_302"),
    Case("a redirect to a file", [answer(302, b"", "Location: file:///etc/passwd")], Unreachable, "http_302"),
    # row 7
    *(Case(f"{status}", [answer(status)], Failure, f"http_{status}", silenceable=True) for status in (400, 403, 405, 410, 418, 422, 451, 499)),
    Case("a refusal's message", [answer(403, b'{"e": "no"}')], Failure, "http_403", {"message": "status == 403 ? string(body.e) : ''"}, "no", silenceable=True),
    # row 8
    Case("202, not yet", [answer(202, b"{}")], Pending, "http_202", {"success_when": "status == 200"}, "HTTP 202 Accepted"),
    Case("an unknown status", [answer(799)], Pending, "http_799", message="HTTP 799"),
]  # fmt: skip


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
async def test_an_answer_has_the_verdict_of_the_table(case: Case) -> None:
    before = Transport.taskless
    async with raw_server(case.script) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": f"{server.url}/jobs/1?key=hidden", **case.params})
    assert Transport.taskless == before + (
        Transport.warm and case.params.get("method") in {None, "GET", "HEAD"}
    )
    assert (type(verdict), verdict.reason) == (case.verdict, case.reason), verdict
    assert case.message in verdict.message
    assert "hidden" not in verdict.message
    assert "secret" not in verdict.message
    assert getattr(verdict, "payload", None) == case.payload
    assert getattr(verdict, "retry_after", None) == case.retry_after
    assert getattr(verdict, "silenceable", False) == case.silenceable


async def test_equal_answers_have_one_verdict_object() -> None:
    script = [answer(503, b"", "Date: Fri, 31 Dec 1999 23:59:00 GMT")]
    async with raw_server(script) as server, probe() as http:
        [first], [second] = [await poke(http, {"endpoint": server.url}) for _ in range(2)]
    assert first is second
