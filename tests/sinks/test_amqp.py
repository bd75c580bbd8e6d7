"""RabbitMQ only: exchanges, routing, full queues, virtual hosts."""

import asyncio
from dataclasses import replace

from deliveries import failure, make_item
from sink_setup import SinkSetup

from waitd.core.waits.delivery import Delivered, DeliveryFailed

UNROUTABLE = DeliveryFailed("no queue is bound to the exchange for this routing key")


async def test_an_unroutable_event_is_a_failure(amqp: SinkSetup) -> None:
    assert await amqp.deliver(make_item(), routing_key="unbound") == UNROUTABLE
    assert await amqp.deliver(make_item(), exchange="", routing_key="no-such-queue") == UNROUTABLE
    assert await amqp.deliver(make_item()) == Delivered()


async def test_the_default_exchange_routes_to_the_queue_of_that_name(amqp: SinkSetup) -> None:
    assert await amqp.deliver(make_item(), exchange="", routing_key=amqp.name) == Delivered()
    (received,) = await amqp.read(1)
    assert received.headers["delivery-mode"] == "2"  # persistent


async def test_a_missing_exchange_fails_only_its_own_deliveries(amqp: SinkSetup) -> None:
    assert await amqp.deliver(make_item()) == Delivered()
    for round_ in range(5):
        good = [amqp.deliver(make_item()) for _ in range(20)]
        bad = [amqp.deliver(make_item(), exchange=f"nowhere-{round_}") for _ in range(20)]
        receipts = await asyncio.gather(*good, *bad)
        assert receipts == [Delivered()] * 20 + [DeliveryFailed("the exchange does not exist")] * 20
    assert amqp.proxy.accepted == 1


async def test_a_full_queue_is_a_failure(amqp: SinkSetup) -> None:
    amqp.name += "full"
    await amqp.broker.create_destination(amqp.name, **{"x-max-length": 1, "x-overflow": "reject-publish"})
    assert await amqp.deliver(make_item()) == Delivered()
    for _ in range(3):
        assert "nack" in failure(await amqp.deliver(make_item()))


async def test_a_too_large_event_does_not_reject_concurrent_ones(amqp: SinkSetup) -> None:
    small = [make_item() for _ in range(10)]
    large = make_item(size=amqp.broker.max_bytes + 1)
    assert await amqp.deliver(make_item()) == Delivered()
    receipts = await asyncio.gather(amqp.deliver(large), *map(amqp.deliver, small))
    assert all(isinstance(receipt, Delivered | DeliveryFailed) for receipt in receipts[1:])


async def test_a_missing_virtual_host_is_a_failure(amqp: SinkSetup) -> None:
    amqp.connection = replace(amqp.connection, schema="nowhere")
    assert "virtual host" in failure(await amqp.deliver(make_item()))
