"""The adapters of Redis, NATS, Kafka and RabbitMQ, and the table of all adapters."""

import asyncio
from dataclasses import replace
from typing import Any

from broker_adapter import Broker, ReceivedMessage
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
    WebhookServer,
)
from http_brokers import Sqs, Webhook
from kafka_cluster import KafkaCluster

from waitd.core.connections.connection import Connection
from waitd.sinks.brokers.amqp import AmqpSink
from waitd.sinks.brokers.kafka import KafkaSink
from waitd.sinks.brokers.nats import NatsSink
from waitd.sinks.brokers.redis import RedisSink


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
                ids = {"event_id": headers["event-id"], "delivery_id": headers["nats-msg-id"]}
                received.append(ReceivedMessage(message.data, headers | ids))
        await client.close()
        return received


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
                ids = {"event_id": headers["event-id"], "delivery_id": headers["delivery-id"]}
                key = {"key": message.key().decode()}
                received.append(ReceivedMessage(message.value(), headers | ids | key))
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
                    assert len(received) >= count, f"the queue has {len(received)} of {count} messages"
                    break
                headers = {
                    "content-type": message.content_type,
                    "event_id": message.message_id,
                    "delivery_id": str(message.headers["delivery-id"]),
                }
                received.append(
                    ReceivedMessage(
                        message.body, headers | {"delivery-mode": str(message.delivery_mode.value)}
                    )
                )
        return received


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
