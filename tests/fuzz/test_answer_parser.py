"""HTTP answers: whatever a server sends, a poke ends soon, with a known verdict, and ends no wait.

The bytes reach the parser of a connection as a socket would hand them over; some answers come from
a real socket, also through an aiohttp session.
"""

import asyncio
import time
from collections.abc import Iterator
from random import Random
from typing import Any

import aiohttp
import pytest
from fakes import FakeConnections
from fuzzing import Fuzz, mutated
from hostile_answers import CONDITIONS, HostileAnswer, hostile_answer, hostile_server, with_length

from waitd.core.waits.verdict import Pending, Unreachable
from waitd.core.waits.wait import Progress
from waitd.outgoing import read_body
from waitd.ports import Pokeable
from waitd.probes.http.probe import HttpProbe
from waitd.probes.transport.connection import Http1Connection
from waitd.probes.transport.errors import classify_error
from waitd.probes.transport.turns import WriteCoalescer

REASONS = {
    "bad_answer",
    "too_large",
    "truncated",
    "disconnected",
    "connection_reset",
    "timeout",
    "redirect_loop",
}
#: The largest body that is read.
LIMIT = 1 << 20


class Transport(asyncio.Transport):
    """Hands over what is fed while reading is not paused."""

    reading = True
    closed = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None: ...

    def write(self, data: bytes | bytearray | memoryview) -> None: ...

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True


class Handler:
    """The part of aiohttp's connection and protocol that a connection of the pool uses."""

    def __init__(self) -> None:
        self.transport = Transport()
        self.protocol = self

    def close(self) -> None:
        self.transport.closed = True

    def connection_lost(self, exc: Exception | None) -> None: ...


class Owner:
    """Reuses no connection."""

    proxy_name = ""

    def add_idle(self, connection: Http1Connection) -> None: ...

    def remove(self, connection: Http1Connection) -> None: ...

    def on_keep_alive(self) -> None: ...


def pieces_of(random: Random, answer: HostileAnswer) -> Iterator[bytes]:
    data = b"".join(part for part in answer.parts if isinstance(part, bytes))
    if random.random() < 0.3:
        data = mutated(random, data[:100_000])
    size = random.choice((1, 7, 1000, 100_000, 100_000)) if len(data) < 5000 else 100_000
    return (data[start : start + size] for start in range(0, len(data), size))


async def exchange(random: Random, answer: HostileAnswer) -> tuple[bytes | Exception | None, int]:
    """Feeds an answer to a connection; returns its body or its error, and how much was taken."""
    handler = Handler()
    connection: Any = Http1Connection(handler, Owner(), WriteCoalescer())  # type: ignore[arg-type]
    results: list[Any] = []
    connection.send(random.choice(("GET", "GET", "HEAD")), b"", results.append)
    await asyncio.sleep(0)
    reading: asyncio.Task[bytes | None] | None = None
    taken = 0
    for piece in pieces_of(random, answer):
        for start in range(0, len(piece), 32 * 1024):
            if handler.transport.closed:
                break
            part = piece[start : start + 32 * 1024]
            connection.data_received(part)
            taken += len(part)
            if results and reading is None and not isinstance(results[0], Exception):
                response = results[0]
                encodings = response.headers.getall("Content-Encoding", ())
                reading = asyncio.ensure_future(read_body(response, encodings, LIMIT))
            while reading is not None and not handler.transport.reading and not reading.done():  # noqa: ASYNC110 - the reader goes on
                await asyncio.sleep(0)
            if reading is not None and reading.done():
                connection.close()
    connection.connection_lost(None)
    if reading is None:
        return results[0] if results else None, taken
    try:
        return await reading, taken
    except (aiohttp.ClientError, OSError) as error:
        return error, taken


async def test_the_parser_takes_any_answer_within_its_bounds(fuzz: Fuzz) -> None:
    for random in fuzz.rounds():
        answer = (
            hostile_answer(random) if random.random() < 0.9 else HostileAnswer("plain", [with_length(b"{}")])
        )
        started = time.process_time()
        result, taken = await exchange(random, answer)
        assert time.process_time() - started < 10, answer.kind
        assert taken <= 2 * LIMIT + 3 * 128 * 1024, answer.kind
        if isinstance(result, Exception):
            assert classify_error(result).reason in REASONS, answer.kind
        else:
            assert len(result or b"") <= LIMIT


class Wait:
    """A wait, as a probe sees it."""

    progress = Progress()

    def __init__(self, target: Any) -> None:
        self.target = target


@pytest.mark.parametrize("pooled", [True, False])
async def test_no_hostile_answer_ends_a_wait(fuzz: Fuzz, pooled: bool) -> None:
    async with (
        hostile_server() as server,
        HttpProbe(FakeConnections(), secret_headers=(), pooled=pooled) as http,
    ):
        for random in fuzz.rounds():
            params = {"endpoint": f"{server.url}/{random.getrandbits(48)}", **CONDITIONS}
            wait: Pokeable = Wait(http.parse(params, namespace="default"))
            try:
                async with asyncio.timeout(0.3):  # as the poker limits a poke
                    [verdict] = await http.poke([wait])
            except TimeoutError:
                continue
            assert isinstance(verdict, Pending | Unreachable), (params, verdict)
            assert verdict.reason in {*REASONS, "http_200"}, (params, verdict)
