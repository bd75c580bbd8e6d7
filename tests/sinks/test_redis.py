"""Redis only: trimmed streams, keys of another type, read-only replicas."""

from broker_servers import PASSWORD
from deliveries import make_item
from redis import Redis
from sink_setup import SinkSetup

from waitd.core.waits.delivery import Delivered, DeliveryFailed


async def test_maxlen_trims_the_stream(redis: SinkSetup) -> None:
    for _ in range(300):
        assert await redis.deliver(make_item(), maxlen=10) == Delivered()
    assert 10 <= len(await redis.read(10)) < 250


async def test_a_key_of_another_type_is_a_failure(redis: SinkSetup) -> None:
    with Redis(host="127.0.0.1", port=redis.broker.server.port, db=1, password=PASSWORD) as client:
        client.set(redis.name, "text")
    assert await redis.deliver(make_item()) == DeliveryFailed(
        "the key of the stream holds a value of another type"
    )


async def test_a_read_only_replica_is_a_failure(redis: SinkSetup) -> None:
    with Redis(host="127.0.0.1", port=redis.broker.server.port, password=PASSWORD) as client:
        client.replicaof("127.0.0.1", 1)
        try:
            assert await redis.deliver(make_item()) == DeliveryFailed("this Redis is a read-only replica")
        finally:
            client.replicaof("NO", "ONE")
    assert await redis.deliver(make_item()) == Delivered()
