"""The server below the application: malformed HTTP, slow clients, too many batches."""

import asyncio
import logging
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest
from aiohttp import web
from api_answers import lines_of, problem_of
from api_fakes import Api, connected, raw, until, wait
from structlog.testing import capture_logs

from waitd.api.server import bodies, connection
from waitd.api.server.aiohttp_internals import AIOHTTP_MINOR, awaits_head
from waitd.api.submission import batch_slots

SECRET = b"Bearer s3cr3t"
HOST = b"Host: localhost\r\n"
JSON = b"Content-Type: application/json\r\n"
CHUNKED = b"POST /v1/waits HTTP/1.1\r\n" + HOST + JSON + b"Transfer-Encoding: chunked\r\n\r\n"

BROKEN = [
    ("not HTTP", b"\x16\x03\x01\x00\xa5" + SECRET + b"\r\n\r\n"),
    (
        "a header without a colon",
        b"GET /livez HTTP/1.1\r\n" + HOST + b"Authorization " + SECRET + b"\r\n\r\n",
    ),
    (
        "a control character in a header",
        b"GET /livez HTTP/1.1\r\n" + HOST + b"Authorization: " + SECRET + b"\x01\r\n\r\n",
    ),
    (
        "two lengths",
        b"POST /v1/waits HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
    ),
    ("a chunk without a size", CHUNKED + b"zz-s3cr3t\r\n{}\r\n0\r\n\r\n"),
]
TOO_LARGE = [
    ("a header too long", b"GET /livez HTTP/1.1\r\n" + HOST + b"Cookie: " + SECRET * 9000 + b"\r\n\r\n"),
    ("a target too long", b"GET /" + b"x" * 90_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n"),
    ("too many headers", b"GET /livez HTTP/1.1\r\n" + HOST + b"X-A: s3cr3t\r\n" * 10_000 + b"\r\n"),
    (
        "too many bytes of headers",
        b"GET /livez HTTP/1.1\r\n" + HOST + (b"X-A: " + b"a" * 8000 + b"\r\n") * 20,
    ),
]
REFUSED = [(*row, 400, "malformed-request") for row in BROKEN] + [
    (*row, 431, "headers-too-large") for row in TOO_LARGE
]


@pytest.mark.parametrize(
    ("request_bytes", "status", "name"), [row[1:] for row in REFUSED], ids=[row[0] for row in REFUSED]
)
async def test_malformed_http_is_answered_with_a_problem_and_never_logged(
    api: Api, request_bytes: bytes, status: int, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    with capture_logs() as logs, caplog.at_level(logging.DEBUG, logger="aiohttp"):
        answer = await raw(api, request_bytes)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.split(b" ")[1] == str(status).encode()
    assert b"application/problem+json" in head
    assert orjson.loads(body)["type"] == f"/problems/{name}"
    assert "s3cr3t" not in f"{body!r} {logs} {caplog.text}"
    assert [line for line in logs if line["log_level"] != "debug"] == []
    assert (await api.client.get("/livez")).status == 200


async def test_a_body_that_proves_malformed_after_the_answer_is_ignored(api: Api) -> None:
    head = b"POST /v1/waits HTTP/1.1\r\n" + HOST + b"Content-Type: text/plain\r\n"
    with capture_logs() as logs:
        async with connected(api) as (reader, writer):
            writer.write(head + b"Transfer-Encoding: chunked\r\n\r\n")
            assert (await reader.readuntil(b"]}")).startswith(b"HTTP/1.1 415 ")
            writer.write(b"no chunk at all s3cr3t")
            assert await reader.read() == b""
    assert [line["event"] for line in logs] == ["audit", "request"]
    assert "s3cr3t" not in str(logs)


async def test_an_unknown_expectation_is_a_417_problem(api: Api) -> None:
    for path in ("/v1/waits", "/nowhere"):
        response = await api.client.get(path, headers={"Expect": "the-unexpected"})
        await problem_of(response, 417, "expectation-failed")


async def test_a_body_may_be_sent_after_100_continue(api: Api) -> None:
    response = await api.client.post("/v1/waits", json=wait(), expect100=True)
    assert response.status == 201


TARGETS = [
    "http://evil.example/livez",
    "http://evil.example:80/livez",
    "http://localhost@evil.example/livez",
    "http://user@localhost/livez",
    "https://127.0.0.1.nip.io/livez",
    "ftp://evil.example/livez",
    "evil.example:80",
]


@pytest.mark.parametrize("target", TARGETS)
async def test_a_target_that_names_another_host_is_refused(api: Api, target: str) -> None:
    answer = await raw(api, b"GET %b HTTP/1.1\r\nConnection: close\r\n%b\r\n" % (target.encode(), HOST))
    assert answer.split(b" ")[1] in {b"400", b"421"}
    assert b"application/problem+json" in answer


@pytest.mark.parametrize(
    "target", ["http://localhost/livez", "http://127.0.0.1:8795/livez", "http://[::1]:1/livez"]
)
async def test_a_target_that_names_this_host_is_accepted(api: Api, target: str) -> None:
    answer = await raw(api, b"GET %b HTTP/1.1\r\nConnection: close\r\n%b\r\n" % (target.encode(), HOST))
    assert answer.startswith(b"HTTP/1.1 200 ")


@pytest.mark.parametrize(
    "line", [b"OPTIONS *", b"CONNECT evil.example:443", b"GET //evil.example/livez", b"GET ?x"]
)
async def test_targets_of_other_forms_are_refused_without_a_500(api: Api, line: bytes) -> None:
    answer = await raw(api, b"%b HTTP/1.1\r\nConnection: close\r\n%b\r\n" % (line, HOST))
    assert answer.split(b" ")[1] in {b"400", b"404", b"405", b"421"}
    assert b"application/problem+json" in answer


async def trickle(api: Api, path: bytes, content_type: bytes) -> bytes:
    """Sends the start of a body, but never its end; returns the answer."""
    head = b"POST %b HTTP/1.1\r\n%bContent-Type: %b\r\nContent-Length: 50\r\n\r\n"
    async with connected(api) as (reader, writer):
        writer.write(head % (path, HOST, content_type) + b"{")
        return await reader.readuntil(b"}")


async def test_a_body_that_does_not_arrive_in_time_is_a_408(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bodies, "BODY_SECONDS", 0.01)
    monkeypatch.setattr(bodies, "PAUSE_SECONDS", 0.01)
    for path, content_type in (
        (b"/v1/waits", b"application/json"),
        (b"/v1/waits:batch", b"application/x-ndjson"),
    ):
        answer = await trickle(api, path, content_type)
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"Connection: close" in answer
        assert b"/problems/request-timeout" in answer
    assert api.store.commits == []


async def test_a_batch_has_a_time_limit_as_a_whole(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bodies, "BATCH_SECONDS", 0.01)
    answer = await trickle(api, b"/v1/waits:batch", b"application/x-ndjson")
    assert answer.startswith(b"HTTP/1.1 408 ")


async def test_a_connection_whose_head_never_ends_is_closed(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connection, "IDLE_SECONDS", 0.01)
    assert await raw(api, b"GET /livez HTTP/1.1\r\n") == b""


async def test_batches_queue_and_too_many_of_them_are_a_429(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(batch_slots, "MAX_QUEUED", 1)
    proceed, started = asyncio.Event(), 0

    async def lines() -> AsyncIterator[bytes]:
        nonlocal started
        started += 1
        yield orjson.dumps(wait()) + b"\n"
        await proceed.wait()
        yield orjson.dumps(wait()) + b"\n"

    def send() -> Any:
        headers = {"Content-Type": "application/x-ndjson"}
        return asyncio.create_task(api.client.post("/v1/waits:batch", data=lines(), headers=headers))

    running = [send() for _ in range(batch_slots.MAX_RUNNING)]
    probe: Any = api.dependencies.probes["plain"]
    await until(lambda: probe.parsed == batch_slots.MAX_RUNNING)
    queued = send()
    await until(lambda: started == batch_slots.MAX_RUNNING + 1)
    response = await api.batch(wait())
    while response.status != 429:
        response = await api.batch(wait())
    await problem_of(response, 429, "too-many-batches")
    assert probe.parsed == batch_slots.MAX_RUNNING, "the queued batch is not read"
    proceed.set()
    for task in [*running, queued]:
        assert [line["status"] for line in await lines_of(await task)] == [201, 201]
    assert [line["status"] for line in await lines_of(await api.batch(wait()))] == [201]


async def test_a_late_head_is_a_408(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "HEAD_SECONDS", 0.05)
    answer = await raw(api, b"GET /livez HTTP/1.1\r\nX-A: ")
    assert answer.split(b" ")[1] == b"408"
    assert b"/problems/request-timeout" in answer


async def test_the_private_parts_of_aiohttp_that_the_server_uses_exist(api: Api) -> None:
    """After an upgrade, check `aiohttp_internals` and change `AIOHTTP_MINOR`."""
    assert aiohttp.__version__.rpartition(".")[0] == AIOHTTP_MINOR
    assert {"_waiter", "_request_count"} <= set(web.RequestHandler.__slots__)
    assert "_make_server" in web.BaseRunner.__abstractmethods__
    wait_id = await api.submit()
    poll = asyncio.create_task(api.client.get(f"/v1/waits/{wait_id}?wait=60"))
    await until(lambda: len(api.dependencies.long_polls) == 1)
    server: Any = api.client.server.handler
    [busy] = [busy for busy in server.connections if not awaits_head(busy)]
    api.dependencies.long_polls.notify(wait_id)
    assert (await poll).status == 200
    await until(lambda: awaits_head(busy))


async def test_a_head_may_arrive_byte_by_byte(api: Api) -> None:
    async with connected(api) as (reader, writer):
        for _ in range(2):
            for byte in b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n":
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0)
            assert (await reader.readuntil(b"}")).startswith(b"HTTP/1.1 200 ")


async def test_a_client_that_does_not_read_its_answer_is_disconnected_and_a_long_poll_is_not(
    api: Api,
) -> None:
    wait_id = await api.submit()
    poll = asyncio.create_task(api.client.get(f"/v1/waits/{wait_id}?wait=60"))
    await until(lambda: len(api.dependencies.long_polls) == 1)
    gauge = api.dependencies.instruments.registry.get_sample_value
    runner: Any = api.client.server.runner

    def is_disconnected() -> bool:
        runner.limiter.close_older_than(0.0)  # all but the long-poll
        return gauge("waitd_api_connections") == 1.0

    async with connected(api, limit=1) as (_, writer):
        transport: Any = writer.transport
        transport.pause_reading()
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n" * 1000)
        await until(lambda: len(api.scrapes) > 20)
        assert (gauge("waitd_api_connections") or 0.0) > 1.0
        await until(is_disconnected)
        assert not poll.done()
    api.dependencies.long_polls.notify(wait_id)
    assert (await poll).status == 200
