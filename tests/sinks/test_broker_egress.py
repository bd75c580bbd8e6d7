"""The egress rules for brokers: their hosts come from the operator's connections."""

from dataclasses import replace
from typing import Any

import pytest
from brokers import BROKERS
from deliveries import failure, make_item
from fakes import FakeConnections
from sink_setup import SinkSetup

from waitd.bench.children import free_port
from waitd.core.connections.connection import Connection
from waitd.core.connections.egress import EgressPolicy
from waitd.core.waits.delivery import DeliveryFailed, Receipt
from waitd.outgoing import EgressGuard


def at_address(connection: Connection, kind: str, host: str, port: int) -> Connection:
    """The connection with another address."""
    if kind in {"redis", "nats", "amqp"}:
        return replace(connection, host=host, port=port)
    address = f"{host}:{port}"
    extra = {"sqs": {"endpoint_url": f"http://{address}"}, "kafka": {"bootstrap.servers": address}}[kind]
    return replace(connection, extra={**connection.extra, **extra})


def params(kind: str, host: str, port: int) -> dict[str, Any]:
    params: dict[str, Any] = BROKERS[kind][0](None).params("name", port)
    return params | ({"queue_url": f"http://{host}:{port}/123456789012/q"} if kind == "sqs" else {})


async def receipt(kind: str, host: str, egress: EgressGuard, port: int = 1) -> Receipt:
    broker = BROKERS[kind][0](None)
    connections = FakeConnections(at_address(broker.connection(port), kind, host, port))
    async with broker.open_sink(connections, egress) as sink:
        result: Receipt = await sink.deliver(sink.parse(params(kind, host, port)), make_item())
        return result


@pytest.mark.parametrize("kind", BROKERS)
@pytest.mark.parametrize(
    ("host", "port", "why"),
    [
        ("169.254.169.254", 1, "requests to link-local and cloud metadata addresses are not allowed"),
        ("0xa9fea9fe", 1, "requests to link-local and cloud metadata addresses are not allowed"),
        ("127.0.0.1", 8795, "requests to waitd's own listener are not allowed"),
        ("denied.example", 1, "egress_deny names this host"),
        ("10.1.2.3", 1, "egress_deny names this address"),
    ],
)
async def test_forbidden_addresses_are_not_connected_to(kind: str, host: str, port: int, why: str) -> None:
    egress = EgressGuard(EgressPolicy.from_settings([], ["denied.example", "10.0.0.0/8"], private=True))
    egress.add_listener("127.0.0.1", 8795)
    blocked = DeliveryFailed(f"the egress rules block {BROKERS[kind][0].sink.broker}: {why}")
    assert await receipt(kind, host, egress, port) == blocked


@pytest.mark.parametrize("kind", BROKERS)
async def test_private_addresses_are_allowed_for_the_operator(kind: str) -> None:
    """No broker listens at the port, but a connection is attempted."""
    egress = EgressGuard(EgressPolicy(private=False))
    assert "could not connect to" in failure(await receipt(kind, "127.0.0.1", egress, free_port()))


async def test_one_denied_server_of_several_blocks_the_connection(kafka: SinkSetup) -> None:
    connection = kafka.connection
    servers = f"{connection.extra['bootstrap.servers']},169.254.169.254:9092"
    kafka.connection = replace(connection, extra={**connection.extra, "bootstrap.servers": servers})
    assert "metadata" in failure(await kafka.deliver(make_item()))
    assert kafka.proxy.accepted == 0
