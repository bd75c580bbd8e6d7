"""The calls that submit, find and cancel jobs, against a real server: what each answer means, and that no call is made twice."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
from aiohttp import web
from daemon import serving
from one_connection import OneConnection

from waitd.core.waits.submission import (
    CancelRejected,
    CancelUnavailable,
    JobCancelled,
    SubmitAccepted,
    SubmitConflict,
    SubmitRejected,
    SubmitUnavailable,
    SubmitUncertain,
    SubmitWithoutHandle,
)
from waitd.core.waits.wait import WaitId
from waitd.probes.http.jobs import HttpJobs
from waitd.probes.http.probe import HttpProbe
from waitd.probes.submit.plan import SubmitRequest

WAIT = WaitId("0197a1f0-8f3c-7d2e-9b51-3f6a2c4d5e6f")
SECRET_HEADERS = ("authorization", "*-token")


class Server:
    """Answers what `say(request)` says, and keeps what was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str, dict[str, str], Any]] = []
        self.answers: list[Any] = []
        self.url = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        body = await request.json() if request.can_read_body else None
        self.asked.append((request.method, request.path_qs, dict(request.headers), body))
        answer = self.answers.pop(0) if self.answers else web.json_response({"job": {"id": 7}})
        if isinstance(answer, float):
            await asyncio.sleep(answer)
            return web.Response()
        if answer is None:
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        assert isinstance(answer, web.StreamResponse)
        return answer


def said(status: int, body: Any = None, **headers: str) -> web.Response:
    return web.json_response(
        body, status=status, headers={k.replace("_", "-"): v for k, v in headers.items()}
    )


class Scene:
    def __init__(self, server: Server, jobs: HttpJobs, probe: HttpProbe) -> None:
        self.server = server
        self.jobs = jobs
        self.probe = probe

    def plan(self, params: dict[str, Any] | None = None, **submit: Any) -> SubmitRequest:
        submit = {
            "endpoint": f"{self.server.url}/jobs",
            "json": {"a": 1},
            "handle": "body.job.id",
            "request_timeout": 10,
        } | submit
        params = params or {"endpoint": f"{self.server.url}/jobs/{{handle}}"}
        return self.probe.parse_submit(submit, params, namespace="default")

    async def submit(self, *answers: Any, **submit: Any) -> Any:
        self.server.answers = list(answers)
        if any(isinstance(answer, float) for answer in answers):
            submit["request_timeout"] = 0.5
        return await self.jobs.submit(self.plan(**submit), WAIT)


@asynccontextmanager
async def scene_of(connections: Any) -> AsyncIterator[Scene]:
    server = Server()
    async with (
        serving("*", "/{path:.*}", server.answer) as server.url,
        HttpJobs(connections, secret_headers=SECRET_HEADERS) as jobs,
        HttpProbe(connections, secret_headers=SECRET_HEADERS) as probe,
    ):
        yield Scene(server, jobs, probe)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with scene_of(OneConnection()) as scene:
        yield scene


async def test_the_key_goes_into_a_header_and_the_handle_comes_out_of_the_answer(scene: Scene) -> None:
    assert await scene.submit() == SubmitAccepted(7)
    [(method, path, headers, body)] = scene.server.asked
    assert (method, path, body) == ("POST", "/jobs", {"a": 1})
    assert headers["Idempotency-Key"] == WAIT


@pytest.mark.parametrize(
    ("submit", "where"),
    [
        ({"json": {"idempotency_token": "{idempotency_key}"}}, "body"),
        ({"request_params": {"requestId": "{idempotency_key}"}}, "query"),
        ({"endpoint": "/jobs/{idempotency_key}", "method": "PUT"}, "path"),
    ],
)
async def test_or_to_where_its_placeholder_stands(scene: Scene, submit: dict[str, Any], where: str) -> None:
    if "endpoint" in submit:
        submit["endpoint"] = scene.server.url + submit["endpoint"]
    await scene.submit(**submit, idempotency_key="mine")
    [(_, path, headers, body)] = scene.server.asked
    assert "Idempotency-Key" not in headers
    assert {"body": body, "query": path, "path": path}[where] == {
        "body": {"idempotency_token": "mine"},
        "query": "/jobs?requestId=mine",
        "path": "/jobs/mine",
    }[where]


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (said(429, None, Retry_After="9"), SubmitUnavailable("http_429", "HTTP 429 Too Many Requests", 9.0)),
        (said(408), SubmitUnavailable("http_408", "HTTP 408 Request Timeout")),
        (said(425), SubmitUnavailable("http_425", "HTTP 425 Too Early")),
        (said(500), SubmitUncertain("http_500", "HTTP 500 Internal Server Error")),
        (said(503, None, Retry_After="3"), SubmitUncertain("http_503", "HTTP 503 Service Unavailable", 3.0)),
        (None, SubmitUncertain("disconnected", "The server closed the connection without an answer.")),
        (30.0, SubmitUncertain("timeout", "No complete answer in time.")),
        (said(400), SubmitRejected("HTTP 400 Bad Request")),
        (said(401), SubmitRejected("HTTP 401 Unauthorized")),
        (said(403), SubmitRejected("HTTP 403 Forbidden")),
        (said(422), SubmitRejected("HTTP 422 Unprocessable Entity")),
        (
            said(307, None, Location="/x"),
            SubmitRejected("HTTP 307 Temporary Redirect; redirects are not followed"),
        ),
        (said(409), SubmitConflict("a job is running already (HTTP 409 Conflict)")),
        (said(200, {"job": {"id": "a-b"}}), SubmitAccepted("a-b")),
    ],
)
async def test_what_an_answer_means(scene: Scene, answer: Any, wanted: Any) -> None:
    assert await scene.submit(answer) == wanted
    assert len(scene.server.asked) == 1


@pytest.mark.parametrize("body", [{}, {"job": {"id": None}}, {"job": {"id": ""}}, {"job": {"id": [1]}}])
async def test_a_job_that_the_answer_does_not_name(scene: Scene, body: Any) -> None:
    answer = await scene.submit(said(201, body))
    assert isinstance(answer, SubmitWithoutHandle)
    assert answer.message.startswith("The job was submitted")


async def test_a_refusal_in_the_other_sides_own_words(scene: Scene) -> None:
    answer = await scene.submit(said(422, {"error": "no such table"}), message="body.error")
    assert answer == SubmitRejected("HTTP 422 Unprocessable Entity: no such table")


async def test_without_a_connection_it_is_known_that_nothing_was_submitted(scene: Scene) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        refusing = f"http://127.0.0.1:{taken.getsockname()[1]}/jobs"
        answer = await scene.submit(endpoint=refusing, idempotent=False)
    assert isinstance(answer, SubmitUnavailable)
    assert answer.reason == "connection_refused"
    answer = await scene.submit(endpoint="http://no-such-host.invalid/jobs", idempotent=False)
    assert isinstance(answer, SubmitUnavailable)


async def test_without_keys_none_is_sent(scene: Scene) -> None:
    await scene.submit(idempotent=False)
    assert "Idempotency-Key" not in scene.server.asked[0][2]


async def test_each_call_has_a_connection_of_its_own(scene: Scene) -> None:
    for _ in range(2):
        await scene.submit()
    assert [headers.get("Connection") for _, _, headers, _ in scene.server.asked] == ["close", "close"]


async def test_a_location_is_made_absolute_and_must_be_of_the_same_origin(scene: Scene) -> None:
    params = {"endpoint": "{handle}"}
    found = await scene.submit(
        said(202, None, Location="/jobs/7?x=1"), params=params, handle="headers.location"
    )
    assert found == SubmitAccepted(f"{scene.server.url}/jobs/7?x=1")
    for elsewhere in ("http://127.0.0.2/jobs/7", "//example.org/x", "ftp://h/x"):
        answer = await scene.submit(
            said(202, None, Location=elsewhere), params=params, handle="headers.location"
        )
        assert isinstance(answer, SubmitWithoutHandle)
        assert "example" not in answer.message


async def test_on_conflict_adopt_looks_for_the_job_that_runs(scene: Scene) -> None:
    adopting: dict[str, Any] = {
        "on_conflict": "adopt",
        "adopt": {
            "endpoint": f"{scene.server.url}/jobs",
            "request_params": {"status": "running"},
            "handle": "body.data[0].jobId",
        },
    }
    found = await scene.submit(said(409), said(200, {"data": [{"jobId": 99}]}), **adopting)
    assert found == SubmitAccepted(99, adopted=True)
    assert scene.server.asked[1][:2] == ("GET", "/jobs?status=running")
    assert isinstance(await scene.submit(said(409), said(200, {"data": []}), **adopting), SubmitConflict)
    assert isinstance(await scene.submit(said(409), said(503), **adopting), SubmitUnavailable)


@pytest.mark.parametrize(
    ("answer", "wanted"),
    [
        (said(200), JobCancelled()),
        (said(404), JobCancelled()),
        (said(410), JobCancelled()),
        (said(409), JobCancelled()),
        (said(503, None, Retry_After="4"), CancelUnavailable("HTTP 503 Service Unavailable", 4.0)),
        (None, CancelUnavailable("The server closed the connection without an answer.")),
        (said(403), CancelRejected("HTTP 403 Forbidden")),
    ],
)
async def test_what_an_answer_to_the_cancel_request_means(scene: Scene, answer: Any, wanted: Any) -> None:
    cancel = {"endpoint": f"{scene.server.url}/jobs/{{handle}}:cancel", "json": {"run_id": "{handle}"}}
    plan = scene.plan(cancel=cancel, cancel_job_on=["cancelled"])
    scene.server.answers = [answer]
    assert await scene.jobs.cancel(plan, WAIT, 7) == wanted
    method, path, _, body = scene.server.asked[0]
    assert (method, path, body) == ("POST", "/jobs/7:cancel", {"run_id": 7})


async def test_credentials_come_from_the_connection_and_are_looked_up_afresh_after_a_401() -> None:
    connections = OneConnection()
    async with scene_of(connections) as scene:
        connections.url = scene.server.url
        submit = {"endpoint": "/jobs", "http_conn_id": "jobs"}
        params = {"endpoint": "/jobs/{handle}", "http_conn_id": "jobs"}
        assert await scene.submit(said(401), params=params, **submit) == SubmitAccepted(7)
        [first, second] = scene.server.asked
        assert first[2]["Authorization"] != second[2]["Authorization"]
        assert first[2]["Idempotency-Key"] == second[2]["Idempotency-Key"]
        assert connections.refreshes == 1
