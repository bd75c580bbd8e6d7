"""A body in thousands of chunks is parsed in many turns of the event loop."""

import asyncio
from collections import Counter

import pytest
from raw_server import CLOSE, Script, poke, probe, raw_server

from waitd.core.waits.verdict import Success, Verdict
from waitd.probes.transport import connection
from waitd.probes.transport.connection import Http1Connection

BODY = b'{"state": "done"}'.rjust(240_000)
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = HEAD + b"".join(b"8\r\n%b\r\n" % BODY[n : n + 8] for n in range(0, len(BODY), 8)) + b"0\r\n\r\n"


@pytest.fixture
async def bytes_by_turn(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How many bytes each turn of the loop parses, where each piece takes too long."""
    monkeypatch.setattr(connection, "_TURN_SECONDS", 0.0)
    counts: Counter[int] = Counter()
    turn, loop, receive = 0, asyncio.get_running_loop(), Http1Connection.data_received

    def begin_turn() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(begin_turn)

    def counted(self: Http1Connection, data: bytes) -> None:
        if len(data) <= connection._PIECE:
            counts[turn] += len(data)
        receive(self, data)

    begin_turn()
    monkeypatch.setattr(Http1Connection, "data_received", counted)
    return counts


async def poked(script: Script) -> Verdict:
    async with raw_server(script) as server, probe() as http, asyncio.timeout(60):
        [verdict] = await poke(http, {"endpoint": server.url, "success_when": "body.state == 'done'"})
    return verdict


async def test_a_turn_of_the_loop_parses_one_piece_of_an_answer(bytes_by_turn: Counter[int]) -> None:
    assert isinstance(await poked([CHUNKED]), Success)
    assert sum(bytes_by_turn.values()) == len(CHUNKED)
    assert max(bytes_by_turn.values()) <= connection._PIECE


@pytest.mark.usefixtures("bytes_by_turn")
async def test_what_arrived_before_the_connection_ended_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    receive = Http1Connection.data_received

    def ended(self: Http1Connection, data: bytes) -> None:
        receive(self, data)
        if len(data) > connection._PIECE:  # TLS may report the end while reading is paused
            self.eof_received()

    monkeypatch.setattr(Http1Connection, "data_received", ended)
    untold = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
    assert isinstance(await poked([untold, CLOSE]), Success)
