"""Requests of one namespace queue behind its own, not behind those of others."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any, ClassVar

import orjson
import pytest
from aiohttp import web
from aiohttp.test_utils import make_mocked_request
from api_fakes import Api, bearer, until, wait

from waitd.api import application
from waitd.api.server.seats import SEATS, SHARED_SECONDS, NamespaceSeats, leave_seat, reserve_seat, take_seat
from waitd.api.server.throttle import Throttle
from waitd.api.server.turns import Turns
from waitd.core.auth.principal import Principal, Role
from waitd.core.auth.quotas import Quota, Resource, Share
from waitd.core.errors import Unauthenticated


class Teams:
    """An authenticator: the token is the namespace."""

    known: ClassVar = {name: Principal(f"key:{name}", Role.OPERATOR, name) for name in ("storm", "quiet")}

    def cached_fresh(self, token: str) -> Principal | None:
        if token not in self.known:
            raise Unauthenticated("unknown_key", "there is no such key")
        return self.known[token]

    async def principal(self, token: str) -> Principal:
        raise AssertionError(f"{token} is cached")


#: More readers stay than there are seats.
READERS = 2 * SEATS


@pytest.fixture
def more() -> dict[str, Any]:
    stays = Share(READERS, READERS)
    resources = Resource.LONG_POLLS, Resource.EVENT_STREAMS
    quotas = {resource: Quota(resource, stays, total=READERS) for resource in resources}
    return {"authenticator": Teams(), "throttle": Throttle(quotas=quotas)}


def request_of(method: str = "GET") -> web.Request:
    return make_mocked_request(method, "/")


async def take_one(seats: NamespaceSeats, request: web.Request, namespace: str) -> None:
    reserve_seat(request, seats, namespace)
    await take_seat(request)


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_namespace_beside_another_is_served_a_few_requests_at_a_time_in_their_order() -> None:
    seats, served, requests = NamespaceSeats(), [], [request_of() for _ in range(3 * SEATS)]
    await take_one(seats, request_of(), "quiet")

    async def take(n: int) -> None:
        await take_one(seats, requests[n], "storm")
        served.append(n)

    async with asyncio.TaskGroup() as tasks:
        started = [tasks.create_task(take(n)) for n in range(len(requests))]
        await settle()
        assert served == list(range(SEATS))
        await take_one(seats, request_of(), "quiet")
        await take_one(seats, request_of("POST"), "storm")  # writes do not wait for reads
        started[SEATS].cancel()  # its client is gone
        leave_seat(requests[0])
        leave_seat(requests[0])
        await settle()
        assert served == [*range(SEATS), SEATS + 1]
        for request in requests[1:]:
            leave_seat(request)
            await settle()
    assert served == [n for n in range(len(requests)) if n != SEATS]


async def test_a_namespace_that_is_alone_or_is_alone_again_has_any_number_of_seats() -> None:
    now = 0.0
    seats = NamespaceSeats(lambda: now)
    async with asyncio.timeout(30):
        for _ in range(10 * SEATS):
            await take_one(seats, request_of(), "team")
        await take_one(seats, request_of(), "other")
        now += SHARED_SECONDS
        for _ in range(10 * SEATS):
            await take_one(seats, request_of(), "other")


async def test_a_namespace_that_took_more_seats_while_it_was_alone_gives_them_back() -> None:
    seats, crowd = NamespaceSeats(), [request_of() for _ in range(3 * SEATS)]
    for request in crowd:
        await take_one(seats, request, "storm")
    await take_one(seats, request_of(), "quiet")
    late = asyncio.create_task(take_one(seats, request_of(), "storm"))
    for request in crowd[: 2 * SEATS]:
        leave_seat(request)
        await settle()
        assert not late.done()
    async with asyncio.timeout(30):
        leave_seat(crowd[-1])
        await late


async def test_requests_that_queued_are_served_once_their_namespace_is_alone_again() -> None:
    now = 0.0
    seats = NamespaceSeats(lambda: now)
    await take_one(seats, request_of(), "quiet")
    async with asyncio.timeout(30):
        for _ in range(SEATS):
            await take_one(seats, request_of(), "team")
        queued = [asyncio.create_task(take_one(seats, request_of(), "team")) for _ in range(3)]
        await settle()
        assert not any(each.done() for each in queued)
        now += SHARED_SECONDS + 1
        await take_one(seats, request_of(), "team")
        await asyncio.gather(*queued)


async def test_bodies_that_arrive_slowly_keep_no_seat(api: Api) -> None:
    assert (await api.client.get("/v1/waits", headers=bearer("quiet"))).status == 200
    halves = asyncio.Queue[None]()

    async def slow_body() -> AsyncIterator[bytes]:
        body = orjson.dumps(wait())
        yield body[:10]
        await halves.get()
        yield body[10:]

    headers = {**bearer("storm"), "Content-Type": "application/json"}
    async with asyncio.timeout(30), asyncio.TaskGroup() as tasks:
        slow = [
            tasks.create_task(api.client.post("/v1/waits", data=slow_body(), headers=headers))
            for _ in range(2 * SEATS)
        ]
        used = api.dependencies.throttle.used
        await until(lambda: used(Resource.REQUESTS, "storm", "key:storm")[0] == len(slow))
        assert (await api.client.post("/v1/waits", json=wait(), headers=bearer("storm"))).status == 201
        for _ in slow:
            halves.put_nowait(None)
    assert [each.result().status for each in slow] == [201] * len(slow)


async def stay(api: Api) -> int:
    """How many long-polls and event streams of `storm` are open."""
    limits = (await api.get("/v1/limits", "storm"))["limits"]
    return sum(
        each["namespace"]["used"] for each in limits if each["limit"] in {"long_polls", "event_streams"}
    )


@pytest.mark.parametrize("path", ["/v1/waits/{id}?wait=60", "/v1/events"])
async def test_readers_that_stay_take_no_seat(api: Api, path: str) -> None:
    created = await api.client.post("/v1/waits", json=wait(), headers=bearer("storm"))
    assert created.status == 201
    wait_id = (await created.json())["id"]
    assert (await api.client.get("/v1/waits", headers=bearer("quiet"))).status == 200
    readers = [
        asyncio.create_task(api.client.get(path.format(id=wait_id), headers=bearer("storm")))
        for _ in range(READERS)
    ]
    async with asyncio.timeout(30):
        while await stay(api) < READERS:
            pass
        assert (await api.client.get(f"/v1/waits/{wait_id}", headers=bearer("storm"))).status == 200
    for reader in readers:
        reader.cancel()
    for answer in await asyncio.gather(*readers, return_exceptions=True):
        if not isinstance(answer, BaseException):
            answer.close()


async def test_long_work_takes_turns_by_namespace_one_piece_in_each_turn_of_the_loop() -> None:
    order: list[str] = []
    pieces_in_turn = [0]
    stopped = False

    def count() -> None:
        if not stopped:
            pieces_in_turn.append(0)
            asyncio.get_running_loop().call_soon(count)

    async def work(namespace: str, pieces: int) -> None:
        turns = Turns(namespace)
        for _ in range(pieces):
            await turns.next_turn()
            order.append(namespace)
            pieces_in_turn[-1] += 1

    count()
    async with asyncio.TaskGroup() as tasks:
        for _ in range(20):
            tasks.create_task(work("storm", 5))
        gone = tasks.create_task(work("storm", 5))
        tasks.create_task(work("quiet", 5))
        await asyncio.sleep(0)
        gone.cancel()
    stopped = True
    assert max(pieces_in_turn) == 1
    assert order.count("storm") == 100
    assert [n for n, name in enumerate(order) if name == "quiet"][-1] <= 12


async def test_a_caller_that_guesses_gets_its_refusals_slowly(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    sleep = asyncio.sleep

    async def record(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    monkeypatch.setattr(asyncio, "sleep", record)
    statuses = [(await api.client.get("/v1/waits", headers=bearer(f"guess-{n}"))).status for n in range(30)]
    assert set(statuses) == {401, 429}
    assert pauses.count(application.REFUSAL_PAUSE) == statuses.count(429) > 0
