"""Redirects: which are followed, with which method, body and credentials."""

from collections.abc import Callable
from typing import Any

import pytest
from job_api import BY_CONNECTION, DONE, job_api
from raw_server import Script, answer, poke, probe, raw_server

from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Success

pytestmark = pytest.mark.usefixtures("every_transport")


def redirect_once(status: int) -> Callable[[str, int], Script]:
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
    async with raw_server(redirect_once(status)) as server, probe() as http:
        body = {"json": {"a": 1}} if method in {"POST", "PUT"} else {}
        [verdict] = await poke(http, {"endpoint": f"{server.url}/a/here", "method": method, **body})
    assert isinstance(verdict, Success)
    assert [request.partition("\r\n")[0] for request in server.requests] == [
        f"{method} /a/here HTTP/1.1",
        f"{then} /there?x=1 HTTP/1.1",
    ]
    kept = bool(body) and then == method
    assert ('{"a":1}' in server.requests[1]) == kept
    assert ("content-type" in server.requests[1].lower()) == kept


@pytest.mark.parametrize(("redirects", "reason"), [(5, "success"), (6, "redirect_loop")])
async def test_at_most_five_redirects_are_followed(redirects: int, reason: str) -> None:
    def script(_: str, n: int) -> Script:
        return [answer(302, b"", f"Location: /{n}") if n <= redirects else DONE]

    async with raw_server(script) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": server.url})
    assert verdict.reason == reason
    assert server.paths == ["/", "/1", "/2", "/3", "/4", "/5"]


@pytest.mark.parametrize(
    ("extra", "reason", "requests"),
    [
        ({"max_redirects": 7}, "success", 8),
        ({"max_redirects": 2}, "redirect_loop", 3),
        ({"max_redirects": 0}, "redirect_loop", 1),
        ({"allow_redirects": False}, "http_302", 1),
        ({"allow_redirects": "false", "max_redirects": 7}, "http_302", 1),
    ],
)
async def test_a_connection_may_limit_its_redirects(
    extra: dict[str, Any], reason: str, requests: int
) -> None:
    def script(_: str, n: int) -> Script:
        return [answer(302, b"", f"Location: /{n}") if n <= 7 else DONE]

    async with (
        raw_server(script) as server,
        probe(Connection("job_api", host=server.url, extra=extra)) as http,
    ):
        [verdict] = await poke(http, BY_CONNECTION)
    assert (verdict.reason, len(server.requests)) == (reason, requests)


async def test_a_redirect_that_is_not_followed_may_leave_the_origin() -> None:
    extra = {"allow_redirects": False}
    async with (
        raw_server([answer(302, b"", "Location: https://elsewhere.example/")]) as server,
        probe(Connection("job_api", host=server.url, extra=extra)) as http,
    ):
        [verdict] = await poke(http, BY_CONNECTION | {"success_when": "status == 302"})
    assert isinstance(verdict, Success)


async def test_a_redirect_to_another_origin_is_not_followed() -> None:
    async with raw_server([DONE]) as other:
        away = [answer(307, b"", f"Location: {other.url}/x")]
        async with raw_server(away) as server, probe(job_api(server.url)) as http:
            await poke(http, BY_CONNECTION)
        assert other.requests == []


async def test_a_redirect_within_the_origin_keeps_the_credentials() -> None:
    async with raw_server(redirect_once(302)) as server, probe(job_api(server.url)) as http:
        await poke(http, BY_CONNECTION)
    assert all("Authorization: Bearer old\r\n" in request for request in server.requests)
