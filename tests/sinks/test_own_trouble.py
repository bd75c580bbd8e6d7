"""Failures of deliveries that may be the daemon's own trouble, in each family of sinks."""

import errno
import json
import socket
from collections.abc import Callable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import pytest
from fakes import FakeConnections

from waitd.core.connections.connection import Connection
from waitd.core.local_trouble import NAME_SERVERS_SILENT, NETWORK_UNREACHABLE
from waitd.core.waits.delivery import DeliveryFailed, DeliveryId
from waitd.core.waits.event import build_event
from waitd.core.waits.verdict import Unreachable
from waitd.core.waits.wait import Outcome, WaitId, WaitSpec, WaitState
from waitd.outgoing import CachingResolver, EgressGuard, LookupFailed
from waitd.outgoing.names import Answer
from waitd.ports import OutboxItem, Sink
from waitd.sinks.airflow.sink import AirflowSink
from waitd.sinks.brokers.amqp import AmqpSink
from waitd.sinks.brokers.kafka import KafkaSink
from waitd.sinks.brokers.nats import NatsSink
from waitd.sinks.brokers.redis import RedisSink
from waitd.sinks.brokers.sqs import SqsSink
from waitd.sinks.webhook import WebhookSink

EVENT = build_event(
    WaitId("w1"),
    "default",
    WaitSpec("http", {}, 60.0, 600.0),
    Outcome(WaitState.SUCCESS),
    pokes=1,
    created_at=0.0,
    finished_at=1.0,
)
ITEM = OutboxItem(DeliveryId("d1"), WaitId("w1"), "default", {}, json.dumps(EVENT).encode(), 0, 0.0)
HOST = "receiver.test"
AWS = {"region_name": "eu-west-1", "endpoint_url": f"http://{HOST}:9324"}
CONNECTIONS = FakeConnections(
    Connection("airflow", "airflow", HOST, 8080, login="u", password="p"),
    Connection("redis", "redis", HOST, 6379),
    Connection("nats", "nats", HOST, 4222),
    Connection("amqp", "amqp", HOST, 5672),
    Connection("kafka", "kafka", extra={"bootstrap.servers": f"{HOST}:9092"}),
    Connection("aws", "aws", login="AKIAIOSFODNN7EXAMPLE", password="p", extra=AWS),
)
Open = Callable[[EgressGuard], AbstractAsyncContextManager[Sink]]
FAMILIES: Mapping[str, tuple[Open, Mapping[str, Any]]] = {
    "webhook": (
        lambda egress: WebhookSink(CONNECTIONS, secret=None, secret_headers=(), egress=egress),
        {"url": f"http://{HOST}/hook"},
    ),
    "airflow": (
        lambda egress: AirflowSink(CONNECTIONS, egress=egress),
        {"conn_id": "airflow", "mode": "dag_run", "dag_id": "etl"},
    ),
    "redis": (lambda egress: RedisSink(CONNECTIONS, egress), {"conn_id": "redis", "stream": "s"}),
    "nats": (lambda egress: NatsSink(CONNECTIONS, egress), {"conn_id": "nats", "subject": "s"}),
    "amqp": (
        lambda egress: AmqpSink(CONNECTIONS, egress),
        {"conn_id": "amqp", "exchange": "e", "routing_key": "r"},
    ),
    "kafka": (lambda egress: KafkaSink(CONNECTIONS, egress), {"conn_id": "kafka", "topic": "t"}),
    "sqs": (
        lambda egress: SqsSink(CONNECTIONS, egress),
        {"aws_conn_id": "aws", "queue_url": f"http://{HOST}:9324/123456789012/q"},
    ),
}


class NoLookup:
    """Fails each look-up, or knows one address that no route leads to."""

    limit = 100

    def __init__(self, *, silent: bool) -> None:
        self._silent = silent

    async def find(self, host: str) -> Answer:
        if self._silent:
            raise LookupFailed
        return Answer([(socket.AF_INET, "192.0.2.1")], 60)

    async def servers_answer(self) -> bool:
        return False

    def has_changed(self) -> bool:
        return False

    async def close(self) -> None:
        """It holds nothing."""


@pytest.mark.parametrize("suspect", [NAME_SERVERS_SILENT, NETWORK_UNREACHABLE])
@pytest.mark.parametrize("family", FAMILIES)
async def test_a_delivery_that_may_fail_for_lack_of_name_servers_or_network_is_suspect(
    family: str, suspect: Unreachable, monkeypatch: pytest.MonkeyPatch
) -> None:
    silent = suspect is NAME_SERVERS_SILENT

    def getaddrinfo(host: Any, port: Any, *_: Any, **__: Any) -> Any:
        if silent:
            raise socket.gaierror(socket.EAI_AGAIN, "text")
        return [(socket.AF_INET, socket.SOCK_STREAM, 0, "", ("192.0.2.1", port))]

    def connect(*_: Any) -> Any:
        raise OSError(errno.ENETUNREACH, "text")

    monkeypatch.setattr("waitd.outgoing.errors.has_any_route", lambda: False)
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    monkeypatch.setattr(socket.socket, "connect", connect)
    egress = EgressGuard(resolver=lambda: CachingResolver(NoLookup(silent=silent)))
    open_sink, params = FAMILIES[family]
    async with open_sink(egress) as sink:
        receipt = await sink.deliver(sink.parse(params), ITEM)
    assert isinstance(receipt, DeliveryFailed), receipt
    assert receipt.suspect is suspect
