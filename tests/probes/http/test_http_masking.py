"""A target that repeats what it was sent: conditions, messages and payloads have no secret."""

import base64
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from aiohttp import web
from daemon import serving
from fakes import FakeConnections
from raw_server import poke

from waitd.core.aws.signature import AwsKeys, AwsSigner
from waitd.core.connections.connection import Connection
from waitd.core.waits.submission import SubmitAccepted, SubmitRejected
from waitd.core.waits.verdict import Success, Verdict
from waitd.core.waits.wait import WaitId
from waitd.ports import Authorization
from waitd.probes.http.jobs import HttpJobs
from waitd.probes.http.probe import HttpProbe

pytestmark = pytest.mark.usefixtures("cold_and_warm")

SECRET = "pl4nted/s3cret+value="
LOGIN = "svc_planted"
CONNECTIONS: dict[str, dict[str, Any]] = {
    "basic": {"login": LOGIN, "password": SECRET},
    "bearer": {"password": SECRET, "extra": {"auth_type": "bearer"}},
    "header": {"password": SECRET, "extra": {"auth_type": "header", "header_name": "X-Anything"}},
    "cookie": {"extra": {"headers": {"Cookie": f"a=1; session={SECRET}"}}},
    "extras": {"extra": {"X-Tenant-Id": SECRET, "Authorization": f"Token {SECRET}"}},
    "sigv4": {"extra": {"auth_type": "aws_sigv4"}},
}


class SignedConnections(FakeConnections):
    """Connections of which one signs, with a session token."""

    signer = AwsSigner("execute-api", "eu-west-1", AwsKeys("AKIAPLANTED12345", "never sent", SECRET))

    def _of(self, connection: Connection) -> Authorization:
        if connection.conn_id == "sigv4":
            return Authorization((), self.signer)
        return super()._of(connection)


class Echo:
    """Answers with what it was sent, in many ways."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    async def answer(self, request: web.Request) -> web.StreamResponse:
        sent = [*request.headers.values(), *request.query.values()]
        self.seen += sent
        text = "\n".join([*sent, request.path_qs])
        text += await request.text()
        if request.path == "/redirect":
            raise web.HTTPFound(f"/a?sig={quote(SECRET, safe='')}&page=1")
        if request.path == "/elsewhere":
            host = base64.b32encode(SECRET.encode()).decode().strip("=").lower()
            raise web.HTTPFound(f"http://{host}.{LOGIN.replace('_', '-')}.example/")
        body = {
            "headers": {str(name): value for name, value in request.headers.items()},
            "keys": {str(each): 1 for each in sent},
            "url": quote(text),
            "base64": [base64.b64encode((" " * n + text).encode()).decode() for n in range(3)],
            "escaped": json.dumps(json.dumps(text)),
        }
        raw = orjson.dumps(body)
        if request.path == "/escaped":
            strange = "".join(f"\\u{ord(each):04x}" for each in SECRET)
            raw = f'{{"a": "{strange}", "state": "RUNNING"}}'.encode()
        if request.path == "/utf-16-json":
            return web.Response(body=raw.decode().encode("utf-16"), content_type="application/json")
        if request.path == "/utf-16":
            return web.Response(body=text.encode("utf-16"), content_type="text/plain", charset="utf-16")
        return web.Response(
            body=raw,
            headers={"X-Seen": quote(text), "X-Sent": sent[-1]},
            status=int(request.match_info.get("status", "200")),
        )


@asynccontextmanager
async def echoing() -> AsyncIterator[tuple[Echo, str, SignedConnections]]:
    echo = Echo()
    async with serving("*", "/{path:.*}", echo.answer) as url:
        yield (
            echo,
            url,
            SignedConnections(
                *(Connection(name, host=url, **fields) for name, fields in CONNECTIONS.items())
            ),
        )


def leaks(verdict: object) -> list[str]:
    shown = repr(verdict)
    forms = [SECRET, quote(SECRET, safe=""), SECRET.replace("/", "\\/"), LOGIN, "AKIAPLANTED12345"]
    for text in (SECRET, f"{LOGIN}:{SECRET}"):
        for before in range(3):
            encoded = base64.b64encode(b"x" * before + text.encode()).decode()
            forms.append(encoded[(before * 8 + 5) // 6 : -4])
    return [form for form in forms if form in shown]


@pytest.mark.parametrize("path", ["/a", "/escaped", "/utf-16", "/utf-16-json"])
@pytest.mark.parametrize("conn_id", CONNECTIONS)
async def test_verdicts_have_nothing_that_was_sent(conn_id: str, path: str) -> None:
    async with echoing() as (echo, _, connections), HttpProbe(connections, secret_headers=()) as http:
        verdicts: list[Verdict] = []
        for conditions in (
            {},
            {"message": "headers['x-seen'] + headers['x-sent']"},
            {"message": "text"},
            {"message": "body.a", "success_when": "false"},
            {"message": "string(status) + body.base64[0] + body.escaped"},
            {"result": "headers"},
            {"result": "text"},
            {
                "success_when": f"text.contains('{SECRET}')",
                "failure_when": "text.contains('***')",
                "message": "text",
            },
        ):
            params = {"http_conn_id": conn_id, "endpoint": path, **conditions}
            verdicts += await poke(http, params)
    assert any(
        SECRET in each or base64.b64encode(f"{LOGIN}:{SECRET}".encode()).decode() in each
        for each in echo.seen
    )
    assert [leaks(each) for each in verdicts] == [[]] * len(verdicts)
    assert "***" in repr(verdicts)
    assert verdicts[-1].reason in {"failure", "result_omitted"}


async def test_the_secrets_of_a_signed_url_are_masked_and_the_rest_is_not() -> None:
    query = f"sig={quote(SECRET, safe='')}&X-Amz-Signature=0123456789abcdef&page=17"
    async with echoing() as (_, url, connections), HttpProbe(connections, secret_headers=()) as http:
        [verdict] = await poke(http, {"endpoint": f"{url}/a?{query}", "result": "text"})
    assert leaks(verdict) == []
    assert "0123456789abcdef" not in repr(verdict)
    assert "page=17" in repr(verdict)
    assert isinstance(verdict, Success)


async def test_the_secrets_of_a_redirect_and_of_a_body_are_masked() -> None:
    async with echoing() as (_, url, connections), HttpProbe(connections, secret_headers=()) as http:
        body = {"method": "POST", "json": {"apiKey": SECRET, "job": "j1"}}
        verdicts = [
            *await poke(http, {"endpoint": f"{url}/redirect", "result": "text"}),
            *await poke(http, {"endpoint": f"{url}/a", "result": "text", **body}),
        ]
    assert [leaks(each) for each in verdicts] == [[]] * len(verdicts)
    assert all("***" in repr(each) for each in verdicts)


async def test_the_same_answer_is_not_masked_for_a_wait_without_the_connection() -> None:
    async with echoing() as (_, url, connections), HttpProbe(connections, secret_headers=()) as http:
        [verdict] = await poke(http, {"endpoint": f"{url}/a", "headers": {"X-Job": SECRET}, "result": "text"})
    assert SECRET in repr(verdict)


async def test_a_redirect_that_names_the_user_is_masked() -> None:
    async with echoing() as (_, _, connections), HttpProbe(connections, secret_headers=()) as http:
        connections.by_id["basic"] = Connection(
            "basic", host=connections.by_id["basic"].host, login="svc-planted", password=SECRET
        )
        [verdict] = await poke(http, {"http_conn_id": "basic", "endpoint": "/elsewhere"})
    assert verdict.reason == "redirected_elsewhere"
    assert "svc-planted" not in verdict.message
    assert ".***.example" in verdict.message


@pytest.mark.parametrize("message", ["body.headers.Authorization", "headers['x-seen']", "text"])
async def test_jobs_are_masked(message: str) -> None:
    async with (
        echoing() as (_, _, connections),
        HttpJobs(connections, secret_headers=()) as jobs,
        HttpProbe(connections, secret_headers=()) as http,
    ):
        for extra in ({}, {"conflict_statuses": [200]}):
            submit = {
                "endpoint": "/jobs",
                "handle": message,
                "message": message,
                **extra,
            }
            plan = http.parse_submit(
                submit, {"http_conn_id": "bearer", "endpoint": "/jobs/{handle}"}, namespace="default"
            )
            answer = await jobs.submit(plan, WaitId("0" * 32))
            assert not isinstance(answer, SubmitRejected)
            assert leaks(answer) == []
            if isinstance(answer, SubmitAccepted):
                assert "Bearer pl" not in repr(answer)
