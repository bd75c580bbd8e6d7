"""Kafka only: record keys, and producers of cancelled deliveries."""

import asyncio
from contextlib import suppress

from deliveries import make_item
from sink_setup import SinkSetup

from waitd.core.waits.delivery import Delivered


async def test_the_record_key_defaults_to_the_waits_id(kafka: SinkSetup) -> None:
    item, other = make_item(), make_item()
    assert await kafka.deliver(item) == Delivered()
    assert await kafka.deliver(other, key="ü") == Delivered()
    keys = {received.body: received.headers["key"] for received in await kafka.read(2)}
    assert keys == {item.event: item.wait_id, other.event: "ü"}


async def test_a_cancelled_delivery_discards_its_producer(kafka: SinkSetup) -> None:
    """An idempotent producer retries forever, so each attempt in an outage would be a duplicate."""
    assert await kafka.deliver(make_item()) == Delivered()
    await kafka.proxy.down()
    item = make_item()
    for _ in range(3):
        with suppress(TimeoutError):
            await kafka.deliver(item, within=0.1)
    await asyncio.sleep(2.2)  # longer than the flush of the discarded producer
    await kafka.proxy.up()
    assert await kafka.deliver(item) == Delivered()
    assert [received.body for received in await kafka.read(2)].count(item.event) == 1
