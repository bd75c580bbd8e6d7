"""The adapters of what is reached over HTTP: SQS and the webhook receiver."""

import asyncio
import base64
import json
import urllib.request
from dataclasses import replace
from typing import Any

import boto3
import webhook_server
from broker_adapter import Broker, ReceivedMessage
from broker_servers import LOGIN, PASSWORD, WebhookServer
from fakes import FakeConnections

from waitd.core.connections.connection import Connection
from waitd.outgoing import EgressGuard
from waitd.sinks.brokers.sqs import SqsSink
from waitd.sinks.webhook import WebhookSink

#: The largest message of the test queues, in bytes.
SQS_MAX = 128 * 1024
#: The webhook receiver's secrets during a rotation.
NEW_SECRET, OLD_SECRET = ("whsec_" + base64.b64encode(letter * 32).decode() for letter in (b"n", b"o"))


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
            response = client.receive_message(
                QueueUrl=url,
                MaxNumberOfMessages=10,
                WaitTimeSeconds=0,
                AttributeNames=["All"],
                MessageAttributeNames=["All"],
            )
            messages = response.get("Messages", [])
            if messages:
                handles = [
                    {"Id": str(n), "ReceiptHandle": m["ReceiptHandle"]} for n, m in enumerate(messages)
                ]
                client.delete_message_batch(QueueUrl=url, Entries=handles)
            for message in messages:
                headers = {k: v["StringValue"] for k, v in message["MessageAttributes"].items()}
                headers |= {"event_id": headers["event-id"]} | message["Attributes"]
                received.append(ReceivedMessage(message["Body"].encode(), headers))
            if not messages and len(received) >= count:
                client.close()
                return received

    def check_credentials(self, enabled: bool) -> None:
        """Makes moto check the credentials of each request, or stop doing so."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.server.port}/moto-api/reset-auth",
            data=b"0" if enabled else b"inf",
            headers={"content-type": "text/plain"},
        )
        urllib.request.urlopen(request).close()


class Webhook(Broker):
    """A webhook receiver; not a broker, but it can be killed like one."""

    kind, max_bytes = "webhook", webhook_server.MAX_BYTES

    def open_sink(self, connections: FakeConnections, egress: EgressGuard | None = None) -> Any:
        return WebhookSink(connections, secret=None, secret_headers=(), egress=egress)

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
                line["body"].encode(), line["headers"] | {"delivery_id": line["headers"]["waitd-delivery-id"]}
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
