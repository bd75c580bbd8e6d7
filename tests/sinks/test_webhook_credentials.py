"""Webhooks with each kind of credentials, and to hosts that the egress rules block."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from authorized import FakeResolver, authorized_connections
from certificates import Authority
from daemon import serving
from deliveries import failure
from stream_server import answering, stream_server
from token_endpoint import TokenEndpoint, token_endpoint
from webhook_setup import ITEM

from waitd.core.aws.signature import AwsKeys, AwsSigner
from waitd.core.connections.connection import Connection
from waitd.core.connections.egress import EgressPolicy
from waitd.core.errors import NotSupported
from waitd.core.waits.delivery import Delivered, DeliveryFailed
from waitd.outgoing import EgressGuard
from waitd.sinks.webhook import WebhookSink

NOW = 1_795_228_867.0


class TokenCheckingReceiver:
    """Accepts events with a valid token."""

    def __init__(self, tokens: TokenEndpoint) -> None:
        self.tokens = tokens
        self.requests: list[dict[str, str]] = []
        self.url = ""
        self.refusal = 401

    async def receive(self, request: web.Request) -> web.Response:
        self.requests.append(dict(request.headers))
        authorization = (
            request.headers.get("Authorization") or request.headers.get("Proxy-Authorization") or ""
        )
        accepted = authorization.removeprefix("Bearer ") in self.tokens.good
        return web.Response(status=204 if accepted else self.refusal)


@pytest.fixture
async def tokens() -> AsyncIterator[TokenEndpoint]:
    async with token_endpoint() as running:
        yield running


@pytest.fixture
async def receiver(tokens: TokenEndpoint) -> AsyncIterator[TokenCheckingReceiver]:
    receiver = TokenCheckingReceiver(tokens)
    async with serving("POST", "/{path:.*}", receiver.receive) as receiver.url:
        yield receiver


@asynccontextmanager
async def open_sink(
    *connections: Connection, egress: EgressGuard | None = None
) -> AsyncIterator[WebhookSink]:
    egress = egress or EgressGuard()
    async with (
        authorized_connections(FakeResolver(*connections), egress) as authorized,
        WebhookSink(authorized, secret=None, secret_headers=(), egress=egress, now=lambda: NOW) as opened,
    ):
        yield opened


@pytest.mark.parametrize("kind", ["oauth2", "oauth2_post", "airbyte", "google", "google_id"])
async def test_each_auth_type_delivers_and_a_401_replaces_the_token(
    tokens: TokenEndpoint, receiver: TokenCheckingReceiver, kind: str
) -> None:
    async with open_sink(*tokens.connections(receiver.url).values()) as sink:
        target = sink.parse({"conn_id": kind, "endpoint": "hook"})
        assert [await sink.deliver(target, ITEM) for _ in range(2)] == [Delivered(), Delivered()]
        assert tokens.issued == 1
        tokens.good.clear()
        assert await sink.deliver(target, ITEM) == Delivered()
    assert (tokens.issued, len(receiver.requests)) == (2, 4)


async def test_a_second_401_is_a_failure(receiver: TokenCheckingReceiver) -> None:
    async with open_sink(Connection("c", host=receiver.url, login="u", password="p")) as sink:
        receipt = await sink.deliver(sink.parse({"conn_id": "c", "endpoint": "hook"}), ITEM)
    assert receipt == DeliveryFailed("the receiver answered 401")
    assert len(receiver.requests) == 2


async def test_a_403_replaces_the_token(tokens: TokenEndpoint, receiver: TokenCheckingReceiver) -> None:
    receiver.refusal = 403
    async with open_sink(*tokens.connections(receiver.url).values()) as sink:
        target = sink.parse({"conn_id": "oauth2", "endpoint": "hook"})
        assert await sink.deliver(target, ITEM) == Delivered()
        tokens.good.clear()
        assert await sink.deliver(target, ITEM) == Delivered()
    assert (tokens.issued, len(receiver.requests)) == (2, 3)


async def test_a_403_is_not_repeated_with_the_same_credentials(receiver: TokenCheckingReceiver) -> None:
    receiver.refusal = 403
    async with open_sink(Connection("c", host=receiver.url, login="u", password="p")) as sink:
        receipt = await sink.deliver(sink.parse({"conn_id": "c", "endpoint": "hook"}), ITEM)
    assert receipt == DeliveryFailed("the receiver answered 403")
    assert len(receiver.requests) == 1


async def test_a_401_without_a_connection_is_not_repeated(receiver: TokenCheckingReceiver) -> None:
    async with open_sink() as sink:
        assert isinstance(await sink.deliver(sink.parse({"url": receiver.url}), ITEM), DeliveryFailed)
    assert len(receiver.requests) == 1


async def test_an_aws_signature_covers_the_sent_bytes(receiver: TokenCheckingReceiver) -> None:
    extra = {"auth_type": "aws_sigv4", "aws_service": "execute-api", "region_name": "eu-west-1"}
    connection = Connection("aws", host=receiver.url, login="AKIA", password="secret", extra=extra)
    async with open_sink(connection) as sink:
        await sink.deliver(sink.parse({"conn_id": "aws", "endpoint": "hook/a%20b"}), ITEM)
    headers = receiver.requests[0]
    signer = AwsSigner("execute-api", "eu-west-1", AwsKeys("AKIA", "secret"))
    sent = {"content-type": headers["Content-Type"]}
    expected = signer.headers("POST", f"{receiver.url}/hook/a%20b", sent, ITEM.event, now=NOW)
    assert headers["Authorization"] == expected["Authorization"]


async def test_a_receiver_blocked_by_name_is_refused_at_submission() -> None:
    async with open_sink() as sink:
        for host in ("169.254.169.254", "0xa9fea9fe", "[::ffff:a9fe:a9fe]"):
            with pytest.raises(NotSupported, match="metadata"):
                sink.parse({"url": f"http://{host}/hook"})


async def test_a_receiver_that_resolves_to_a_private_address_is_blocked(
    receiver: TokenCheckingReceiver,
) -> None:
    url = receiver.url.replace("127.0.0.1", "localhost")
    egress = EgressGuard(EgressPolicy(private=False))
    async with open_sink(Connection("c", host=url), egress=egress) as sink:
        by_connection = await sink.deliver(sink.parse({"conn_id": "c"}), ITEM)
        by_url = await sink.deliver(sink.parse({"url": url}), ITEM)
    assert by_connection == DeliveryFailed("the receiver answered 401")
    assert failure(by_url).startswith("the egress rules block the receiver: addresses of private networks")
    assert len(receiver.requests) == 2


async def test_a_connection_names_its_authority_and_its_client_certificate(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    authority.issue()
    handler = answering(b"HTTP/1.1 204 x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    async with stream_server(handler, tls=authority.demanding_context()) as port:
        url = f"https://127.0.0.1:{port}"
        known = Connection("known", host=url, extra=authority.extra)
        unknown = Connection("unknown", host=url, extra={"verify": str(authority.file)})
        async with open_sink(known, unknown) as sink:
            assert await sink.deliver(sink.parse({"conn_id": "known"}), ITEM) == Delivered()
            assert isinstance(await sink.deliver(sink.parse({"conn_id": "unknown"}), ITEM), DeliveryFailed)
