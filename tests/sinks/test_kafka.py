"""What only Kafka has, as far as librdkafka's mock cluster shows it."""

from brokers import parcel_of
from scene import Scene

from waitd.core.waits.delivery import Delivered


async def test_the_key_is_the_waits_id_unless_another_is_given(kafka: Scene) -> None:
    parcel, other = parcel_of(), parcel_of()
    assert await kafka.deliver(parcel) == Delivered()
    assert await kafka.deliver(other, key="ü") == Delivered()
    keys = {taken.body: taken.headers["key"] for taken in await kafka.read(2)}
    assert keys == {parcel.event: parcel.wait_id, other.event: "ü"}


async def test_a_record_nobody_waits_for_any_more_takes_its_producer_with_it(kafka: Scene) -> None:
    """An idempotent producer never gives a record up: each attempt of a long outage would come as one more copy after it."""
    import asyncio

    assert await kafka.deliver(parcel_of()) == Delivered()
    await kafka.proxy.down()
    parcel = parcel_of()
    for _ in range(3):
        try:
            await kafka.deliver(parcel, patience=0.1)
        except TimeoutError:
            continue
    await asyncio.sleep(2.2)  # the flush of what was given up ends
    await kafka.proxy.up()
    assert await kafka.deliver(parcel) == Delivered()
    assert [taken.body for taken in await kafka.read(2)].count(parcel.event) == 1
