"""Webhooks with each kind of credentials, and to hosts that the egress rules block."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from daemon import serving
from token_endpoint import TokenEndpoint, token_endpoint

from waitd.connections.authorizer import AuthorizedConnections, Authorizer
from waitd.connections.token_endpoint import TokenEndpointClient
from waitd.core.aws.signature import AwsKeys, AwsSigner
from waitd.core.connections.aws import AwsKeySource
from waitd.core.connections.connection import Connection
from waitd.core.connections.egress import EgressPolicy
from waitd.core.errors import NotSupported, UnknownConnection
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryId
from waitd.core.waits.wait import WaitId
from waitd.metrics import Instruments
from waitd.outgoing import Outgoing
from waitd.ports import OutboxItem
from waitd.sinks.webhook import WebhookSink

ITEM = OutboxItem(DeliveryId("d1"), WaitId("w1"), "default", {"kind": "webhook"}, b'{"id": "w1"}', 1, 0.0)
NOW = 1_795_228_867.0


class DictResolver:
    """A resolver over a dictionary."""

    backend = "dict"

    def __init__(self, connections: dict[str, Connection]) -> None:
        self.connections = connections

    async def lookup(self, conn_id: str) -> Connection:
        if conn_id not in self.connections:
            raise UnknownConnection(conn_id)
        return self.connections[conn_id]


class NoAwsKeys:
    async def get(self, source: AwsKeySource) -> AwsKeys:
        raise ValueError("no AWS keys")

    refresh = get


class Receiver:
    """Accepts events with a valid token."""

    def __init__(self, tokens: TokenEndpoint) -> None:
        self.tokens = tokens
        self.requests: list[dict[str, str]] = []
        self.url = ""

    async def receive(self, request: web.Request) -> web.Response:
        self.requests.append(dict(request.headers))
        authorization = (
            request.headers.get("Authorization") or request.headers.get("Proxy-Authorization") or ""
        )
        return web.Response(status=204 if authorization.removeprefix("Bearer ") in self.tokens.good else 401)


@pytest.fixture
async def tokens() -> AsyncIterator[TokenEndpoint]:
    async with token_endpoint() as running:
        yield running


@pytest.fixture
async def receiver(tokens: TokenEndpoint) -> AsyncIterator[Receiver]:
    receiver = Receiver(tokens)
    async with serving("POST", "/{path:.*}", receiver.receive) as receiver.url:
        yield receiver


@asynccontextmanager
async def sink(
    connections: dict[str, Connection], outgoing: Outgoing | None = None
) -> AsyncIterator[WebhookSink]:
    instruments, out = Instruments(version="test"), outgoing or Outgoing()
    async with TokenEndpointClient(out, instruments=instruments) as client:
        authorizer = Authorizer(client, NoAwsKeys(), now=lambda: 0.0)
        authorized = AuthorizedConnections(
            [DictResolver(connections)], authorizer, ttl=60.0, now=lambda: 0.0, instruments=instruments
        )
        async with WebhookSink(
            authorized, secret=None, secret_headers=(), outgoing=out, now=lambda: NOW
        ) as opened:
            yield opened
        await authorizer.aclose()


@pytest.mark.parametrize("kind", ["oauth2", "oauth2_post", "airbyte", "google", "google_id"])
async def test_each_auth_type_delivers_and_a_401_replaces_the_token(
    tokens: TokenEndpoint, receiver: Receiver, kind: str
) -> None:
    async with sink(tokens.connections(receiver.url)) as webhook:
        target = webhook.parse({"conn_id": kind, "endpoint": "hook"})
        assert [await webhook.deliver(target, ITEM) for _ in range(2)] == [Delivered(), Delivered()]
        assert tokens.issued == 1
        tokens.good.clear()
        assert await webhook.deliver(target, ITEM) == Delivered()
    assert (tokens.issued, len(receiver.requests)) == (2, 4)


async def test_a_second_401_is_a_failure(receiver: Receiver) -> None:
    connections = {"c": Connection("c", host=receiver.url, login="u", password="p")}
    async with sink(connections) as webhook:
        receipt = await webhook.deliver(webhook.parse({"conn_id": "c", "endpoint": "hook"}), ITEM)
    assert receipt == DeliveryFailed("the receiver answered 401")
    assert len(receiver.requests) == 2


async def test_a_401_without_a_connection_is_not_repeated(receiver: Receiver) -> None:
    async with sink({}) as webhook:
        assert isinstance(await webhook.deliver(webhook.parse({"url": receiver.url}), ITEM), DeliveryFailed)
    assert len(receiver.requests) == 1


async def test_an_aws_signature_covers_the_sent_bytes(receiver: Receiver) -> None:
    extra = {"auth_type": "aws_sigv4", "aws_service": "execute-api", "region_name": "eu-west-1"}
    connections = {"aws": Connection("aws", host=receiver.url, login="AKIA", password="secret", extra=extra)}
    async with sink(connections) as webhook:
        await webhook.deliver(webhook.parse({"conn_id": "aws", "endpoint": "hook/a%20b"}), ITEM)
    headers = receiver.requests[0]
    signer = AwsSigner("execute-api", "eu-west-1", AwsKeys("AKIA", "secret"))
    sent = {"content-type": headers["Content-Type"]}
    expected = signer.headers("POST", f"{receiver.url}/hook/a%20b", sent, ITEM.event, now=NOW)
    assert headers["Authorization"] == expected["Authorization"]


async def test_a_receiver_blocked_by_name_is_refused_at_submission() -> None:
    async with sink({}) as webhook:
        for host in ("169.254.169.254", "0xa9fea9fe", "[::ffff:a9fe:a9fe]"):
            with pytest.raises(NotSupported, match="metadata"):
                webhook.parse({"url": f"http://{host}/hook"})


async def test_a_receiver_that_resolves_to_a_private_address_is_blocked(receiver: Receiver) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost")
    connections = {"c": Connection("c", host=url)}
    async with sink(connections, Outgoing(EgressPolicy(private=False))) as webhook:
        by_connection = await webhook.deliver(webhook.parse({"conn_id": "c"}), ITEM)
        by_url = await webhook.deliver(webhook.parse({"url": url}), ITEM)
    assert by_connection == DeliveryFailed("the receiver answered 401")
    assert isinstance(by_url, DeliveryFailed)
    assert by_url.error.startswith("the egress rules block the receiver: addresses of private networks")
    assert len(receiver.requests) == 2
