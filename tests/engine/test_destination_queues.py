"""The deliverer's queues in virtual time: slow destinations, turns, reads of the outbox, drain."""

import asyncio
from collections.abc import Awaitable
from math import inf

import pytest
from deliverer_harness import running_deliverer
from fakes import after, fail_first
from virtual_time import in_virtual_time

from waitd.core.waits.delivery import RETRY_DELAYS, Delivered, DeliveryFailed, DeliveryState, Receipt
from waitd.engine import deliverer
from waitd.ports import OutboxItem


@in_virtual_time
async def test_a_hanging_destination_delays_no_other_and_gets_its_four_deliveries_only() -> None:
    async with running_deliverer(
        lambda item: after(inf if item.sink["to"] == "stuck" else 0, Delivered())
    ) as harness:
        for n in range(100):
            harness.queue(f"s{n}", "stuck")
            harness.queue(f"g{n}", "good")
        await asyncio.sleep(1)
        assert sum(name.startswith("g") for name in harness.outbox.settled) == 100
        assert sum(item.sink["to"] == "stuck" for item in harness.sink.items) == 4
        await asyncio.sleep(15)
        assert harness.outbox.history[-1][1].last_error == "No answer within 15 s."


@in_virtual_time
async def test_a_refused_event_does_not_block_those_behind_it() -> None:
    async with running_deliverer(
        lambda item: DeliveryFailed("no") if item.id == "refused" else Delivered()
    ) as harness:
        harness.queue("refused")
        for n in range(50):
            harness.queue(f"d{n}")
        await asyncio.sleep(1)
        assert len(harness.outbox.settled) == 50


@in_virtual_time
async def test_a_retry_is_on_time_while_another_delivery_hangs() -> None:
    times: list[float] = []

    def answer(item: OutboxItem) -> Awaitable[Receipt] | Receipt:
        if item.id == "stuck":
            return after(inf, Delivered())
        times.append(asyncio.get_running_loop().time())
        return DeliveryFailed("500") if len(times) == 1 else Delivered()

    async with running_deliverer(answer) as harness:
        harness.queue("stuck")
        harness.queue("d")
        await asyncio.sleep(14)
        assert harness.state("d") is DeliveryState.DELIVERED
    assert RETRY_DELAYS[1] - 0.001 <= times[1] - times[0] < RETRY_DELAYS[1] + 1.1


@pytest.mark.parametrize("turns", range(12))
@in_virtual_time
async def test_an_event_that_is_queued_while_its_queue_closes_is_delivered_at_once(turns: int) -> None:
    async with running_deliverer() as harness:
        harness.queue("first")
        for _ in range(turns):
            await asyncio.sleep(0)
        harness.queue("second")
        await asyncio.sleep(0.1)
        assert len(harness.outbox.settled) == 2


@in_virtual_time
async def test_more_destinations_than_queues_take_turns() -> None:
    async with running_deliverer() as harness:
        for n in range(1000):
            harness.queue(f"d{n}", f"destination {n}")
        await asyncio.sleep(1)
        assert len(harness.outbox.settled) == 1000


@in_virtual_time
async def test_hanging_destinations_give_way_to_one_that_works(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deliverer, "MAX_QUEUES", 4)
    async with running_deliverer(
        lambda item: after(0 if item.sink["to"] == "good" else inf, Delivered())
    ) as harness:
        for n in range(8):
            for m in range(50):
                harness.queue(f"s{n}-{m}", f"stuck {n}")
        await asyncio.sleep(10)
        harness.queue("g", "good")
        await asyncio.sleep(60)  # four rounds of attempts that hang for 15 s
        assert harness.state("g") is DeliveryState.DELIVERED
        attempts = [item.id for item in harness.sink.items]
        assert len({item.sink["to"] for item in harness.sink.items}) == 9, "each has had its turn"
        assert len(attempts) == len(set(attempts)), "those returned to the outbox were not in flight"
        assert len(harness.outbox.due) == 400, "none is lost"


@in_virtual_time
async def test_one_read_of_the_outbox_takes_all_that_is_due_up_to_its_limit() -> None:
    async with running_deliverer() as harness:
        harness.queue("d")
        await asyncio.sleep(0.5)
        assert harness.outbox.reads == 1
        for n in range(deliverer.READ_AHEAD + 1):
            harness.queue(f"d{n}")
        await asyncio.sleep(0.4)
        assert len(harness.outbox.settled) == deliverer.READ_AHEAD + 2
        assert harness.outbox.reads == 3


@pytest.mark.parametrize("method", ["due_destinations", "due_items"])
@in_virtual_time
async def test_an_outbox_that_cannot_be_read_is_read_again(method: str) -> None:
    async with running_deliverer() as harness:
        failures = fail_first(harness.outbox, method, times=2)
        harness.outbox.queue("d", "here", harness.clock.now())
        if method == "due_items":
            harness.deliverer.wake(["here"])
        await asyncio.sleep(120)
        assert harness.state("d") is DeliveryState.DELIVERED
        assert not failures


@in_virtual_time
async def test_a_failed_read_is_repeated_soon_while_another_delivery_hangs() -> None:
    async with running_deliverer(
        lambda item: after(inf if item.id == "stuck" else 0, Delivered())
    ) as harness:
        harness.queue("stuck")
        await asyncio.sleep(0.5)
        fail_first(harness.outbox, "due_items")
        harness.queue("d")
        await asyncio.sleep(2 * deliverer.RETRY_PAUSE)
        assert harness.state("d") is DeliveryState.DELIVERED


@in_virtual_time
async def test_drain_lets_attempts_in_flight_finish_and_leaves_the_rest_queued() -> None:
    async with running_deliverer(lambda _: after(3, Delivered())) as harness:
        for n in range(20):
            harness.queue(f"d{n}")
        await asyncio.sleep(1)
        await harness.deliverer.drain(10)
        assert len(harness.outbox.settled) == 4
        await asyncio.sleep(60)
        assert len(harness.outbox.settled) == 4
        assert len(harness.outbox.due) == 16
