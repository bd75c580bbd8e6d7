"""Conditional requests: only after a pending verdict, only with an ETag, only ten in a row."""

from collections.abc import Callable, Sequence
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


pytestmark = pytest.mark.usefixtures("every_transport")


def answer_conditionally(answers: Sequence[bytes]) -> Callable[[str, int], Script]:
    """Answers with these in order, the last one stays; with 304 if the request names its ETag."""

    def script(head: str, number: int) -> Script:
        current = answers[min(number, len(answers)) - 1]
        etag = requested_etag(head)
        return [UNCHANGED if etag and f": {etag}\r\n".encode() in current else current]

    return script


def requested_etag(head: str) -> str:
    lines = [line for line in head.splitlines() if line.lower().startswith("if-none-match:")]
    return lines[0].partition(": ")[2] if lines else ""


def requested_etags(server: RawServer) -> list[str]:
    return [requested_etag(head) for head in server.requests]


async def poke_job(http: HttpProbe, server: RawServer, *waits: dict[str, Any]) -> Sequence[Verdict]:
    return await poke(http, *({"endpoint": f"{server.url}/job"} | wait for wait in waits or (WHEN,)))


async def test_a_304_repeats_the_pending_verdict_and_a_changed_answer_is_evaluated() -> None:
    script = answer_conditionally([RUNNING, RUNNING, answer(503), RUNNING, DONE, DONE])
    async with raw_server(script) as server, probe() as http:
        verdicts = [(await poke_job(http, server))[0] for _ in range(6)]
    pending = Pending("http_200", "RUNNING")
    assert [verdicts[index] for index in (0, 1, 3)] == [pending] * 3
    assert isinstance(verdicts[2], Unreachable)
    assert all(isinstance(verdict, Success) for verdict in verdicts[4:])
    assert requested_etags(server) == ["", TAG, TAG, TAG, TAG, ""]


async def test_each_304_says_itself_when_to_ask_again() -> None:
    pause = UNCHANGED.replace(b"\r\n\r\n", b"\r\nRetry-After: 7.5\r\n\r\n")
    async with (
        raw_server(lambda _, number: [(RUNNING, pause, UNCHANGED)[number - 1]]) as server,
        probe() as http,
    ):
        pauses = [getattr((await poke_job(http, server))[0], "retry_after", -1) for _ in range(3)]
    assert pauses == [None, 7.5, None]


@pytest.mark.parametrize(
    ("response", "wait"),
    [
        (answer(200, b'{"state": "RUNNING"}'), WHEN),  # no ETag
        (answer(202, b'{"state": "RUNNING"}', f"ETag: {TAG}"), WHEN),
        (DONE, WHEN),
        (RUNNING, WHEN | {"method": "HEAD", "success_when": "false", "message": None}),
        (answer(200, b"{}", 'ETag: "' + "x" * 300 + '"'), WHEN),
        (answer(200, b"{}", 'ETag: "\u00fc"'), WHEN),
    ],
    ids=["no ETag", "202", "done", "HEAD", "long", "not ASCII"],
)  # fmt: skip
async def test_no_other_answer_is_cached(response: bytes, wait: dict[str, Any]) -> None:
    response = response.split(b"\r\n\r\n")[0] + b"\r\n\r\n" if "method" in wait else response
    async with raw_server([response]) as server, probe() as http:
        for _ in range(3):
            await poke_job(http, server, wait)
        assert not http._context.etags.entries
    assert requested_etags(server) == [""] * 3


async def test_a_wait_without_a_verdict_on_the_answer_gets_the_whole_answer() -> None:
    other = {"success_when": "body.state == 'RUNNING'"}
    third = {"failure_when": "body.state == 'LOST'", "success_when": "false"}
    async with raw_server(answer_conditionally([RUNNING])) as server, probe() as http:
        await poke_job(http, server)
        assert isinstance((await poke_job(http, server, WHEN, other))[1], Success)
        await poke_job(http, server, WHEN, third)
        both = await poke_job(http, server, third, WHEN)
    assert both == [Pending("http_200", "HTTP 200 OK"), Pending("http_200", "RUNNING")]
    assert requested_etags(server) == ["", "", "", TAG]


async def test_the_full_answer_is_requested_after_ten_304s() -> None:
    def script(head: str, number: int) -> Script:
        return [UNCHANGED if requested_etag(head) else RUNNING if number == 1 else DONE]

    async with raw_server(script) as server, probe() as http:
        verdicts = [(await poke_job(http, server))[0] for _ in range(http_etags.MAX_NOT_MODIFIED + 2)]
    assert all(isinstance(verdict, Pending) for verdict in verdicts[:-1])
    assert isinstance(verdicts[-1], Success)


async def test_a_304_to_the_waits_own_condition_is_unreachable() -> None:
    own = WHEN | {"headers": {"If-None-Match": '"mine"'}}
    async with (
        raw_server(lambda _, number: [RUNNING if number == 1 else UNCHANGED]) as server,
        probe() as http,
    ):
        [first], [second] = await poke_job(http, server, own), await poke_job(http, server, own)
    assert isinstance(first, Pending)
    assert isinstance(second, Unreachable)
    assert requested_etags(server) == ['"mine"'] * 2


async def test_a_signed_request_is_not_made_conditional() -> None:
    """Azure's signature covers If-None-Match, so a header that is added later would break it."""
    async with raw_server(answer_conditionally([RUNNING])) as server:
        extra = {"auth_type": "azure_storage"}
        signing = Connection("api", host=server.url, login="account", password="a2V5", extra=extra)
        async with probe(signing, signing, signing) as http:
            for _ in range(3):
                [verdict] = await poke(http, WHEN | {"endpoint": "/job", "http_conn_id": "api"})
                assert isinstance(verdict, Pending)
            assert not http._context.etags.entries
    assert requested_etags(server) == [""] * 3
    assert all("\r\nAuthorization: " in head for head in server.requests)


async def test_the_cache_of_etags_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_etags, "MAX_ENTRIES", 3)
    async with raw_server(answer_conditionally([RUNNING])) as server, probe() as http:
        for number in (0, 1, 2, 3, 4, 5, 5, 0):
            await poke_job(http, server, WHEN | {"endpoint": f"{server.url}/{number}"})
        assert len(http._context.etags.entries) == 3
    assert requested_etags(server) == [*[""] * 6, TAG, ""]


async def test_polling_a_github_run_uses_conditional_requests() -> None:
    running = answer(200, b'{"id": 1, "status": "in_progress"}', f"ETag: {TAG}")
    done = answer(200, b'{"id": 1, "status": "completed", "conclusion": "success"}', 'ETag: "3"')
    params = {"owner": "apache", "repo": "airflow", "run_id": 1}
    async with raw_server(answer_conditionally([running, running, done])) as server:
        github = Connection("github_default", host=server.url, password="token")
        async with kinds(github, pooled=Transport.pooled) as probes:
            verdicts = await probes.poke_repeatedly("github.run", params, 3)
    assert [type(verdict) for verdict in verdicts] == [Pending, Pending, Success]
    assert verdicts[1] == verdicts[0]
    assert requested_etags(server) == ["", TAG, TAG]
    assert all("\r\nAuthorization: Bearer token\r\n" in head for head in server.requests)
