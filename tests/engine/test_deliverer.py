"""The deliverer in virtual time: retry delays, queues by destination, and deliveries in flight."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import anyio
import pytest
from fakes import MemoryOutbox, RecordingSink, RecordingTarget
from virtual_time import VirtualClock, in_virtual_time

from waitd.core.errors import InvalidInput, NotSupported, StoreUnavailable
from waitd.core.waits.delivery import (
    RETRY_DELAYS,
    Delivered,
    DeliveryFailed,
    DeliveryId,
    DeliveryPostponed,
    DeliveryRejected,
    DeliveryState,
    Receipt,
)
from waitd.engine import deliverer
from waitd.engine.deliverer import Deliverer
from waitd.metrics import Instruments
from waitd.ports import OutboxItem


class Bench:
    def __init__(self, answer: Callable[[OutboxItem], Awaitable[Receipt] | Receipt] | None) -> None:
        self.clock = VirtualClock()
        self.outbox = MemoryOutbox()
        self.sink = RecordingSink(answer)
        self.instruments = Instruments(version="test")
        self.deliverer = Deliverer(
            self.outbox,
            {"recording": self.sink},
            self.clock,
            self.instruments,
            retry_delays=RETRY_DELAYS,
            attempt_timeout=15,
            per_destination=4,
            jitter=lambda: 0.5,
        )

    def queue(self, name: str, destination: str = "here", *, wake: bool = True) -> None:
        self.outbox.queue(name, destination, self.clock.now())
        if wake:
            self.deliverer.wake([destination])

    def state(self, name: str) -> DeliveryState:
        return self.outbox.settled[DeliveryId(name)].state


@asynccontextmanager
async def running(
    answer: Callable[[OutboxItem], Awaitable[Receipt] | Receipt] | None = None,
) -> AsyncIterator[Bench]:
    bench = Bench(answer)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.deliverer.run)
        await asyncio.sleep(0.001)
        yield bench
        tasks.cancel_scope.cancel()


async def never() -> Receipt:
    await asyncio.sleep(float("inf"))
    return Delivered()


@in_virtual_time
async def test_what_is_queued_is_delivered_at_once_and_once() -> None:
    async with running() as bench:
        for n in range(1000):
            bench.queue(f"d{n}")
        await asyncio.sleep(0.1)
        assert len(bench.outbox.settled) == len(bench.sink.items) == 1000


@in_virtual_time
async def test_the_outbox_is_read_once_for_what_it_gives_at_once() -> None:
    async with running() as bench:
        bench.queue("d")
        await asyncio.sleep(0.5)
        assert bench.outbox.reads == 1
        for n in range(deliverer.READ_AHEAD + 1):
            bench.queue(f"d{n}")
        await asyncio.sleep(0.4)
        assert len(bench.outbox.settled) == deliverer.READ_AHEAD + 2
        assert bench.outbox.reads == 3


@in_virtual_time
async def test_a_second_try_is_on_time_where_others_hang() -> None:
    times: list[float] = []
    loop = asyncio.get_running_loop()

    def answer(item: OutboxItem) -> Awaitable[Receipt] | Receipt:
        if item.id == "stuck":
            return never()
        times.append(loop.time())
        return DeliveryFailed("500") if len(times) == 1 else Delivered()

    async with running(answer) as bench:
        bench.queue("stuck")
        bench.queue("d")
        await asyncio.sleep(14)
        assert bench.state("d") is DeliveryState.DELIVERED
    assert RETRY_DELAYS[1] - 0.001 <= times[1] - times[0] < RETRY_DELAYS[1] + 1.1


@in_virtual_time
async def test_one_read_that_fails_is_made_again_soon_also_where_others_hang(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with running(lambda item: never() if item.id == "stuck" else Delivered()) as bench:
        bench.queue("stuck")
        await asyncio.sleep(0.5)

        async def failing(*_: Any) -> Any:
            monkeypatch.undo()  # the next read goes through
            raise StoreUnavailable("locked")

        monkeypatch.setattr(bench.outbox, "due_items", failing)
        bench.queue("d")
        await asyncio.sleep(2 * deliverer.RETRY_PAUSE)
        assert bench.state("d") is DeliveryState.DELIVERED


@pytest.mark.parametrize("turns", range(12))
@in_virtual_time
async def test_what_is_queued_as_a_lane_closes_is_delivered_at_once(turns: int) -> None:
    async with running() as bench:
        bench.queue("first")
        for _ in range(turns):
            await asyncio.sleep(0)
        bench.queue("second")
        await asyncio.sleep(0.1)
        assert len(bench.outbox.settled) == 2


@in_virtual_time
async def test_a_first_rung_that_is_not_at_once_is_kept() -> None:
    bench = Bench(None)
    bench.deliverer._retry_delays = (5.0, 30.0)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.deliverer.run)
        await asyncio.sleep(0.001)
        bench.outbox.queue("d", "here", bench.clock.now() + 5.0)
        bench.deliverer.wake(["here"])
        await asyncio.sleep(4.9)
        assert not bench.outbox.settled
        await asyncio.sleep(0.2)
        assert bench.state("d") is DeliveryState.DELIVERED
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_what_was_left_in_the_outbox_by_a_crash_is_found_at_start() -> None:
    bench = Bench(None)
    bench.queue("old", wake=False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(bench.deliverer.run)
        await asyncio.sleep(0.1)
        assert bench.state("old") is DeliveryState.DELIVERED
        tasks.cancel_scope.cancel()


@in_virtual_time
async def test_what_is_postponed_is_tried_again_when_it_says_so_and_climbs_no_rung() -> None:
    times: list[float] = []
    loop = asyncio.get_running_loop()

    def not_yet(item: OutboxItem) -> Receipt:
        times.append(loop.time())
        assert item.attempts == 0
        return DeliveryPostponed("not parked yet", 7.0) if len(times) < 50 else Delivered()

    async with running(not_yet) as bench:
        bench.queue("d")
        await asyncio.sleep(400)
        assert bench.state("d") is DeliveryState.DELIVERED
    assert [later - earlier for earlier, later in pairwise(times)] == pytest.approx([7.0] * 49)
    counted = bench.instruments.deliveries.labels
    assert (counted("recording", "postponed")._value.get(), counted("recording", "refused")._value.get()) == (
        49,
        0,
    )


@in_virtual_time
async def test_a_refused_event_climbs_the_ladder_to_its_end() -> None:
    times: list[float] = []
    loop = asyncio.get_running_loop()

    def refuse(_: OutboxItem) -> Receipt:
        times.append(loop.time())
        return DeliveryFailed("500")

    async with running(refuse) as bench:
        bench.queue("d")
        await asyncio.sleep(sum(RETRY_DELAYS) + 400)
        assert bench.state("d") is DeliveryState.DEAD
        pauses = [b - a for a, b in pairwise(times)]
        assert len(times) == len(RETRY_DELAYS)
        assert all(-0.001 <= pause - rung < 1.1 for pause, rung in zip(pauses, RETRY_DELAYS[1:], strict=True))


@in_virtual_time
async def test_a_destination_that_is_gone_is_dead_at_once() -> None:
    async with running(lambda _: DeliveryRejected("410")) as bench:
        bench.queue("d")
        await asyncio.sleep(1)
        assert bench.state("d") is DeliveryState.DEAD
        assert len(bench.sink.items) == 1


@in_virtual_time
async def test_a_hanging_destination_holds_up_no_other_and_takes_its_four_places_only() -> None:
    async with running(lambda item: never() if item.sink["to"] == "stuck" else Delivered()) as bench:
        for n in range(100):
            bench.queue(f"s{n}", "stuck")
            bench.queue(f"g{n}", "good")
        await asyncio.sleep(1)
        assert sum(name.startswith("g") for name in bench.outbox.settled) == 100
        assert sum(item.sink["to"] == "stuck" for item in bench.sink.items) == 4
        await asyncio.sleep(15)
        assert bench.outbox.history[-1][1].last_error == "No answer within 15 s."


@in_virtual_time
async def test_a_poison_event_does_not_block_those_behind_it() -> None:
    async with running(lambda item: DeliveryFailed("no") if item.id == "poison" else Delivered()) as bench:
        bench.queue("poison")
        for n in range(50):
            bench.queue(f"d{n}")
        await asyncio.sleep(1)
        assert len(bench.outbox.settled) == 50


@in_virtual_time
async def test_a_result_the_store_refuses_is_written_later_and_the_event_is_not_sent_again() -> None:
    async with running() as bench:
        bench.outbox.refusing = True
        bench.queue("d")
        await asyncio.sleep(30)
        bench.outbox.refusing = False
        await asyncio.sleep(2)
        assert bench.state("d") is DeliveryState.DELIVERED
        assert len(bench.sink.items) == 1


@in_virtual_time
async def test_a_sink_with_a_defect_loses_no_event() -> None:
    def broken(_: OutboxItem) -> Receipt:
        if len(bench.sink.items) < 3:
            raise ZeroDivisionError
        return Delivered()

    async with running(broken) as bench:
        bench.queue("d")
        await asyncio.sleep(60)
        assert bench.state("d") is DeliveryState.DELIVERED


@in_virtual_time
async def test_draining_lets_attempts_in_flight_finish_and_leaves_the_rest_queued() -> None:
    async def slowly(_: OutboxItem) -> Receipt:
        await asyncio.sleep(3)
        return Delivered()

    async with running(slowly) as bench:
        for n in range(20):
            bench.queue(f"d{n}")
        await asyncio.sleep(1)
        await bench.deliverer.drain(10)
        assert len(bench.outbox.settled) == 4
        await asyncio.sleep(60)
        assert len(bench.outbox.settled) == 4
        assert len(bench.outbox.due) == 16


@in_virtual_time
async def test_more_destinations_than_queues_take_turns() -> None:
    async with running() as bench:
        for n in range(1000):
            bench.queue(f"d{n}", f"destination {n}")
        await asyncio.sleep(1)
        assert len(bench.outbox.settled) == 1000


@in_virtual_time
async def test_destinations_that_hang_do_not_keep_every_lane(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliverer, "MAX_QUEUES", 4)
    async with running(lambda item: never() if item.sink["to"] != "good" else Delivered()) as bench:
        for n in range(8):
            for m in range(50):
                bench.queue(f"s{n}-{m}", f"stuck {n}")
        await asyncio.sleep(10)
        bench.queue("g", "good")
        await asyncio.sleep(60)  # four rounds of attempts that hang for 15 s
        assert bench.state("g") is DeliveryState.DELIVERED
        tried = [item.id for item in bench.sink.items]
        assert len({item.sink["to"] for item in bench.sink.items}) == 9, "and each had its turn"
        assert len(tried) == len(set(tried)), "what was given back was not in flight"
        assert len(bench.outbox.due) == 400, "and none was lost"


@in_virtual_time
async def test_a_sink_that_waitd_does_not_have_is_tried_again_and_one_that_it_does_not_understand_is_dead() -> (
    None
):
    async with running() as bench:

        def parse(params: Mapping[str, Any]) -> RecordingTarget:
            if params["to"] == "away":
                raise NotSupported.at("/conn_id", "the connection is not there now")
            raise InvalidInput.at("/to", "unknown field")

        bench.sink.parse = parse  # type: ignore[method-assign]  # a sink that changed its mind
        bench.queue("away", "away")
        bench.queue("wrong", "wrong")
        bench.outbox.queue("none", "none", bench.clock.now())
        at, destination, item = bench.outbox.due[DeliveryId("none")]
        bench.outbox.due[DeliveryId("none")] = (at, destination, replace(item, sink={"kind": "fax"}))
        bench.deliverer.wake(["none"])
        await asyncio.sleep(0.5)
        told = {name: after.last_error for name, after in bench.outbox.history}
        assert told == {
            "away": "The sink cannot be used now: /conn_id: the connection is not there now",
            "wrong": "The sink's parameters are invalid: /to: unknown field",
            "none": "This waitd has no sink fax.",
        }
        assert bench.state("wrong") is DeliveryState.DEAD
        assert set(bench.outbox.settled) == {"wrong"}


@pytest.mark.parametrize("method", ["due_destinations", "due_items"])
@in_virtual_time
async def test_an_outbox_that_cannot_be_read_is_asked_again(method: str) -> None:
    async with running() as bench:
        read, failures = getattr(bench.outbox, method), [1, 2]

        async def flaky(*arguments: Any) -> Any:
            if failures:
                failures.pop()
                raise StoreUnavailable("the disk is away")
            return await read(*arguments)

        setattr(bench.outbox, method, flaky)
        bench.queue("d", wake=method == "due_items")
        await asyncio.sleep(120)
        assert bench.state("d") is DeliveryState.DELIVERED
        assert not failures
