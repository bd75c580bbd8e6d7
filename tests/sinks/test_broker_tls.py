"""TLS to brokers.

NATS and RabbitMQ serve TLS themselves; in front of Redis, moto and Kafka's mock cluster the proxy
does.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from broker_certificates import authority
from broker_proxy import Streams
from broker_servers import PASSWORD
from deliveries import make_item
from kafka_sasl import SaslHandshake
from sink_setup import SinkSetup

from waitd.core.connections.connection import Connection
from waitd.core.waits.delivery import Delivered, DeliveryFailed, Receipt
from waitd.outgoing import EgressGuard, TlsContexts
from waitd.ports import OutboxItem

#: The greeting of a NATS server without TLS.
INFO = b'INFO {"server_id":"x","version":"2.10.0","proto":1,"headers":true,"max_payload":1048576}\r\n'


@pytest.fixture
def ca(tmp_path: Path) -> str:
    authority().cert_pem.write_to_path(tmp_path / "ca.pem")
    return str(tmp_path / "ca.pem")


async def deliver(broker_setup: SinkSetup, connection: Connection, item: OutboxItem) -> Receipt:
    """Delivers over this connection."""
    broker_setup.connection = connection
    queue: dict[str, Any] = {}
    if "endpoint_url" in connection.extra:
        queue["queue_url"] = f"{connection.extra['endpoint_url']}/123456789012/{broker_setup.name}"
    return await broker_setup.deliver(item, **queue)


async def test_only_a_trusted_certificate_is_accepted(broker_setup: SinkSetup, ca: str) -> None:
    plain, broker, item = broker_setup.connection, broker_setup.broker, make_item()
    broker.enable_tls(broker_setup.proxy)
    refused = DeliveryFailed(f"the TLS certificate of {broker_setup.sink.broker} is not trusted")
    assert await deliver(broker_setup, broker.with_tls(plain), item) == refused
    assert await deliver(broker_setup, broker.with_other_name(broker.with_tls(plain, ca=ca)), item) == refused
    assert await deliver(broker_setup, broker.with_tls(plain, ca=ca), item) == Delivered()
    assert [received.body for received in await broker_setup.read(1)] == [item.event]


async def test_verify_false_accepts_any_certificate(broker_setup: SinkSetup) -> None:
    broker_setup.broker.enable_tls(broker_setup.proxy)
    trusting = broker_setup.broker.with_tls(broker_setup.connection, verify=False)
    assert await deliver(broker_setup, trusting, make_item()) == Delivered()


async def test_nothing_is_sent_to_a_broker_without_tls(broker_setup: SinkSetup) -> None:
    received = b""

    async def listen(streams: Streams) -> bool:
        nonlocal received
        if broker_setup.broker.kind == "nats":
            streams.client.write(INFO)
        received += await streams.requests.read(65536)
        return False

    broker_setup.proxy.handshake = listen
    connection = broker_setup.broker.with_tls(broker_setup.connection, verify=False)
    assert isinstance(await deliver(broker_setup, connection, make_item()), DeliveryFailed)
    assert received[:1] == b"\x16"  # a handshake, and nothing else
    assert PASSWORD.encode() not in received


async def test_the_trust_store_of_the_settings_holds(
    broker_setup: SinkSetup, ca: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", ca)
    broker = broker_setup.broker
    broker.enable_tls(broker_setup.proxy)
    connection = broker.with_tls(broker_setup.connection)
    assert await deliver(broker_setup, connection, make_item()) == Delivered()
    egress = EgressGuard(tls=TlsContexts("certifi"))
    async with broker.sink(broker_setup.connections, egress) as broker_setup.sink:
        refused = DeliveryFailed(f"the TLS certificate of {broker_setup.sink.broker} is not trusted")
        assert await deliver(broker_setup, connection, make_item()) == refused


async def test_an_unreadable_tls_file_is_a_failure(broker_setup: SinkSetup) -> None:
    broker_setup.broker.enable_tls(broker_setup.proxy)
    connection = broker_setup.broker.with_tls(broker_setup.connection, ca="/nowhere/ca.pem")
    receipt = await deliver(broker_setup, connection, make_item())
    assert receipt == DeliveryFailed("the TLS files of the connection broker cannot be read")
    assert broker_setup.proxy.accepted == 0


async def test_kafka_login_works_over_tls(kafka: SinkSetup, ca: str) -> None:
    kafka.broker.enable_tls(kafka.proxy)
    kafka.proxy.handshake = SaslHandshake("waitd", PASSWORD)
    connection = kafka.broker.with_login(kafka.broker.with_tls(kafka.connection, ca=ca))
    connection = replace(connection, extra={**connection.extra, "security.protocol": "SASL_SSL"})
    assert await deliver(kafka, connection, make_item()) == Delivered()
