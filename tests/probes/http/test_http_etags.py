"""Conditional requests: only about what came to "not yet", only where the target gives an ETag, and never for long on trust."""

from collections.abc import Sequence
from typing import Any

import pytest
from preset_probes import kinds
from raw_server import RawServer, Script, Transport, answer, poke, probe, raw_server

from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Pending, Success, Unreachable, Verdict
from waitd.probes.http import etags as http_etags
from waitd.probes.http.probe import HttpProbe

TAG = 'W/"1"'
RUNNING = answer(200, b'{"state": "RUNNING"}', f"ETag: {TAG}")
DONE = answer(200, b'{"state": "DONE"}', 'etag: "2"')
UNCHANGED = b"HTTP/1.1 304 Not Modified\r\n\r\n"
WHEN = {"success_when": "body.state == 'DONE'", "message": "body.state"}


@pytest.fixture(params=["cold pool", "warm pool", "session"], autouse=True)
def _every_transport(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Transport, "pooled", request.param != "session")
    monkeypatch.setattr(Transport, "warm", request.param == "warm pool")


def honest(answers: Sequence[bytes]) -> Any:
    """A server that gives these, one a request, and 304 where the one to give has the ETag that it is asked with."""

    def script(head: str, number: int) -> Script:
        given = answers[min(number, len(answers)) - 1]
        return [UNCHANGED if asked_with(head) and f": {asked_with(head)}\r\n".encode() in given else given]

    return script


def asked_with(head: str) -> str:
    lines = [line for line in head.splitlines() if line.lower().startswith("if-none-match:")]
    return lines[0].partition(": ")[2] if lines else ""


async def look(http: HttpProbe, server: RawServer, *waits: dict[str, Any]) -> Sequence[Verdict]:
    return await poke(http, *({"endpoint": f"{server.url}/job"} | wait for wait in waits or (WHEN,)))


async def test_what_has_not_changed_is_still_pending_and_what_has_is_judged() -> None:
    script = honest([RUNNING, RUNNING, answer(503), RUNNING, DONE, DONE])
    async with raw_server(script) as server, probe() as http:
        seen = [(await look(http, server))[0] for _ in range(6)]
    pending = Pending("http_200", "RUNNING")
    assert [seen[index] for index in (0, 1, 3)] == [pending] * 3
    assert isinstance(seen[2], Unreachable)
    assert all(isinstance(verdict, Success) for verdict in seen[4:])
    assert [asked_with(head) for head in server.requests] == ["", TAG, TAG, TAG, TAG, ""]


@pytest.mark.parametrize(
    ("given", "wait"),
    [
        (answer(200, b'{"state": "RUNNING"}'), WHEN),  # no ETag
        (answer(202, b'{"state": "RUNNING"}', f"ETag: {TAG}"), WHEN),
        (DONE, WHEN),
        (RUNNING, WHEN | {"method": "HEAD", "success_when": "false", "message": None}),
        (answer(200, b"{}", 'ETag: "' + "x" * 300 + '"'), WHEN),
        (answer(200, b"{}", 'ETag: "\u00fc"'), WHEN),
    ],
    ids=["none", "202", "done", "HEAD", "long", "no ASCII"],
)  # fmt: skip
async def test_nothing_is_kept_of_any_other_answer(given: bytes, wait: dict[str, Any]) -> None:
    given = given.split(b"\r\n\r\n")[0] + b"\r\n\r\n" if "method" in wait else given
    async with raw_server([given]) as server, probe() as http:
        for _ in range(3):
            await look(http, server, wait)
        assert not http._context.etags.entries
    assert [asked_with(head) for head in server.requests] == [""] * 3


async def test_a_wait_that_has_not_judged_the_answer_yet_gets_all_of_it() -> None:
    other = {"success_when": "body.state == 'RUNNING'"}
    third = {"failure_when": "body.state == 'LOST'", "success_when": "false"}
    async with raw_server(honest([RUNNING])) as server, probe() as http:
        await look(http, server)
        assert isinstance((await look(http, server, WHEN, other))[1], Success)
        await look(http, server, WHEN, third)
        both = await look(http, server, third, WHEN)
    assert both == [Pending("http_200", "HTTP 200 OK"), Pending("http_200", "RUNNING")]
    assert [asked_with(head) for head in server.requests] == ["", "", "", TAG]


async def test_a_server_whose_etag_never_changes_is_found_out() -> None:
    def script(head: str, number: int) -> Script:
        return [UNCHANGED if asked_with(head) else RUNNING if number == 1 else DONE]

    async with raw_server(script) as server, probe() as http:
        seen = [(await look(http, server))[0] for _ in range(http_etags.MAX_NOT_MODIFIED + 2)]
    assert all(isinstance(verdict, Pending) for verdict in seen[:-1])
    assert isinstance(seen[-1], Success)


async def test_a_304_that_nobody_asked_for_is_no_answer() -> None:
    own = WHEN | {"headers": {"If-None-Match": '"mine"'}}
    async with (
        raw_server(lambda _, number: [RUNNING if number == 1 else UNCHANGED]) as server,
        probe() as http,
    ):
        [first], [second] = await look(http, server, own), await look(http, server, own)
    assert isinstance(first, Pending)
    assert isinstance(second, Unreachable)
    assert [asked_with(head) for head in server.requests] == ['"mine"'] * 2


async def test_a_signed_request_is_sent_as_it_was_signed() -> None:
    """Azure's signature covers If-None-Match, so a header that is added later would break it."""
    async with raw_server(honest([RUNNING])) as server:
        extra = {"auth_type": "azure_storage"}
        signing = Connection("api", host=server.url, login="account", password="a2V5", extra=extra)
        async with probe(signing, signing, signing) as http:
            for _ in range(3):
                [seen] = await poke(http, WHEN | {"endpoint": "/job", "http_conn_id": "api"})
                assert isinstance(seen, Pending)
            assert not http._context.etags.entries
    assert [asked_with(head) for head in server.requests] == [""] * 3
    assert all("\r\nAuthorization: " in head for head in server.requests)


async def test_what_is_kept_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_etags, "MAX_ENTRIES", 3)
    async with raw_server(honest([RUNNING])) as server, probe() as http:
        for number in range(6):
            await look(http, server, WHEN | {"endpoint": f"{server.url}/{number}"})
        assert len(http._context.etags.entries) == 3
        for number in (5, 0):
            await look(http, server, WHEN | {"endpoint": f"{server.url}/{number}"})
    assert [asked_with(head) for head in server.requests[-2:]] == [TAG, ""]


async def test_a_run_of_github_costs_no_quota_while_it_runs() -> None:
    running = answer(200, b'{"id": 1, "status": "in_progress"}', f"ETag: {TAG}")
    done = answer(200, b'{"id": 1, "status": "completed", "conclusion": "success"}', 'ETag: "3"')
    params = {"owner": "apache", "repo": "airflow", "run_id": 1}
    async with raw_server(honest([running, running, done])) as server:
        github = Connection("github_default", host=server.url, password="token")
        async with kinds(github, pooled=Transport.pooled) as probes:
            seen = await probes.poke_repeatedly("github.run", params, 3)
    assert [type(verdict) for verdict in seen] == [Pending, Pending, Success]
    assert seen[1] == seen[0]
    assert [asked_with(head) for head in server.requests] == ["", TAG, TAG]
    assert all("\r\nAuthorization: Bearer token\r\n" in head for head in server.requests)
