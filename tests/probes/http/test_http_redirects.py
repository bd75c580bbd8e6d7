"""Redirects: which are followed, with which method, body and credentials."""

from collections.abc import Callable
from dataclasses import replace
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


@pytest.mark.parametrize(
    ("location", "requested"),
    [
        ("/x?sig=a%2Fb%2fc+%41~&e=", "/x?sig=a%2Fb%2fc+%41~&e="),
        ("{origin}/k%2Fy//z?sig=%2B%3D;1", "/k%2Fy//z?sig=%2B%3D;1"),
        ("//{host}/x?sig=%2F#part", "/x?sig=%2F"),
        ("next?sig=%2F%zz", "/a/next?sig=%2F%zz"),
        ("?sig=%2F", "/a/here?sig=%2F"),
        ("{origin}?sig=%2F", "/?sig=%2F"),
        ("/a b/\u00e9?q=\u00e9", "/a%20b/%C3%A9?q=%C3%A9"),
    ],
)
async def test_a_location_is_followed_byte_for_byte(location: str, requested: str) -> None:
    def script(_: str, n: int) -> Script:
        there = location.format(origin=server.url, host=server.url.removeprefix("http://"))
        return (
            [f"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {there}\r\n\r\n".encode()]
            if n == 1
            else [DONE]
        )

    async with raw_server(script) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": f"{server.url}/a/here"})
    assert isinstance(verdict, Success)
    assert server.paths == ["/a/here", requested]


def cookies_of(request: str) -> list[str]:
    lines = [line for line in request.split("\r\n") if line.lower().startswith("cookie:")]
    return [pair for line in lines for pair in line.partition(": ")[2].split("; ")]


def redirect_with(*fields: str, to: str = "/job/there") -> Callable[[str, int], Script]:
    """Answers requests without the cookie `session` with a redirect and these fields."""

    def script(head: str, _: int) -> Script:
        if "session=" in head:
            return [DONE]
        return [answer(302, b"", f"Location: {to}", *(f"Set-Cookie: {each}" for each in fields))]

    return script


@pytest.mark.parametrize(
    ("field", "sent"),
    [
        ("a=1; Path=/", ["a=1"]),
        ("a=1; HttpOnly; SameSite=Strict; Max-Age=60", ["a=1"]),
        ('a="x y=z"; Path=/job', ['a="x y=z"']),
        ('a={"k":1}', ['a={"k":1}']),
        ("a=1; Path=/other", []),
        ("a=1; Path=/job/there/below", []),
        ("a=1; Secure", []),
        ("a=1; Max-Age=0", []),
        ("a=1; Expires=Thu, 01 Jan 1970 00:00:00 GMT", []),
        ("a=1; Domain=elsewhere.example", []),
    ],
)
async def test_a_redirect_carries_the_cookies_that_its_url_may_have(field: str, sent: list[str]) -> None:
    redirect = redirect_with("session=s1; Path=/", field)
    async with raw_server(redirect) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": f"{server.url}/job/here"})
    assert isinstance(verdict, Success)
    assert cookies_of(server.requests[0]) == []
    assert cookies_of(server.requests[1]) == ["session=s1", *sent]


async def test_a_redirect_to_itself_that_sets_a_cookie_is_no_loop() -> None:
    async with raw_server(redirect_with("session=s1", to="/job")) as server, probe() as http:
        [verdict] = await poke(http, {"endpoint": f"{server.url}/job"})
    assert isinstance(verdict, Success)
    assert server.paths == ["/job", "/job"]


async def test_the_cookies_of_a_poke_are_forgotten_after_it() -> None:
    async with raw_server(redirect_with("session=s1; Max-Age=600")) as server, probe() as http:
        for _ in range(2):
            await poke(http, {"endpoint": f"{server.url}/job"})
    assert [cookies_of(request) for request in server.requests] == [[], ["session=s1"]] * 2


async def test_later_cookies_replace_and_clear_earlier_ones_and_join_those_of_the_connection() -> None:
    steps = [
        answer(302, b"", "Location: /1", "Set-Cookie: step=1; Path=/", "Set-Cookie: lang=fr; Path=/"),
        answer(302, b"", "Location: /2", "Set-Cookie: step=2", "Set-Cookie: more=m"),
        answer(302, b"", "Location: /3", "Set-Cookie: more=; Max-Age=0", "Set-Cookie: lang=; Max-Age=0"),
    ]
    own = Connection("job_api", extra={"Cookie": "id=i; lang=en"})

    def script(_: str, n: int) -> Script:
        return [steps[n - 1]] if n <= len(steps) else [DONE]

    async with raw_server(script) as server, probe(replace(own, host=server.url)) as http:
        await poke(http, BY_CONNECTION)
    assert [cookies_of(request) for request in server.requests] == [
        ["id=i", "lang=en"],
        ["id=i", "step=1", "lang=fr"],
        ["id=i", "step=2", "lang=fr", "more=m"],
        ["id=i", "lang=en", "step=2"],
    ]


async def test_no_answer_reveals_a_cookie_that_was_set_on_the_way() -> None:
    def script(head: str, _: int) -> Script:
        if "session=" in head:
            return [answer(200, b'{"state": "you are s3cr3t-s3ss10n"}')]
        return [answer(302, b"", "Location: /", "Set-Cookie: session=s3cr3t-s3ss10n")]

    async with raw_server(script) as server, probe() as http:
        wait = {"endpoint": server.url, "message": "body.state"}
        [verdict] = await poke(http, wait)
    assert "you are" in str(verdict)
    assert "s3cr3t" not in str(verdict)


async def test_cookies_never_reach_another_origin() -> None:
    async with raw_server([DONE]) as other:
        away = redirect_with("session=s1", to=f"{other.url}/x")
        async with raw_server(away) as server, probe() as http:
            await poke(http, {"endpoint": server.url})
        assert other.requests == []
