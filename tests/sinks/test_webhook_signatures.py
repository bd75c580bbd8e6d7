"""The signatures of webhooks, checked with the verifier of standardwebhooks."""

import pytest
from deliveries import failure
from fakes import FakeConnections
from http_brokers import NEW_SECRET, OLD_SECRET
from standardwebhooks import Webhook, WebhookVerificationError
from webhook_receiver import Receiver
from webhook_setup import post, webhook_sink

from waitd.core.connections.connection import Connection
from waitd.sinks.webhook import WebhookSink


def verify(secret: str | bytes, receiver: Receiver) -> None:
    request = receiver.requests[-1]
    Webhook(secret).verify(request.body, request.headers)


@pytest.mark.parametrize(
    ("secret", "verifier"), [(OLD_SECRET, OLD_SECRET), ("raw text", b"raw"), ("raw text", b"text")]
)
async def test_the_standardwebhooks_verifier_accepts_the_signature(
    connections: FakeConnections, receiver: Receiver, secret: str, verifier: str | bytes
) -> None:
    async with webhook_sink(connections, secret) as sink:
        assert sink.signed(sink.parse({"url": receiver.url})) is True
        await post(sink, url=receiver.url)
    verify(verifier, receiver)


async def test_during_a_rotation_both_secrets_verify(
    connections: FakeConnections, receiver: Receiver
) -> None:
    async with webhook_sink(connections, f"{NEW_SECRET} {OLD_SECRET}") as sink:
        await post(sink, url=receiver.url)
    verify(OLD_SECRET, receiver)
    verify(NEW_SECRET, receiver)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        verify(b"another", receiver)
    receiver.requests[-1].body += b" "
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        verify(OLD_SECRET, receiver)


async def test_the_connections_secret_takes_precedence_over_the_setting(
    connections: FakeConnections, receiver: Receiver
) -> None:
    connections.by_id["c"] = Connection("c", host=receiver.url, extra={"webhook_secret": NEW_SECRET})
    async with webhook_sink(connections, OLD_SECRET) as sink:
        await post(sink, conn_id="c")
    verify(NEW_SECRET, receiver)
    with pytest.raises(WebhookVerificationError):
        verify(OLD_SECRET, receiver)


async def test_a_connection_without_a_secret_is_signed_with_the_setting(
    connections: FakeConnections, receiver: Receiver
) -> None:
    connections.by_id["c"] = Connection("c", host=receiver.url)
    async with webhook_sink(connections, OLD_SECRET) as sink:
        assert sink.signed(sink.parse({"conn_id": "c"})) is True
        await post(sink, conn_id="c")
    verify(OLD_SECRET, receiver)


async def test_signed_reflects_the_cached_connection(connections: FakeConnections) -> None:
    connections.by_id["with"] = Connection("with", host="h", extra={"webhook_secret": NEW_SECRET})
    connections.by_id["without"] = Connection("without", host="h")
    sink = webhook_sink(connections)
    targets = [{"url": "http://h"}, {"conn_id": "without"}, {"conn_id": "unknown"}, {"conn_id": "with"}]
    assert [sink.signed(sink.parse(params)) for params in targets] == [False, False, False, True]


@pytest.mark.parametrize("secret", ["", "  ", "whsec_", "whsec_!planted", f"{OLD_SECRET} whsec_pl\u00e4nted"])
def test_a_malformed_secret_setting_is_an_error_that_does_not_quote_it(
    connections: FakeConnections, secret: str
) -> None:
    with pytest.raises(ValueError, match="webhook secret") as raised:
        webhook_sink(connections, secret)
    assert "pl" not in str(raised.value).replace("place", "")


@pytest.mark.parametrize("secret", ["whsec_!planted", 5, ["planted"]])
async def test_a_connections_malformed_secret_fails_the_delivery(
    sink: WebhookSink, connections: FakeConnections, receiver: Receiver, secret: object
) -> None:
    connections.by_id["c"] = Connection("c", host=receiver.url, extra={"webhook_secret": secret})
    error = failure(await post(sink, conn_id="c"))
    assert "secret" in error
    assert "planted" not in error
    assert receiver.requests == []
