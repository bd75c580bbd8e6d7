"""One adapter per broker: its connection and parameters, and a consumer that reads back."""

import asyncio
import base64
import json
import urllib.request
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar
from uuid import uuid4

import boto3
from broker_certificates import server_context
from broker_proxy import Proxy
from broker_servers import (
    LOGIN,
    NATS_MAX,
    PASSWORD,
    RABBIT_MAX,
    REDIS_MAX,
    MotoServer,
    NatsServer,
    RabbitServer,
    RedisServer,
    Server,
    WebhookServer,
)
from fakes import FakeConnections
from kafka_cluster import KafkaCluster
from webhook_server import MAX_BYTES as WEBHOOK_MAX

from waitd.core.connections.connection import Connection
from waitd.core.waits.delivery import DeliveryId
from waitd.core.waits.wait import WaitId
from waitd.outgoing import Outgoing
from waitd.ports import OutboxItem
from waitd.sinks.brokers.amqp import AmqpSink
from waitd.sinks.brokers.broker import BrokerSink
from waitd.sinks.brokers.kafka import KafkaSink
from waitd.sinks.brokers.nats import NatsSink
from waitd.sinks.brokers.redis import RedisSink
from waitd.sinks.brokers.sqs import SqsSink
from waitd.sinks.webhook import WebhookSink

#: The largest message of the test queues, in bytes.
SQS_MAX = 128 * 1024
CONTENT_TYPE = "application/cloudevents+json"
AnySink = BrokerSink[Any, Any]
#: The webhook receiver's secrets during a rotation.
NEW_SECRET, OLD_SECRET = ("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"n", b"o"))


@dataclass(frozen=True)
class ReceivedMessage:
    """A message as a consumer received it."""

    body: bytes
    #: Headers, attributes or fields, by lower-case name.
    headers: Mapping[str, str]


def make_item(number: int = 0, *, size: int = 0, event: bytes | None = None) -> OutboxItem:
    """A delivery with a unique event of about `size` bytes."""
    wait_id = f"wait-{number}-{uuid4()}"
    if event is None:
        data = {"wait_id": wait_id, "payload": "grüße " + "x" * size}
        content = {"specversion": "1.0", "id": wait_id, "source": "/waitd", "type": "waitd.wait.success"}
        content |= {
            "subject": wait_id,
            "time": "2026-01-01T00:00:00.000Z",
            "datacontenttype": "application/json",
        }
        event = json.dumps({**content, "data": data}, ensure_ascii=False).encode()
    return OutboxItem(DeliveryId(str(uuid4())), WaitId(wait_id), "default", {}, event, 1, 0.0)


class Broker(ABC):
    """One kind of broker."""

    kind: ClassVar[str]
    sink: ClassVar[type[AnySink]]
    #: The largest message that the broker accepts, in bytes.
    max_bytes: ClassVar[int]
    #: Whether it drops a second message with the same delivery id.
    deduplicates: ClassVar[bool] = False
    #: Whether what it has received outlives a kill.
    durable: ClassVar[bool] = True

    def __init__(self, server: Any) -> None:
        self.server: Server | KafkaCluster = server

    def proxy(self) -> Proxy:
        return Proxy(self.server.port)

    def open_sink(self, connections: FakeConnections, outgoing: Outgoing | None = None) -> Any:
        """A sink that is not entered yet."""
        return self.sink(connections, outgoing)

    @abstractmethod
    def connection(self, port: int) -> Connection: ...

    def with_wrong_credentials(self, connection: Connection) -> Connection:
        return replace(connection, password="planted-wrong")

    def with_tls(self, connection: Connection, *, ca: str | None = None, verify: bool = True) -> Connection:
        """The same connection over TLS; `ca` is the file of the trusted authority."""
        extra = {"ssl": True, "verify": verify} | ({"ssl_ca_certs": ca} if ca else {})
        return replace(connection, extra={**connection.extra, **extra})

    def enable_tls(self, proxy: Proxy) -> None:
        """Serves TLS at the proxy's port; the proxy terminates it where the server cannot."""
        proxy.tls = server_context()

    def with_other_name(self, connection: Connection) -> Connection:
        """The same broker under a host name that its certificate does not contain."""
        return replace(connection, host="localhost")

    @abstractmethod
    def params(self, name: str, port: int) -> dict[str, Any]: ...

    async def create_destination(self, name: str) -> None:  # noqa: B027 - some brokers create it on the first message
        """Creates the queue, stream or topic called `name`."""

    @abstractmethod
    async def read(self, name: str, count: int) -> list[ReceivedMessage]:
        """All messages, at least `count`, oldest first."""


class Redis(Broker):
    kind, sink, max_bytes = "redis", RedisSink, REDIS_MAX

    def connection(self, port: int) -> Connection:
        return Connection("broker", "redis", "127.0.0.1", port, password=PASSWORD, extra={"db": "1"})

    def params(self, name: str, port: int) -> dict[str, Any]:
        return {"conn_id": "broker", "stream": name}

    async def read(self, name: str, count: int) -> list[ReceivedMessage]:
        from redis import Redis as Client

        with Client(host="127.0.0.1", port=self.server.port, db=1, password=PASSWORD) as client:
            entries: Any = client.xrange(name)
        return [
            ReceivedMessage(f[b"event"], {k.decode(): v.decode() for k, v in f.items() if k != b"event"})
            for _, f in entries
        ]


class Nats(Broker):
    kind, sink, max_bytes, deduplicates = "nats", NatsSink, NATS_MAX, True

    def connection(self, port: int) -> Connection:
        return Connection("broker", "nats", "127.0.0.1", port, login=LOGIN, password=PASSWORD)

    def enable_tls(self, proxy: Proxy) -> None:
        """The server serves TLS at the same port."""

    def params(self, name: str, port: int) -> dict[str, Any]:
        return {"conn_id": "broker", "subject": f"{name}.outcomes"}

    async def client(self) -> Any:
        import nats

        return await nats.connect(f"nats://{LOGIN}:{PASSWORD}@127.0.0.1:{self.server.port}")

    async def create_destination(self, name: str, **options: Any) -> None:
        client = await self.client()
        await client.jetstream().add_stream(name=name, subjects=[f"{name}.>"], **options)
        await client.close()

    async def read(self, name: str, count: int) -> list[ReceivedMessage]:
        client = await self.client()
        consumer = await client.jetstream().pull_subscribe(f"{name}.>", stream=name)
        total = (await client.jetstream().stream_info(name)).state.messages
        received: list[ReceivedMessage] = []
        while len(received) < max(total, count):
            for message in await consumer.fetch(100, timeout=5):
                headers = {key.lower(): value for key, value in (message.headers or {}).items()}
                received.append(
                    ReceivedMessage(message.data, headers | {"delivery_id": headers["nats-msg-id"]})
                )
        await client.close()
        return received


class Sqs(Broker):
    kind, sink, max_bytes, durable = "sqs", SqsSink, SQS_MAX, False

    def connection(self, port: int) -> Connection:
        extra = {"region_name": "eu-west-1", "endpoint_url": f"http://127.0.0.1:{port}"}
        return Connection("broker", "aws", login="AKIAIOSFODNN7EXAMPLE", password=PASSWORD, extra=extra)

    def with_tls(self, connection: Connection, *, ca: str | None = None, verify: bool = True) -> Connection:
        endpoint = str(connection.extra["endpoint_url"]).replace("http://", "https://")
        trusted = {"verify": ca if ca and verify else verify}
        return replace(connection, extra={**connection.extra, "endpoint_url": endpoint, **trusted})

    def with_other_name(self, connection: Connection) -> Connection:
        endpoint = str(connection.extra["endpoint_url"]).replace("127.0.0.1", "localhost")
        return replace(connection, extra={**connection.extra, "endpoint_url": endpoint})

    def params(self, name: str, port: int) -> dict[str, Any]:
        return {"aws_conn_id": "broker", "queue_url": f"http://127.0.0.1:{port}/123456789012/{name}"}

    def client(self) -> Any:
        return boto3.client(
            "sqs",
            region_name="eu-west-1",
            endpoint_url=f"http://127.0.0.1:{self.server.port}",
            aws_access_key_id="test",
            aws_secret_access_key="test",
        )

    async def create_destination(self, name: str) -> None:
        client = self.client()
        fifo = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
        client.create_queue(QueueName=name, Attributes={"MaximumMessageSize": str(SQS_MAX), **fifo})
        client.close()

    async def read(self, name: str, count: int) -> list[ReceivedMessage]:
        return await asyncio.to_thread(self._read, name, count)

    def _read(self, name: str, count: int) -> list[ReceivedMessage]:
        client = self.client()
        url = client.get_queue_url(QueueName=name)["QueueUrl"]
        received: list[ReceivedMessage] = []
        while True:
            answer = client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=0,
                AttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            messages = answer.get("Messages", [])
            if messages:
                handles = [
                    {"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)
                ]
                client.delete_message_batch(QueueUrl=url, Entries=handles)
            for message in messages:
                headers = {k: v["StringValue"] for k, v in message["MessageAttributes"].items()} | message[
                    "Attributes"
                ]
                received.append(ReceivedMessage(message["Body"].encode(), headers))
            if not messages and len(received) >= count:
                client.close()
                return received

    def check_credentials(self, enabled: bool) -> None:
        """Whether moto checks credentials from now on."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server.port}/moto-api/reset-auth",
            data=b"0" if enabled else b"inf",
            headers={"content-type": "text/plain"},
        )
        urllib.request.urlopen(request).close()


class Kafka(Broker):
    server: KafkaCluster
    kind, sink, max_bytes = "kafka", KafkaSink, 1024 * 1024

    def proxy(self) -> Proxy:
        proxy = Proxy(self.server.port)

        def rewrite(data: bytes) -> bytes:
            """Replaces the broker's port in its metadata by the proxy's."""
            host = b"\x00\x09127.0.0.1"
            broker_address, proxy_address = (
                host + port.to_bytes(4, "big") for port in (self.server.port, proxy.port)
            )
            return data.replace(broker_address, proxy_address)

        proxy.rewrite = rewrite
        return proxy

    def connection(self, port: int) -> Connection:
        return Connection(
            "broker", "kafka", extra={"bootstrap.servers": f"127.0.0.1:{port}", "group.id": "other"}
        )

    def with_tls(self, connection: Connection, *, ca: str | None = None, verify: bool = True) -> Connection:
        extra = {"security.protocol": "SSL", "enable.ssl.certificate.verification": verify}
        extra |= {"ssl.ca.location": ca} if ca else {}
        return replace(connection, extra={**connection.extra, **extra})

    def with_other_name(self, connection: Connection) -> Connection:
        servers = str(connection.extra["bootstrap.servers"]).replace("127.0.0.1", "localhost")
        return replace(connection, extra={**connection.extra, "bootstrap.servers": servers})

    def with_wrong_credentials(self, connection: Connection) -> Connection:
        return self.with_login(connection, "planted-wrong")

    def with_login(self, connection: Connection, password: str = PASSWORD) -> Connection:
        """With a login, for a cluster behind `kafka_sasl`."""
        login = {"security.protocol": "SASL_PLAINTEXT", "sasl.mechanism": "PLAIN"}
        login |= {"sasl.username": LOGIN, "sasl.password": password}
        return replace(connection, extra={**connection.extra, **login})

    def params(self, name: str, port: int) -> dict[str, Any]:
        return {"conn_id": "broker", "topic": name}

    async def read(self, name: str, count: int) -> list[ReceivedMessage]:
        return await asyncio.to_thread(self._read, name, count)

    def _read(self, name: str, count: int) -> list[ReceivedMessage]:
        from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition

        consumer = Consumer({"bootstrap.servers": f"127.0.0.1:{self.server.port}", "group.id": name})
        try:
            partitions = consumer.list_topics(name, timeout=10).topics[name].partitions
            consumer.assign([TopicPartition(name, partition, OFFSET_BEGINNING) for partition in partitions])
            ends = [
                consumer.get_watermark_offsets(TopicPartition(name, partition), timeout=10)
                for partition in partitions
            ]
            total = sum(high - low for low, high in ends)
            assert total >= count
            received: list[ReceivedMessage] = []
            while len(received) < total:
                message: Any = consumer.poll(10)
                assert message is not None
                assert message.error() is None
                headers = {key: value.decode() for key, value in message.headers()}
                key = {"key": message.key().decode(), "delivery_id": headers["delivery-id"]}
                received.append(ReceivedMessage(message.value(), headers | key))
            return received
        finally:
            consumer.close()


class Amqp(Broker):
    kind, sink, max_bytes = "amqp", AmqpSink, RABBIT_MAX

    def enable_tls(self, proxy: Proxy) -> None:
        assert isinstance(self.server, RabbitServer)
        proxy.target = self.server.tls_port

    def connection(self, port: int) -> Connection:
        return Connection("broker", "amqp", "127.0.0.1", port, login=LOGIN, password=PASSWORD)

    def params(self, name: str, port: int) -> dict[str, Any]:
        return {"conn_id": "broker", "exchange": f"{name}-exchange", "routing_key": "outcomes"}

    async def client(self) -> Any:
        import aio_pika

        return await aio_pika.connect(host="127.0.0.1", port=self.server.port, login=LOGIN, password=PASSWORD)

    async def create_destination(self, name: str, **arguments: Any) -> None:
        async with await self.client() as client:
            channel = await client.channel()
            exchange = await channel.declare_exchange(f"{name}-exchange", "topic", durable=True)
            queue = await channel.declare_queue(name, durable=True, arguments=arguments)
            await queue.bind(exchange, "outcomes")

    async def read(self, name: str, count: int) -> list[ReceivedMessage]:
        received: list[ReceivedMessage] = []
        async with await self.client() as client:
            channel = await client.channel()
            queue = await channel.declare_queue(name, passive=True)
            while len(received) < count or queue.declaration_result.message_count:
                message = await queue.get(fail=False, no_ack=True)
                if message is None:
                    assert len(received) >= count, f"{len(received)} of {count} are there"
                    break
                about = {"content-type": message.content_type, "delivery_id": message.message_id}
                received.append(
                    ReceivedMessage(message.body, about | {"delivery-mode": str(message.delivery_mode.value)})
                )
        return received


class Webhook(Broker):
    """A webhook receiver; not a broker, but it can be killed like one."""

    kind, max_bytes = "webhook", WEBHOOK_MAX

    def open_sink(self, connections: FakeConnections, outgoing: Outgoing | None = None) -> Any:
        return WebhookSink(connections, secret=None, secret_headers=(), outgoing=outgoing)

    def connection(self, port: int) -> Connection:
        extra = {"webhook_secret": f"{NEW_SECRET} {OLD_SECRET}"}
        return Connection("broker", "http", "127.0.0.1", port, login=LOGIN, password=PASSWORD, extra=extra)

    def params(self, name: str, port: int) -> dict[str, Any]:
        return {"conn_id": "broker", "endpoint": f"/{name}"}

    async def read(self, name: str, count: int) -> list[ReceivedMessage]:
        assert isinstance(self.server, WebhookServer)
        lines = [json.loads(line) for line in self.server.received.read_text().splitlines()]
        return [
            ReceivedMessage(
                line["body"].encode(), line["headers"] | {"delivery_id": line["headers"]["webhook-id"]}
            )
            for line in lines
            if line["path"] == f"/{name}"
        ]

    def set_response(self, **response: Any) -> None:
        """Sets the response (`status`, `headers`); without arguments it accepts events again."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server.port}/response", data=json.dumps(response).encode()
        )
        urllib.request.urlopen(request).close()


#: The adapter and the server of each broker.
BROKERS: dict[str, tuple[type[Any], type[Any]]] = {
    "redis": (Redis, RedisServer),
    "nats": (Nats, NatsServer),
    "sqs": (Sqs, MotoServer),
    "kafka": (Kafka, KafkaCluster),
    "amqp": (Amqp, RabbitServer),
}
#: The brokers and the webhook receiver.
ALL_SINKS = BROKERS | {"webhook": (Webhook, WebhookServer)}
