"""SQS only: FIFO queues, regions, and errors that moto does not produce."""

import asyncio
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from certificates import Authority
from daemon import serving
from deliveries import make_item
from fakes import FakeConnections
from manual_clock import ManualClock
from sink_setup import SinkSetup
from stream_server import ClosingServer, stream_server

from waitd.core.connections.aws import parse_aws_connection
from waitd.core.connections.connection import Connection
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected
from waitd.outgoing import EgressGuard, TlsContexts
from waitd.ports import OutboxItem
from waitd.probes.access.aws_credentials import REFRESH_INTERVAL, AwsCredentials
from waitd.sinks.brokers.sqs import SqsSink


async def test_the_body_is_the_event_as_airflows_trigger_expects_it(sqs: SinkSetup) -> None:
    item = make_item()
    assert await sqs.deliver(item) == Delivered()
    (received,) = await sqs.read(1)
    assert json.loads(received.body)["id"] == item.wait_id
    assert received.headers["content-type"] == "application/cloudevents+json"


async def test_a_fifo_queue_deduplicates_and_groups_by_wait(sqs: SinkSetup) -> None:
    sqs.name += ".fifo"
    await sqs.broker.create_destination(sqs.name)
    item = make_item()
    assert [await sqs.deliver(item) for _ in range(2)] == [Delivered()] * 2
    other = make_item()
    assert await sqs.deliver(other, message_group_id="everything") == Delivered()
    first, second = await sqs.read(2)
    assert first.body == item.event
    assert first.headers["MessageGroupId"] == item.wait_id
    assert first.headers["MessageDeduplicationId"] == item.id
    assert second.headers["MessageGroupId"] == "everything"


async def test_a_missing_queue_is_a_failure(sqs: SinkSetup) -> None:
    sqs.name = "nowhere"
    assert await sqs.deliver(make_item()) == DeliveryFailed("the queue does not exist")


async def test_wrong_credentials_are_a_failure_that_does_not_quote_them(sqs: SinkSetup) -> None:
    sqs.broker.check_credentials(True)
    try:
        receipt = await sqs.deliver(make_item())
    finally:
        sqs.broker.check_credentials(False)
    assert receipt == DeliveryFailed("SQS does not accept the connection's credentials")
    assert await sqs.deliver(make_item()) == Delivered()


@pytest.mark.parametrize(
    ("status", "code", "message", "expected"),
    [
        (
            400,
            "InvalidMessageContents",
            "",
            DeliveryRejected("the event has characters that SQS does not accept"),
        ),
        (
            400,
            "InvalidParameterValue",
            "Message must be shorter than 5 bytes.",
            DeliveryRejected("the event is larger than SQS accepts"),
        ),
        (400, "InvalidParameterValue", "planted", DeliveryFailed("SQS refused it: InvalidParameterValue")),
        (400, "ThrottlingException", "planted", DeliveryFailed("SQS is throttling requests")),
        (
            403,
            "AccessDeniedException",
            "planted",
            DeliveryFailed("these credentials may not send to the queue (sqs:SendMessage)"),
        ),
        (
            403,
            "SignatureDoesNotMatch",
            "planted",
            DeliveryFailed("SQS does not accept the connection's credentials"),
        ),
        (500, "planted <code>", "planted", DeliveryFailed("SQS refused it: no error code")),
        (503, "ServiceUnavailable", "planted", DeliveryFailed("SQS refused it: ServiceUnavailable", 2.5)),
        (400, "AKIA", "", DeliveryFailed("SQS refused it: ***")),
        (400, "planted", "", DeliveryFailed("SQS refused it: ***")),
    ],
)
async def test_errors_that_moto_does_not_produce(
    status: int, code: str, message: str, expected: object
) -> None:
    async def answer(_: web.Request) -> web.Response:
        return web.json_response(
            {"__type": f"com.amazonaws.sqs#{code}", "message": message},
            status=status,
            headers={"Retry-After": "2.5"} if status == 503 else {},
        )

    async with serving("POST", "/{path:.*}", answer) as url:
        extra = {
            "region_name": "eu-west-1",
            "service_config": {"sqs": {"endpoint_url": url}},
            "aws_session_token": "planted",
        }
        connection = Connection("c", "aws", login="AKIA", password="planted", extra=extra)
        async with SqsSink(FakeConnections(connection)) as sink:
            target = sink.parse({"aws_conn_id": "c", "queue_url": f"{url}/1/q"})
            assert await sink.deliver(target, make_item()) == expected


async def test_a_private_authority_and_a_client_certificate_are_used(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    body = b'{"__type": "ThrottlingException"}'

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(
            b"HTTP/1.1 400 x\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%b" % (len(body), body)
        )
        await reader.read()  # closes when the client has the answer

    async with stream_server(serve, tls=authority.demanding_context()) as port:
        extra = {
            "region_name": "eu-west-1",
            "endpoint_url": f"https://127.0.0.1:{port}",
            "verify": str(authority.file),
            "config_kwargs": {"client_cert": [str(authority.certificate), str(authority.key)]},
        }
        connection = Connection("c", "aws", login="AKIA", password="s", extra=extra)
        async with SqsSink(FakeConnections(connection)) as sink:
            target = sink.parse({"aws_conn_id": "c", "queue_url": f"https://127.0.0.1:{port}/1/q"})
            assert await sink.deliver(target, make_item()) == DeliveryFailed("SQS is throttling requests")


async def test_the_store_of_the_settings_is_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    monkeypatch.setenv("SSL_CERT_FILE", str(authority.file))
    refusal = b'HTTP/1.1 400 x\r\nContent-Length: 33\r\n\r\n{"__type": "ThrottlingException"}'
    async with stream_server(ClosingServer(refusal).serve, tls=authority.server_context()) as port:
        url = f"https://127.0.0.1:{port}"
        assert await send_to(url, EgressGuard(tls=TlsContexts("system"))) == [
            DeliveryFailed("SQS is throttling requests")
        ]
        assert await send_to(url, EgressGuard(tls=TlsContexts("certifi"))) == [
            DeliveryFailed("the TLS certificate of SQS is not trusted")
        ]


async def test_a_message_that_meets_a_connection_closed_while_idle_is_sent_again() -> None:
    item = make_item()
    digest = hashlib.md5(item.event, usedforsecurity=False).hexdigest()
    body = json.dumps({"MessageId": "1", "MD5OfMessageBody": digest}).encode()
    server = ClosingServer(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body))
    async with stream_server(server.serve) as port:
        assert await send_to(f"http://127.0.0.1:{port}", EgressGuard(), *[item] * 3) == [Delivered()] * 3
    assert server.requests == 3


async def send_to(url: str, egress: EgressGuard, *items: OutboxItem) -> list[object]:
    """What a new sink says of these deliveries to an endpoint."""
    extra = {"region_name": "eu-west-1", "endpoint_url": url}
    connection = Connection("c", "aws", login="AKIA", password="s", extra=extra)
    async with SqsSink(FakeConnections(connection), egress) as sink:
        target = sink.parse({"aws_conn_id": "c", "queue_url": f"{url}/1/q"})
        return [await sink.deliver(target, item) for item in items or [make_item()]]


async def test_credentials_are_sent_only_to_the_connections_endpoint(sqs: SinkSetup) -> None:
    connection = sqs.connections.by_id.pop("broker")  # unknown when the wait is submitted
    target = sqs.sink.parse(
        {"aws_conn_id": "broker", "queue_url": f"http://localhost:{sqs.proxy.port}/1/{sqs.name}"}
    )
    sqs.connection = connection
    assert await sqs.sink.deliver(target, make_item()) == DeliveryFailed(
        "the queue is not at the connection's endpoint"
    )
    assert sqs.proxy.accepted == 0


@pytest.mark.parametrize("refused", [(), ("ExpiredToken",), ("ExpiredToken", "ExpiredToken")])
async def test_a_role_is_assumed_and_once_more_where_its_keys_are_refused(refused: tuple[str, ...]) -> None:
    item = make_item()
    digest = hashlib.md5(item.event, usedforsecurity=False).hexdigest()
    codes, assumed, signed = [*refused], [], []

    async def serve(request: web.Request) -> web.Response:
        if "X-Amz-Target" not in request.headers:
            assumed.append((await request.post())["RoleArn"])
            return web.Response(body=assumed_keys(f"ASIA{len(assumed)}"), content_type="text/xml")
        signed.append(
            (request.headers["Authorization"].split("/")[0], request.headers["X-Amz-Security-Token"])
        )
        if codes:
            return web.json_response({"__type": codes.pop()}, status=400)
        return web.json_response({"MessageId": "1", "MD5OfMessageBody": digest})

    clock = ManualClock()
    async with serving("POST", "/{path:.*}", serve) as url:
        services = {"sqs": {"endpoint_url": url}, "sts": {"endpoint_url": url}}
        extra = {"region_name": "eu-west-1", "service_config": services, "role_arn": "arn:aws:iam::1:role/r"}
        connections = FakeConnections(Connection("c", "aws", login="AKIA", password="s", extra=extra))
        connections.aws_keys = AwsCredentials(now=clock)
        async with SqsSink(connections) as sink:
            target = sink.parse({"aws_conn_id": "c", "queue_url": f"{url}/1/q"})
            clock.at += await first_look_up(connections)
            receipt = await sink.deliver(target, item)
    times = len(refused) + 1 if len(refused) < 2 else 2
    assert receipt == (
        Delivered()
        if len(refused) < 2
        else DeliveryFailed("SQS does not accept the connection's credentials")
    )
    assert assumed == ["arn:aws:iam::1:role/r"] * times
    assert signed == [(f"AWS4-HMAC-SHA256 Credential=ASIA{n}", "t") for n in range(1, times + 1)]


def assumed_keys(key: str) -> bytes:
    """The answer of STS's AssumeRole."""
    fields = {
        "AccessKeyId": key,
        "SecretAccessKey": "s",
        "SessionToken": "t",
        "Expiration": "2100-01-01T00:00:00Z",
    }
    keys = "".join(f"<{name}>{value}</{name}>" for name, value in fields.items())
    return f"<R><AssumeRoleResult><Credentials>{keys}</Credentials></AssumeRoleResult></R>".encode()


async def first_look_up(connections: FakeConnections) -> float:
    """Looks the keys up; the seconds after which they may be looked up from scratch."""
    source = parse_aws_connection(connections.by_id["c"], "sqs").keys
    assert source is not None
    await connections.aws_keys.get(source)
    return REFRESH_INTERVAL


async def test_an_md5_mismatch_is_a_failure(sqs: SinkSetup) -> None:
    def other_digest(data: bytes) -> bytes:
        head, field, tail = data.partition(b'MD5OfMessageBody": "')
        return head + field + b"0" * 32 + tail[32:] if field else data

    sqs.proxy.rewrite = other_digest
    assert await sqs.deliver(make_item()) == DeliveryFailed(
        "SQS stored another body than the event: the MD5 differs"
    )


async def test_each_region_has_its_own_client(sqs: SinkSetup, monkeypatch: pytest.MonkeyPatch) -> None:
    from aiobotocore.session import AioSession

    regions: list[str] = []

    def create_client(session: AioSession, *args: Any, **options: Any) -> Any:
        regions.append(options["region_name"])
        return original(session, *args, **options)

    original = AioSession.create_client
    monkeypatch.setattr(AioSession, "create_client", create_client)
    for _ in range(2):
        assert await sqs.deliver(make_item()) == Delivered()
        other_region = await sqs.deliver(make_item(), region_name="eu-central-1")
        assert isinstance(other_region, DeliveryFailed)  # the queue does not exist there
    assert regions.count("eu-west-1") == regions.count("eu-central-1") == 1
