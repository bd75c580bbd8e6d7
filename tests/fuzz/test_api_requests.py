"""Requests to a real daemon, some of them malformed: no answer is a 5xx, and no wait is lost."""

import asyncio
import json
from collections import Counter
from contextlib import suppress
from pathlib import Path
from random import Random
from typing import Any

import pytest
from daemon import daemon
from fuzzing import Fuzz, mutated
from test_request_bodies import BODIES, CORPUS

from waitd.client import Client

pytestmark = pytest.mark.slow
PATHS = [
    *BODIES, "/v1/waits/{id}", "/v1/waits/{id}:cancel", "/v1/waits/{id}:poke", "/v1/waits/{id}:redeliver", "/v1/waits/{id}/pokes",
    "/v1/waits?limit=3&state=waiting&label.a=b", "/v1/deliveries?state=dead", "/v1/audit?limit=2", "/v1/keys", "/v1/cost", "/v1/events",
    "/livez", "/readyz", "/metrics", "/openapi.json", "/docs", "/nowhere",
]  # fmt: skip
METHODS = ("GET", "GET", "POST", "POST", "POST", "HEAD", "PUT", "DELETE", "OPTIONS", "get", "\u00fc")
HEADERS = [
    b"Idempotency-Key: k", b"Last-Event-ID: 7", b"Expect: 100-continue", b"Content-Encoding: gzip", b"Transfer-Encoding: chunked",
    b"Content-Length: 5", b"Sec-Fetch-Site: none", b"Origin: http://localhost", b"X: " + b"x" * 9000, b"Range: bytes=0-1",
]  # fmt: skip
#: How long an answer may take, in seconds: an event stream has no end.
PATIENCE = 0.5


def some_wait(random: Random) -> tuple[str, bytes]:
    """Returns a valid wait as the body of a request, and its idempotency key."""
    key = f"{random.getrandbits(60):x}"
    wait = {
        "kind": "http",
        "params": {"endpoint": "http://127.0.0.1:9/", "success_when": "true"},
        "poke_interval": 3600,
        "labels": {"key": key},
    }
    return key, json.dumps(wait).encode()


def some_request(random: Random, ids: list[str]) -> bytes:
    """Returns a request, often with edits anywhere."""
    path = random.choice(PATHS)
    content_type, bodies = BODIES.get(path, ("application/json", [{}]))
    body = json.dumps(random.choice(bodies)).encode() if random.random() < 0.8 else b""
    if random.random() < 0.5:
        body = mutated(random, body, CORPUS)
    target = path.replace("{id}", random.choice(ids)).encode()
    if random.random() < 0.3:
        target = mutated(random, target, [each.encode() for each in PATHS])
    lines = [b"Host: localhost", b"Connection: close", b"Content-Type: " + content_type.encode()]
    lines += [b"Content-Length: %d" % len(body)] if random.random() < 0.9 else []
    lines += random.sample(HEADERS, random.choice((0, 0, 1, 2)))
    request = b"\r\n".join([b"%b %b HTTP/1.1" % (random.choice(METHODS).encode(), target), *lines, b"", body])
    return mutated(random, request, HEADERS) if random.random() < 0.2 else request


async def answer_to(url: str, request: bytes) -> bytes:
    """Returns what the daemon answers within `PATIENCE`."""
    host, port = url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = b""
    with suppress(ConnectionError, TimeoutError):
        async with asyncio.timeout(PATIENCE):
            writer.write(request)
            while part := await reader.read(65_536):
                answer += part
    writer.close()
    return answer


async def test_no_request_makes_a_daemon_fail_or_lose_a_wait(tmp_path: Path, fuzz: Fuzz) -> None:
    accepted: dict[str, str] = {}
    statuses: Counter[bytes] = Counter()

    async def submit(random: Random) -> None:
        key, body = some_wait(random)
        result: dict[str, Any] = await client.submit(json.loads(body))
        accepted[result["id"]] = key

    async with daemon(tmp_path) as waitd, Client(waitd.url) as client:
        await submit(Random())
        for random in fuzz.rounds():
            await submit(random)
            ids = [*accepted][-5:]
            requests = [some_request(random, ids) for _ in range(8)]
            for request, answer in zip(
                requests,
                await asyncio.gather(*(answer_to(waitd.url, each) for each in requests)),
                strict=True,
            ):
                status = answer[9:12]
                statuses[status] += 1
                assert not status.startswith(b"5"), (request, answer)
        await waitd.kill()
        assert [line for line in waitd.log if line.get("level") == "error"] == []
        await waitd.start()
        async with Client(waitd.url) as again:
            kept = {wait["id"]: wait["labels"].get("key") async for wait in again.each({})}
    assert accepted.items() <= kept.items(), statuses
