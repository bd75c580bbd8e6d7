"""Slow, endless and malformed requests to a real daemon, while others are answered."""

import asyncio
import re
import resource
import time
from collections.abc import Callable, Coroutine
from contextlib import AsyncExitStack, suppress
from io import BytesIO
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import orjson
import psutil
import pytest
from daemon import Daemon, daemon, submit
from open_connection import open_connection
from preset_waits import get

pytestmark = pytest.mark.slow
GET = b"GET /livez HTTP/1.1\r\nHost: localhost\r\n"
POST = b"POST /v1/waits HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
WAIT = {"kind": "http", "params": {"endpoint": "http://127.0.0.1:9/never"}, "poke_interval": 3600}
#: The longest answer to other clients meanwhile, in seconds: enough on a busy machine, and less
#: than any timeout of a slow client.
PROMPT = 8.0


async def send_parts(waitd: Daemon, *parts: bytes, pause: float = 0.0, forever: bytes = b"") -> list[bytes]:
    """Sends `parts` with pauses, then `forever` repeatedly. Returns the answers at the end."""
    async with open_connection(urlsplit(waitd.url).port) as (reader, writer):

        async def send() -> None:
            with suppress(ConnectionError):
                for part in parts:
                    writer.write(part)
                    await writer.drain()
                    await asyncio.sleep(pause)
                while forever:
                    writer.write(forever)
                    await writer.drain()
                    await asyncio.sleep(pause)

        sending = asyncio.create_task(send())
        answer = b""
        with suppress(ConnectionError):
            while more := await reader.read(65536):
                answer += more
        sending.cancel()
        return re.split(rb"(?=HTTP/1\.[01] )", answer)[1:]


def parse_answer(answer: bytes) -> tuple[int, str]:
    """The status of an answer and its problem type."""
    head, _, body = answer.partition(b"\r\n\r\n")
    status = int(head.split(b" ")[1])
    if status < 400:
        return status, ""
    assert b"application/problem+json" in head
    return status, orjson.loads(body)["type"].removeprefix("/problems/")


Attack = Callable[[Daemon], Coroutine[None, None, list[bytes]]]
ATTACKS: dict[str, tuple[Attack, list[tuple[int, str]]]] = {
    "a head in small pieces": (
        lambda waitd: send_parts(waitd, GET, pause=0.3, forever=b"X"),
        [(408, "request-timeout")],
    ),
    "a head that stops": (lambda waitd: send_parts(waitd, GET), [(408, "request-timeout")]),
    "a header that never ends": (
        lambda waitd: send_parts(waitd, GET, b"X-A: ", forever=b"a" * 1000),
        [(431, "headers-too-large")],
    ),
    "headers that never end": (
        lambda waitd: send_parts(waitd, GET, forever=b"X-A: " + b"a" * 1000 + b"\r\n"),
        [(431, "headers-too-large")],
    ),
    "10,000 headers": (
        lambda waitd: send_parts(waitd, GET + b"X-A: a\r\n" * 10_000 + b"\r\n"),
        [(431, "headers-too-large")],
    ),
    "garbage after a request": (
        lambda waitd: send_parts(waitd, GET + b"\r\n" + b"\x00\xff garbage\r\n\r\n" * 1000),
        [(400, "malformed-request")],
    ),
    "a body in small pieces": (
        lambda waitd: send_parts(waitd, POST + b"Content-Length: 1000\r\n\r\n{", pause=1.0, forever=b" "),
        [(408, "request-timeout")],
    ),
    "a body that is too large": (
        lambda waitd: send_parts(
            waitd, POST + b"Connection: close\r\nContent-Length: 99999999999\r\n\r\n", forever=b" " * 65536
        ),
        [(413, "too-large")],
    ),
    "endless chunks": (
        lambda waitd: send_parts(
            waitd,
            POST + b"Connection: close\r\nTransfer-Encoding: chunked\r\n\r\n",
            forever=b"ff\r\n" + b" " * 255 + b"\r\n",
        ),
        [(413, "too-large")],
    ),
}


@pytest.mark.long
async def test_every_attack_ends_cleanly_and_others_are_answered_promptly(tmp_path: Path) -> None:
    async with daemon(tmp_path) as waitd, aiohttp.ClientSession() as client:
        attacks = [
            asyncio.create_task(attack(waitd), name=name)
            for name, (attack, _) in ATTACKS.items()
            for _ in range(5)
        ]
        slowest, requests = 0.0, 0
        while not all(attack.done() for attack in attacks):
            began = time.monotonic()
            async with client.get(f"{waitd.url}/readyz") as answer:
                assert answer.status == 200
            slowest, requests = max(slowest, time.monotonic() - began), requests + 1
            await asyncio.sleep(0.05)
        for attack in attacks:
            assert [parse_answer(answer) for answer in attack.result()] == ATTACKS[attack.get_name()][1], (
                attack
            )
        assert requests > 20
        assert slowest < PROMPT
        assert [line for line in waitd.log if line.get("level") == "error"] == []
        assert (await get(f"{waitd.url}/v1/waits"))["waits"] == []
        metrics = await get(f"{waitd.url}/metrics")
        assert 'waitd_requests_refused_total{problem="headers-too-large"} 15.0' in metrics
        assert 'waitd_requests_refused_total{problem="request-timeout"} 15.0' in metrics


async def test_unfinished_heads_use_little_memory(tmp_path: Path) -> None:
    async with daemon(tmp_path) as waitd:
        assert waitd.process is not None
        process = psutil.Process(waitd.process.pid)
        before = process.memory_info().rss
        connections = 1500
        head = GET + b"X-A: " + b"a" * 8000 + b"\r\nX-B: " + b"b" * 8000 + b"\r\n"
        address = urlsplit(waitd.url)
        unfinished = [
            await asyncio.open_connection(address.hostname, address.port) for _ in range(connections)
        ]
        for _, writer in unfinished:
            writer.write(head)
        began = time.monotonic()
        metrics = await get(f"{waitd.url}/metrics")
        assert time.monotonic() - began < PROMPT
        assert f"waitd_api_connections {connections + 1}.0" in metrics
        assert process.memory_info().rss - before < connections * 100 * 1024
        for reader, writer in unfinished:
            assert parse_answer(await reader.read()) == (408, "request-timeout")
            writer.close()
            await writer.wait_closed()


async def test_readers_of_large_lists_that_stop_reading_use_little_memory(tmp_path: Path) -> None:
    """Four lists of 60 MB each; a reader's page budget is larger than that."""
    headers = {f"x-{n}": "x" * 4000 for n in range(14)}
    large = WAIT | {"params": {"endpoint": "http://127.0.0.1:9/never", "headers": headers}}
    line = orjson.dumps(large) + b"\n"
    async with daemon(tmp_path, WAITD_LIMITS__PAGE_BYTES=str(2**30)) as waitd, AsyncExitStack() as stack:
        client = await stack.enter_async_context(aiohttp.ClientSession())
        typed = {"Content-Type": "application/x-ndjson"}
        for _ in range(5):  # batches
            async with client.post(
                f"{waitd.url}/v1/waits:batch", data=BytesIO(line * 200), headers=typed
            ) as answer:
                assert (await answer.read()).count(b'"status":201') == 200
        assert waitd.process is not None
        process = psutil.Process(waitd.process.pid)
        await get(f"{waitd.url}/v1/waits?limit=8")
        before = process.memory_info().rss
        for _ in range(4):
            reader, writer = await stack.enter_async_context(
                open_connection(urlsplit(waitd.url).port, limit=1)
            )
            writer.write(b"GET /v1/waits?limit=1000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert await reader.readexactly(12) == b"HTTP/1.1 200"
        async with client.get(f"{waitd.url}/v1/waits") as answer:
            assert answer.status == 429, "four lists of one caller at a time"
        for _ in range(20):
            await get(f"{waitd.url}/readyz")
        assert process.memory_info().rss - before < 30 * 2**20


async def test_the_daemon_raises_a_low_limit_of_file_descriptors(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    waitd = Daemon(tmp_path)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, hard), hard))
    try:
        await waitd.start()
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert waitd.process is not None
    assert resource.prlimit(waitd.process.pid, resource.RLIMIT_NOFILE) == (hard, hard)
    await waitd.kill()


async def test_idle_connections_are_closed_to_admit_new_ones(tmp_path: Path) -> None:
    limit = 64
    async with (
        daemon(tmp_path, WAITD_MAX_CONNECTIONS=str(limit)) as waitd,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client,
    ):
        wait_id = await submit(client, waitd, WAIT)
        polling = [
            asyncio.create_task(client.get(f"{waitd.url}/v1/waits/{wait_id}?wait=60"))
            for _ in range(limit // 2)
        ]
        address = urlsplit(waitd.url)
        flood = [await asyncio.open_connection(address.hostname, address.port) for _ in range(5 * limit)]
        for _, writer in flood:
            writer.write(GET)
        for _ in range(10):
            began = time.monotonic()
            metrics = await get(f"{waitd.url}/metrics")
            assert time.monotonic() - began < PROMPT
        assert f"waitd_api_connections {limit}.0" in metrics
        assert "too_many_connections" in {line.get("event") for line in waitd.log}
        assert not any(poll.done() for poll in polling), "connections with a request in progress stay open"
        for _, writer in flood:
            writer.close()
        async with client.post(f"{waitd.url}/v1/waits/{wait_id}:cancel") as answer:
            assert answer.status == 200
        for poll in polling:
            async with await poll as answer:
                assert (await answer.json())["state"] == "cancelled"


async def test_a_new_connection_is_refused_if_all_others_have_a_request(tmp_path: Path) -> None:
    limit = 16
    async with daemon(tmp_path, WAITD_MAX_CONNECTIONS=str(limit)) as waitd, AsyncExitStack() as connections:
        port = urlsplit(waitd.url).port
        unfinished = [await connections.enter_async_context(open_connection(port)) for _ in range(limit)]
        for reader, writer in unfinished:
            writer.write(POST + b"Content-Length: 8\r\nExpect: 100-continue\r\n\r\n")
            assert b"100" in await reader.readuntil(b"\r\n\r\n"), "a handler waits for the body"
        with suppress(ConnectionError):
            async with open_connection(port) as (reader, writer):
                writer.write(GET + b"\r\n")
                assert await reader.read() == b"", "closed without an answer"
        for reader, writer in unfinished:
            writer.write(b'{"n": 1}')
            assert b" 422 " in await reader.readline()
        metrics = await get(f"{waitd.url}/metrics")
        assert 'waitd_requests_refused_total{problem="too-many-connections"}' in metrics
