"""Parameters and connections of the brokers' sinks, without a broker."""

import ssl
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from broker_adapter import AnySink
from deliveries import failure, make_item
from fakes import FakeConnections

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput, NotInstalled
from waitd.outgoing import TlsContexts
from waitd.sinks.brokers import broker
from waitd.sinks.brokers.amqp import AmqpSink
from waitd.sinks.brokers.broker import InvalidConnection, broker_address, connection_tls_context
from waitd.sinks.brokers.kafka import KafkaSink
from waitd.sinks.brokers.nats import NatsSink
from waitd.sinks.brokers.redis import RedisSink
from waitd.sinks.brokers.sqs import SqsSink

SINKS: dict[str, type[AnySink]] = {s.kind: s for s in (SqsSink, RedisSink, NatsSink, KafkaSink, AmqpSink)}
QUEUE = "https://sqs.eu-west-1.amazonaws.com/123456789012/q"


def sink(kind: str, *connections: Connection) -> AnySink:
    return SINKS[kind](FakeConnections(*connections))


@pytest.mark.parametrize(
    ("kind", "params", "pointers"),
    [
        ("redis", {}, ["/conn_id", "/stream"]),
        ("redis", {"conn_id": "a b", "stream": "s"}, ["/conn_id"]),
        ("redis", {"conn_id": "c", "stream": ""}, ["/stream"]),
        ("redis", {"conn_id": "c", "stream": "s" * 513}, ["/stream"]),
        ("redis", {"conn_id": "c", "stream": "s", "maxlen": 0}, ["/maxlen"]),
        ("redis", {"conn_id": "c", "stream": "s", "maxlen": True}, ["/maxlen"]),
        ("redis", {"conn_id": "c", "stream": "s", "maxlen": "5"}, ["/maxlen"]),
        ("redis", {"conn_id": "c", "stream": "s", "password": "x"}, ["/password"]),
        ("nats", {"conn_id": "c"}, ["/subject"]),
        ("nats", {"conn_id": "c", "subject": ""}, ["/subject"]),
        ("nats", {"conn_id": "c", "subject": "a.*"}, ["/subject"]),
        ("nats", {"conn_id": "c", "subject": "a.>"}, ["/subject"]),
        ("nats", {"conn_id": "c", "subject": "a..b"}, ["/subject"]),
        ("nats", {"conn_id": "c", "subject": "a b"}, ["/subject"]),
        ("nats", {"conn_id": "c", "subject": "a\r\nPUB b"}, ["/subject"]),
        ("nats", {"conn_id": "c", "subject": "a" * 256}, ["/subject"]),
        ("nats", {"conn_id": 5, "subject": "a"}, ["/conn_id"]),
        ("kafka", {"conn_id": "c"}, ["/topic"]),
        ("kafka", {"conn_id": "c", "topic": "a b"}, ["/topic"]),
        ("kafka", {"conn_id": "c", "topic": "t" * 250}, ["/topic"]),
        ("kafka", {"conn_id": "c", "topic": "t", "key": 5}, ["/key"]),
        ("kafka", {"conn_id": "c", "topic": "t", "acks": 0}, ["/acks"]),
        ("amqp", {"conn_id": "c"}, ["/routing_key"]),
        ("amqp", {"conn_id": "c", "exchange": "e" * 256}, ["/exchange"]),
        ("amqp", {"conn_id": "c", "exchange": "e", "routing_key": "ü" * 128}, ["/routing_key"]),
        ("amqp", {"conn_id": "c", "exchange": "e\x00"}, ["/exchange"]),
        ("amqp", {"conn_id": "c", "exchange": "e", "mandatory": False}, ["/mandatory"]),
        ("sqs", {"queue_url": QUEUE}, ["/aws_conn_id"]),
        ("sqs", {"aws_conn_id": "c"}, ["/queue_url"]),
        ("sqs", {"aws_conn_id": "c", "queue_url": "q"}, ["/queue_url"]),
        (
            "sqs",
            {"aws_conn_id": "c", "queue_url": "https://key:secret@sqs.eu-west-1.amazonaws.com/q"},
            ["/queue_url"],
        ),
        ("sqs", {"aws_conn_id": "local", "queue_url": QUEUE}, ["/queue_url"]),
        ("sqs", {"aws_conn_id": "local", "queue_url": "http://localhost:4566.evil/q"}, ["/queue_url"]),
        ("sqs", {"aws_conn_id": "c", "queue_url": QUEUE, "region_name": "evil.com/#"}, ["/region_name"]),
        ("sqs", {"aws_conn_id": "c", "queue_url": QUEUE, "message_group_id": "g"}, ["/message_group_id"]),
        (
            "sqs",
            {"aws_conn_id": "c", "queue_url": QUEUE + ".fifo", "message_group_id": ""},
            ["/message_group_id"],
        ),
    ],
)
def test_an_invalid_parameter_is_reported_with_a_pointer(
    kind: str, params: Mapping[str, Any], pointers: list[str]
) -> None:
    local = Connection("local", "aws", extra={"endpoint_url": "http://localhost:4566"})
    with pytest.raises(InvalidInput) as raised:
        sink(kind, local).parse(params)
    assert [problem.pointer for problem in raised.value.problems] == pointers
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "params", "destination"),
    [
        ("redis", {"conn_id": "c", "stream": "s"}, "redis c"),
        ("nats", {"conn_id": "c", "subject": "a.b"}, "nats c"),
        ("kafka", {"conn_id": "c", "topic": "t"}, "kafka c t"),
        ("amqp", {"conn_id": "c", "exchange": "e"}, "amqp c e"),
        ("amqp", {"conn_id": "c", "routing_key": "queue"}, "amqp c"),
        ("sqs", {"aws_conn_id": "c", "queue_url": QUEUE}, f"sqs c {QUEUE}"),
    ],
)
def test_slow_targets_have_their_own_destination(
    kind: str, params: Mapping[str, Any], destination: str
) -> None:
    target = sink(kind).parse(params)
    assert target.destination == destination
    assert target.conn_id == "c"


@pytest.mark.parametrize("kind", SINKS)
def test_a_missing_library_names_its_extra(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(broker, "_is_installed", lambda library: library != SINKS[kind].library)
    with pytest.raises(NotInstalled, match=rf"pip install 'waitd\[{kind}\]'"):
        sink(kind).parse({})


def test_a_daemon_imports_no_unused_library(tmp_path: Path) -> None:
    program = """
import asyncio, sys
from waitd.app import open_adapters
from waitd.metrics import Instruments
from waitd.settings import Settings

async def main():
    async with open_adapters(Settings(), Instruments(version="test")) as adapters:
        adapters.sinks["redis"].parse({"conn_id": "c", "stream": "s"})
        print(*sorted(adapters.sinks))

asyncio.run(main())
print(*sorted({"aiobotocore", "botocore", "redis", "nats", "aiokafka", "aio_pika", "aiormq"} & set(sys.modules)))
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(
        command, capture_output=True, text=True, check=True, timeout=60, cwd=Path(__file__).parents[2]
    )
    assert done.stdout.splitlines() == ["airflow amqp kafka nats redis sqs webhook", ""]


# ------------------------------------------------------------ connections


@pytest.mark.parametrize(
    ("host", "port", "address"),
    [
        ("Broker.example", None, "broker.example:1000"),
        ("broker.example", 7, "broker.example:7"),
        ("::1", 7, "[::1]:7"),
        ("[::1]", 7, "[::1]:7"),
    ],
)
def test_an_address_is_parsed(host: str, port: int | None, address: str) -> None:
    assert str(broker_address(Connection("c", host=host, port=port), 1000)) == address


@pytest.mark.parametrize(
    "host", [None, "", "a b", "user:planted@host", "host/path", "h?x", "http://h", "h\r\n", "h:1:2"]
)
def test_an_invalid_host_is_an_error_that_does_not_quote_it(host: str | None) -> None:
    with pytest.raises(InvalidConnection) as raised:
        broker_address(Connection("c", host=host), 1000)
    assert "planted" not in str(raised.value)


@pytest.mark.parametrize(
    ("kind", "extra", "part"),
    [
        ("kafka", {"bootstrap.servers": "a:1,b c"}, "host"),
        ("kafka", {"bootstrap.servers": "a:1", "security.protocol": "planted"}, "security.protocol"),
        (
            "kafka",
            {"bootstrap.servers": "a:1", "security.protocol": "SASL_SSL", "sasl.mechanism": "GSSAPI"},
            "sasl.mechanism",
        ),
        ("kafka", {"bootstrap.servers": "a:1", "ssl.key.pem": "planted"}, "only sasl.mechanism"),
        ("kafka", {"bootstrap.servers": "a:1", "sasl.passwordplanted": ""}, "only sasl.mechanism"),
        (
            "kafka",
            {"bootstrap.servers": "a:1", "security.protocol": "SSL", "ssl.ca.location": "/nowhere"},
            "TLS files",
        ),
        ("redis", {"db": "planted"}, "db"),
        ("nats", {"ssl": "true", "ssl_certfile": "/nowhere"}, "TLS files"),
        ("amqp", {"ssl": True, "ssl_ca_certs": "/nowhere"}, "TLS files"),
        (
            "sqs",
            {"region_name": "eu-west-1", "role_arn": "r", "assume_role_method": "planted"},
            "assume_role_method",
        ),
        ("sqs", {}, "region"),
        ("sqs", {"region_name": "x.evil/"}, "region"),
        ("sqs", {"region_name": "eu-west-1", "endpoint_url": "http://other/"}, "endpoint"),
    ],
)
async def test_an_invalid_connection_is_an_error(kind: str, extra: dict[str, Any], part: str) -> None:
    params = {
        "kafka": {"conn_id": "c", "topic": "t"},
        "redis": {"conn_id": "c", "stream": "s"},
        "nats": {"conn_id": "c", "subject": "s"},
        "amqp": {"conn_id": "c", "routing_key": "q"},
        "sqs": {"aws_conn_id": "c", "queue_url": "http://localhost:1/q"},
    }[kind]
    connections = FakeConnections()
    opened = SINKS[kind](connections)
    target = opened.parse(params)  # before the connection is known
    connections.by_id["c"] = Connection(
        "c", kind, host="localhost", login="planted", password="planted", extra=extra
    )
    async with opened:
        error = failure(await opened.deliver(target, make_item()))
    assert part in error
    assert "planted" not in error
    assert "planted" not in error


def test_a_connection_without_ssl_has_no_tls_context() -> None:
    assert connection_tls_context(TlsContexts(), Connection("c")) is None


@pytest.mark.parametrize(
    ("extra", "verify_mode", "check_hostname"),
    [
        ({"ssl": "true"}, ssl.CERT_REQUIRED, True),
        ({"ssl": True, "verify": "false"}, ssl.CERT_NONE, False),
        ({"ssl": True, "ssl_cert_reqs": "none"}, ssl.CERT_NONE, False),
        ({"ssl": True, "ssl_check_hostname": "false"}, ssl.CERT_REQUIRED, False),
    ],
)
def test_the_extra_configures_tls(
    extra: dict[str, Any], verify_mode: ssl.VerifyMode, check_hostname: bool
) -> None:
    context = connection_tls_context(TlsContexts(), Connection("c", extra=extra))
    assert context is not None
    assert (context.verify_mode, context.check_hostname) == (verify_mode, check_hostname)
