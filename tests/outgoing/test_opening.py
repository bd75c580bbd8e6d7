"""How many connections are opened in one turn of the event loop."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field

import pytest
from stream_server import answering, stream_server
from turns import Turns, counted_turns
from virtual_time import in_virtual_time

from waitd.core.connections.addresses import Address
from waitd.core.connections.egress import EgressPolicy, HostSource
from waitd.outgoing import EgressGuard
from waitd.outgoing.opening import OPENED_PER_TURN, opening_turns
from waitd.probes.transport.client import HttpClient, Request


@dataclass(frozen=True)
class CountingPolicy(EgressPolicy):
    """Counts the sockets that are made in each turn."""

    turns: Turns = field(default_factory=Turns)
    made: Counter[int] = field(default_factory=Counter)

    def check_address(self, address: Address, source: HostSource, *, is_own: bool) -> None:
        self.made[self.turns.count] += 1
        super().check_address(address, source, is_own=is_own)


@pytest.mark.parametrize("method", ["GET", "POST"])
async def test_many_connections_are_opened_in_many_turns(method: str) -> None:
    """The pool opens those of a GET, a session those of a POST."""
    async with (
        stream_server(answering(b"HTTP/1.1 204 x\r\nContent-Length: 0\r\n\r\n")) as port,
        counted_turns() as turns,
    ):
        policy = CountingPolicy(turns=turns)
        egress, url = EgressGuard(policy), f"http://127.0.0.1:{port}/"
        client = await HttpClient(egress=egress).start()
        egress.check_url(url, HostSource.SUBMITTER)  # it checks a literal address, once
        policy.made.clear()
        requests = [Request(method, url, None, None, True)] * 5 * OPENED_PER_TURN
        await asyncio.gather(*(client.fetch(request, 0.0) for request in requests))
        await client.close()
    assert policy.made.total() == len(requests)
    assert max(policy.made.values()) <= OPENED_PER_TURN


@in_virtual_time
async def test_a_connection_that_is_no_longer_wanted_takes_no_turn() -> None:
    async with counted_turns() as turns:
        opened: list[tuple[int, int]] = []

        async def open_one(number: int) -> None:
            await opening_turns().wait()
            opened.append((number, turns.count))

        tasks = [asyncio.create_task(open_one(n)) for n in range(4 * OPENED_PER_TURN)]
        await asyncio.sleep(0)
        for task in tasks[OPENED_PER_TURN : 2 * OPENED_PER_TURN]:
            task.cancel()
        await asyncio.wait(tasks)
    kept = [*range(OPENED_PER_TURN), *range(2 * OPENED_PER_TURN, 4 * OPENED_PER_TURN)]
    assert [number for number, _ in opened] == kept
    turn_counts = Counter(turn for _, turn in opened)
    assert len(turn_counts) == 3
    assert set(turn_counts.values()) == {OPENED_PER_TURN}
