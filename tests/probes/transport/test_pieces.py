"""A body in thousands of chunks is parsed in many turns of the event loop."""

import asyncio
from collections import Counter

import pytest
from raw_server import CLOSE, Script, poke, probe, raw_server

from waitd.core.waits.verdict import Success, Verdict
from waitd.probes.transport import connection, turns
from waitd.probes.transport.connection import Http1Connection

BODY = b'{"state": "done"}'.rjust(240_000)
HEAD = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
CHUNKED = HEAD + b"".join(b"8\r\n%b\r\n" % BODY[n : n + 8] for n in range(0, len(BODY), 8)) + b"0\r\n\r\n"


@pytest.fixture
async def bytes_by_turn(monkeypatch: pytest.MonkeyPatch) -> Counter[int]:
    """How many bytes each turn of the loop parses, where each piece takes too long."""
    monkeypatch.setattr(turns, "_TURN_SECONDS", 0.0)
    counts: Counter[int] = Counter()
    turn, loop, receive = 0, asyncio.get_running_loop(), Http1Connection.data_received

    def begin_turn() -> None:
        nonlocal turn
        turn += 1
        loop.call_soon(begin_turn)

    def counted(self: Http1Connection, data: bytes, most: int = connection._SMALL) -> None:
        if len(data) <= most:
            counts[turn] += len(data)
        receive(self, data, most)

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


async def test_a_turn_of_the_loop_parses_one_piece_of_all_answers(bytes_by_turn: Counter[int]) -> None:
    answers = [HEAD + b"%x\r\n%b\r\n0\r\n\r\n" % (size, BODY[-size:]) for size in (5_000, 20_000, 30_000)]
    verdicts = await asyncio.gather(*(poked([answer]) for answer in (CHUNKED, *answers, CHUNKED, CHUNKED)))
    assert all(isinstance(verdict, Success) for verdict in verdicts)
    assert sum(bytes_by_turn.values()) == sum(map(len, (CHUNKED, *answers, CHUNKED, CHUNKED)))
    assert max(bytes_by_turn.values()) <= connection._PIECE


@pytest.mark.usefixtures("bytes_by_turn")
async def test_what_arrived_before_the_connection_ended_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    untold = b"HTTP/1.1 200 OK\r\n\r\n" + BODY[-100_000:]
    arrived, receive = 0, Http1Connection.data_received

    def ended(self: Http1Connection, data: bytes, most: int = connection._SMALL) -> None:
        nonlocal arrived
        receive(self, data, most)
        if most == connection._SMALL and not data.startswith(b"HTTP/1.1 204"):  # that of the warm-up
            arrived += len(data)
            if arrived == len(untold):  # TLS may report the end while reading is paused
                self.eof_received()

    monkeypatch.setattr(Http1Connection, "data_received", ended)
    assert isinstance(await poked([untold, CLOSE]), Success)
