"""The calls that submit, find and cancel jobs, against a real server.

They test what each answer means, and which calls are made twice.
"""

import asyncio
import resource
import socket
from collections.abc import AsyncIterator
from typing import Any

import pytest
from aiohttp import web
from called_jobs import WAIT, JobServer, job_server, response
from fakes import FakeConnections
from raw_server import ScriptedConnections, answer, raw_server
from stream_server import ClosingServer, stream_server

from waitd.core.connections.connection import Connection
from waitd.core.waits.job_cancel import CancelAnswer, CancelRejected, CancelUnavailable, JobCancelled
from waitd.core.waits.submission import (
    SubmitAccepted,
    SubmitAnswer,
    SubmitConflict,
    SubmitRejected,
    SubmitUnavailable,
    SubmitUncertain,
    SubmitWithoutHandle,
)
from waitd.core.waits.verdict import LOCAL_ERROR


@pytest.fixture
async def server() -> AsyncIterator[JobServer]:
    async with job_server(FakeConnections()) as server:
        yield server


async def test_a_submit_sends_the_key_in_a_header_and_returns_the_handle(server: JobServer) -> None:
    assert await server.submit() == SubmitAccepted(7)
    [(method, path, headers, body)] = server.requests
    assert (method, path, body) == ("POST", "/jobs", {"a": 1})
    assert headers["Idempotency-Key"] == WAIT


@pytest.mark.parametrize(
    ("submit", "path", "body"),
    [
        ({"json": {"idempotency_token": "{idempotency_key}"}}, "/jobs", {"idempotency_token": "mine"}),
        ({"request_params": {"requestId": "{idempotency_key}"}}, "/jobs?requestId=mine", {"a": 1}),
        ({"endpoint": "/jobs/{idempotency_key}", "method": "PUT"}, "/jobs/mine", {"a": 1}),
    ],
)
async def test_a_placeholder_replaces_the_header_of_the_key(
    server: JobServer, submit: dict[str, Any], path: str, body: Any
) -> None:
    endpoint = server.url + submit.get("endpoint", "/jobs")
    await server.submit(**submit | {"endpoint": endpoint}, idempotency_key="mine")
    [(_, requested_path, headers, requested_body)] = server.requests
    assert "Idempotency-Key" not in headers
    assert (requested_path, requested_body) == (path, body)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (response(429, None, Retry_After="9"), SubmitUnavailable("http_429", "HTTP 429 Too Many Requests", 9.0)),
        (response(408), SubmitUnavailable("http_408", "HTTP 408 Request Timeout")),
        (response(425), SubmitUnavailable("http_425", "HTTP 425 Too Early")),
        (response(500), SubmitUncertain("http_500", "HTTP 500 Internal Server Error")),
        (response(503, None, Retry_After="3"), SubmitUncertain("http_503", "HTTP 503 Service Unavailable", 3.0)),
        (None, SubmitUncertain("disconnected", "The server closed the connection without an answer.")),
        (30.0, SubmitUncertain("timeout", "No complete answer in time.")),
        (response(400), SubmitRejected("HTTP 400 Bad Request")),
        (response(401), SubmitRejected("HTTP 401 Unauthorized")),
        (response(403), SubmitRejected("HTTP 403 Forbidden")),
        (response(403, None, Retry_After="2.5"), SubmitUnavailable("http_403", "HTTP 403 Forbidden", 2.5)),
        (response(413, None, Retry_After="2"), SubmitUnavailable("http_413", "HTTP 413 Request Entity Too Large", 2.0)),
        (response(422), SubmitRejected("HTTP 422 Unprocessable Entity")),
        (response(307, None, Location="/x"), SubmitRejected("HTTP 307 Temporary Redirect; redirects are not followed")),
        (response(409), SubmitConflict("a job is running already (HTTP 409 Conflict)")),
        (response(409, None, Retry_After="4"), SubmitConflict("a job is running already (HTTP 409 Conflict)", 4.0)),
        (response(200, {"job": {"id": "a-b"}}), SubmitAccepted("a-b")),
        (response(202, {"job": {"id": 8}}, Retry_After="30"), SubmitAccepted(8, retry_after=30.0)),
    ],
)  # fmt: skip
async def test_the_meaning_of_an_answer_to_a_submit(
    server: JobServer, answer: web.Response | float | None, expected: SubmitAnswer
) -> None:
    assert await server.submit(answer) == expected
    assert len(server.requests) == 1


@pytest.mark.parametrize("body", [{}, {"job": {"id": None}}, {"job": {"id": ""}}, {"job": {"id": [1]}}])
async def test_an_answer_without_a_usable_handle(server: JobServer, body: Any) -> None:
    answer = await server.submit(response(201, body))
    assert isinstance(answer, SubmitWithoutHandle)
    assert answer.message.startswith("The job was submitted")


@pytest.mark.parametrize(
    "handle",
    [
        "type(body)",
        "{'a': type(body)}",
        "0.0 / 0.0",
        "{'a': 1.0 / 0.0}",
        "b'a'",
        "timestamp(0)",
        "['aaaaaaaa']" + ".map(x, x + x + x + x)" * 20,
    ],
)
@pytest.mark.parametrize("size", [1, 40_000], ids=["in the loop", "in a worker"])
async def test_an_answer_whose_handle_is_no_handle(server: JobServer, handle: str, size: int) -> None:
    answer = await server.submit(response(201, {"pad": "x" * size}), handle=handle)
    assert isinstance(answer, SubmitWithoutHandle)
    assert answer.message.startswith("The job was submitted")


async def test_a_message_that_needs_too_much_memory_is_left_out(server: JobServer) -> None:
    message = "['aaaaaaaa']" + ".map(x, x + x + x + x)" * 20
    answer = await server.submit(response(422), message=f"{message}[0]")
    assert answer == SubmitRejected("HTTP 422 Unprocessable Entity")


async def test_a_refusal_has_the_message_of_the_server(server: JobServer) -> None:
    answer = await server.submit(response(422, {"error": "no such table"}), message="body.error")
    assert answer == SubmitRejected("HTTP 422 Unprocessable Entity: no such table")


async def test_nothing_was_submitted_if_there_was_no_connection(server: JobServer) -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        refusing = f"http://127.0.0.1:{unused.getsockname()[1]}/jobs"
        answer = await server.submit(endpoint=refusing, idempotent=False)
    assert isinstance(answer, SubmitUnavailable)
    assert answer.reason == "connection_refused"
    answer = await server.submit(endpoint="http://no-such-host.invalid/jobs", idempotent=False)
    assert isinstance(answer, SubmitUnavailable)


async def test_no_key_is_sent_if_calls_are_not_idempotent(server: JobServer) -> None:
    await server.submit(idempotent=False)
    assert "Idempotency-Key" not in server.requests[0][2]


ACCEPTED = answer(200, b'{"job": {"id": 7}}')


async def test_calls_share_a_connection_unless_they_may_not_be_repeated(server: JobServer) -> None:
    async with raw_server([ACCEPTED]) as raw:
        for idempotent, connections in ((True, 1), (True, 1), (False, 2), (False, 3), (True, 3)):
            accepted = await server.submit(endpoint=f"{raw.url}/jobs", idempotent=idempotent)
            assert (accepted, raw.connections) == (SubmitAccepted(7), connections)


@pytest.mark.parametrize("method", ["POST", "PUT"])
async def test_a_call_that_meets_a_connection_closed_while_idle_is_repeated(
    server: JobServer, method: str
) -> None:
    closing = ClosingServer(ACCEPTED)
    async with stream_server(closing.serve) as port:
        for _ in range(3):
            accepted = await server.submit(endpoint=f"http://127.0.0.1:{port}/jobs", method=method)
            assert accepted == SubmitAccepted(7)
    assert closing.requests == 3


async def test_a_job_may_exist_if_the_server_ended_after_it_had_the_call(server: JobServer) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"}")
        writer.write(ACCEPTED)
        await reader.readuntil(b"}")
        listening.close()
        writer.close()

    listening = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with listening:
        endpoint = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/jobs"
        assert await server.submit(endpoint=endpoint) == SubmitAccepted(7)
        submitted = await server.submit(endpoint=endpoint)
    assert isinstance(submitted, SubmitUncertain)
    assert submitted.reason == "connection_refused"


async def test_a_handle_that_is_a_url_is_made_absolute_and_must_be_of_the_same_origin(
    server: JobServer,
) -> None:
    location: dict[str, Any] = {"params": {"endpoint": "{handle}"}, "handle": "headers.location"}
    answer = await server.submit(response(202, None, Location="/jobs/7?x=1"), **location)
    assert answer == SubmitAccepted(f"{server.url}/jobs/7?x=1")
    for elsewhere in ("http://127.0.0.2/jobs/7", "//example.org/x", "ftp://h/x"):
        answer = await server.submit(response(202, None, Location=elsewhere), **location)
        assert isinstance(answer, SubmitWithoutHandle)
        assert "example" not in answer.message


async def test_on_conflict_adopt_finds_the_running_job(server: JobServer) -> None:
    adopting: dict[str, Any] = {
        "on_conflict": "adopt",
        "adopt": {
            "endpoint": f"{server.url}/jobs",
            "request_params": {"status": "running"},
            "handle": "body.data[0].jobId",
        },
    }
    answer = await server.submit(response(409), response(200, {"data": [{"jobId": 99}]}), **adopting)
    assert answer == SubmitAccepted(99, adopted=True)
    assert server.requests[1][:2] == ("GET", "/jobs?status=running")
    answer = await server.submit(response(409), response(200, {"data": []}), **adopting)
    assert isinstance(answer, SubmitConflict)
    answer = await server.submit(response(409), response(503), **adopting)
    assert isinstance(answer, SubmitUnavailable)


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (response(200), JobCancelled()),
        (response(404), JobCancelled()),
        (response(410), JobCancelled()),
        (response(409), JobCancelled()),
        (response(503, None, Retry_After="4"), CancelUnavailable("HTTP 503 Service Unavailable", 4.0)),
        (
            None,
            CancelUnavailable("The server closed the connection without an answer.", reason="disconnected"),
        ),
        (response(403), CancelRejected("HTTP 403 Forbidden")),
    ],
)
async def test_the_meaning_of_an_answer_to_a_cancel_request(
    server: JobServer, answer: web.Response | None, expected: CancelAnswer
) -> None:
    cancel = {"endpoint": f"{server.url}/jobs/{{handle}}:cancel", "json": {"run_id": "{handle}"}}
    plan = server.plan(cancel=cancel, cancel_job_on=["cancelled"])
    server.answers = [answer]
    assert await server.jobs.cancel(plan, WAIT, 7) == expected
    method, path, _, body = server.requests[0]
    assert (method, path, body) == ("POST", "/jobs/7:cancel", {"run_id": 7})


async def test_calls_without_a_free_descriptor_are_the_daemons_own_trouble(server: JobServer) -> None:
    cancel = {"endpoint": f"{server.url}/jobs/{{handle}}", "method": "DELETE"}
    plan = server.plan(cancel=cancel, cancel_job_on=["cancelled"], idempotent=False)
    _, hard = limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))
    try:
        submitted = await server.jobs.submit(plan, WAIT)
        cancelled = await server.jobs.cancel(plan, WAIT, 7)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    assert isinstance(submitted, SubmitUnavailable)  # repeatable: no byte was sent
    assert isinstance(cancelled, CancelUnavailable)
    assert submitted.reason == cancelled.reason == LOCAL_ERROR
    assert not server.requests


EXPIRED_KEY = {"__type": "com.amazon.coral#ExpiredTokenException", "message": "expired"}


@pytest.mark.parametrize("refusal", [(401, None), (403, {"error": "Token expired"}), (400, EXPIRED_KEY)])
async def test_a_call_is_repeated_with_fresh_credentials(refusal: tuple[int, Any]) -> None:
    connections = ScriptedConnections([])
    async with job_server(connections) as server:
        for password in ("old", "new"):
            connections.answers.append(Connection("jobs", host=server.url, login="u", password=password))
        submit = {"endpoint": "/jobs", "http_conn_id": "jobs"}
        params = {"endpoint": "/jobs/{handle}", "http_conn_id": "jobs"}
        assert await server.submit(response(*refusal), params=params, **submit) == SubmitAccepted(7)
        [first, second] = server.requests
        assert first[2]["Authorization"] != second[2]["Authorization"]
        assert first[2]["Idempotency-Key"] == second[2]["Idempotency-Key"]
        assert connections.refreshes == 1


async def test_a_refused_call_has_created_no_job_though_fresh_credentials_come_too_late() -> None:
    class SilentBackend(ScriptedConnections):
        async def refresh(self, conn_id: str) -> Connection:
            await asyncio.Event().wait()
            return await self.get(conn_id)

    connections = SilentBackend([])
    async with job_server(connections) as server:
        connections.answers.append(Connection("jobs", host=server.url, login="u", password="old"))
        submit = {"endpoint": "/jobs", "http_conn_id": "jobs", "request_timeout": 0.5}
        params = {"endpoint": "/jobs/{handle}", "http_conn_id": "jobs"}
        submitted = await server.submit(response(401), params=params, **submit)
    assert isinstance(submitted, SubmitUnavailable)
    assert submitted.reason == "timeout"
