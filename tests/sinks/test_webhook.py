"""The webhook sink against real sockets."""

import asyncio
import base64
import json
import logging
import socket
import ssl
import time
from collections.abc import AsyncIterator, Callable, Mapping
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from brokers import make_item
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from fakes import FakeConnections
from standardwebhooks import Webhook, WebhookVerificationError
from stream_server import stream_server
from webhook_receiver import Receiver, receiving, reset

from waitd.bench.children import free_port
from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryId, DeliveryRejected, Receipt
from waitd.core.waits.wait import WaitId
from waitd.ports import OutboxItem, Sink
from waitd.sinks.webhook import WebhookSink

PATTERNS = ("authorization", "proxy-authorization", "cookie", "x-api-key", "*-token", "*-secret")
EVENT = json.dumps(
    {"specversion": "1.0", "id": "w1", "data": {"payload": "grüße"}}, ensure_ascii=False
).encode()
ITEM = OutboxItem(DeliveryId("d1"), WaitId("w1"), "default", {"kind": "webhook"}, EVENT, 1, 0.0)
OLD, NEW = "whsec_" + base64.b64encode(b"o" * 32).decode(), "whsec_" + base64.b64encode(b"n" * 32).decode()


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@pytest.fixture
def connections() -> FakeConnections:
    return FakeConnections()


@pytest.fixture
async def sink(connections: FakeConnections) -> AsyncIterator[WebhookSink]:
    async with WebhookSink(connections, secret=None, secret_headers=PATTERNS) as opened:
        yield opened


async def post(sink: WebhookSink, **params: Any) -> Receipt:
    async with asyncio.timeout(5):
        return await sink.deliver(sink.parse(params), ITEM)


def problems(sink: WebhookSink, params: Mapping[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidInput) as raised:
        sink.parse(params)
    return {problem.pointer: problem.detail for problem in raised.value.problems}


def test_it_implements_the_port(connections: FakeConnections) -> None:
    port: Sink = WebhookSink(connections, secret=None, secret_headers=PATTERNS)
    assert (
        port.parse({"url": "https://Example.org:443/hook?x=1"}).destination == "webhook https://example.org"
    )
    assert port.parse({"conn_id": "team/hooks", "endpoint": "/x"}).destination == "webhook team/hooks"


# ------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("params", "pointer"),
    [
        ({}, ""),
        ({"url": "http://h", "conn_id": "c"}, ""),
        ({"url": "http://h", "endpoint": "/x"}, "/endpoint"),
        ({"url": "h/x"}, "/url"),
        ({"url": "http://user:pw@h/"}, "/url"),
        ({"url": "http://h/\r\nX: y"}, "/url"),
        ({"url": "http://h/" + "x" * 2048}, "/url"),
        ({"url": 5}, "/url"),
        ({"conn_id": "a b"}, "/conn_id"),
        ({"conn_id": "c", "endpoint": "//evil"}, "/endpoint"),
        ({"conn_id": "c", "endpoint": "/../x"}, "/endpoint"),
        ({"conn_id": "connections", "endpoint": "http://evil/"}, "/endpoint"),
        ({"url": "http://h", "retries": 3}, "/retries"),
        ({"url": "http://h", "headers": {"Authorization": "x"}}, "/headers/Authorization"),
        ({"url": "http://h", "headers": {"proxy-authorization": "x"}}, "/headers/proxy-authorization"),
        ({"url": "http://h", "headers": {"COOKIE": "x"}}, "/headers/COOKIE"),
        ({"url": "http://h", "headers": {"X_Api_Key": "x"}}, "/headers/X_Api_Key"),
        ({"url": "http://h", "headers": {"x-my-Token": "x"}}, "/headers/x-my-Token"),
        ({"url": "http://h", "headers": {"Client-Secret": "x"}}, "/headers/Client-Secret"),
        ({"url": "http://h", "headers": {"Host": "x"}}, "/headers/Host"),
        ({"url": "http://h", "headers": {"content-length": "0"}}, "/headers/content-length"),
        ({"url": "http://h", "headers": {"Transfer-Encoding": "chunked"}}, "/headers/Transfer-Encoding"),
        ({"url": "http://h", "headers": {"Connection": "close"}}, "/headers/Connection"),
        ({"url": "http://h", "headers": {"webhook-id": "x"}}, "/headers/webhook-id"),
        ({"url": "http://h", "headers": {"Webhook-Signature": "x"}}, "/headers/Webhook-Signature"),
        ({"url": "http://h", "headers": {"Content-Type": "x"}}, "/headers/Content-Type"),
        ({"url": "http://h", "headers": {"X-A": "a\r\nX-B: c"}}, "/headers/X-A"),
        ({"url": "http://h", "headers": {"X-A": "a\x00"}}, "/headers/X-A"),
        ({"url": "http://h", "headers": {"X A": "a"}}, "/headers/X A"),
        ({"url": "http://h", "headers": {"": "a"}}, "/headers/"),
        ({"url": "http://h", "headers": {"a/b~": "a"}}, "/headers/a~1b~0"),
        ({"url": "http://h", "headers": {f"X-{i}": "a" for i in range(65)}}, "/headers"),
    ],
)
def test_an_invalid_parameter_is_reported_with_a_pointer(
    connections: FakeConnections, params: Mapping[str, Any], pointer: str
) -> None:
    connections.by_id["connections"] = Connection("connections", host="good")
    sink = WebhookSink(connections, secret=None, secret_headers=PATTERNS)
    assert list(problems(sink, params)) == [pointer]


def test_a_secret_header_is_refused_without_quoting_and_suggests_conn_id(
    connections: FakeConnections,
) -> None:
    sink = WebhookSink(connections, secret=None, secret_headers=PATTERNS)
    said = problems(
        sink,
        {"url": "http://user:planted@h/?planted", "headers": {"X-Api-Key": "planted", "X-A": "planted\n"}},
    )
    assert "planted" not in repr(said)
    assert "conn_id" in said["/url"]
    assert "conn_id" in said["/headers/X-Api-Key"]


# ------------------------------------------------------------ what is sent


async def test_the_stored_bytes_are_posted_as_a_cloudevent(sink: WebhookSink, receiver: Receiver) -> None:
    receiver.answers("200 OK")
    receipt = await post(sink, url=f"{receiver.url}/hook?tenant=a%2Fb", headers={"X-Team": "data"})
    assert receipt == Delivered()
    [request] = receiver.requests
    assert request.line == "POST /hook?tenant=a%2Fb HTTP/1.1"
    assert request.body == EVENT
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["content-length"] == str(len(EVENT))
    assert request.headers["x-team"] == "data"
    assert request.headers["webhook-id"] == "d1"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert "webhook-signature" not in request.headers


async def test_the_cloudevents_sdk_parses_the_request(sink: WebhookSink, receiver: Receiver) -> None:
    item = make_item()
    receiver.answers("200 OK")
    assert await sink.deliver(sink.parse({"url": receiver.url}), item) == Delivered()
    [request] = receiver.requests
    event = from_structured_event(HTTPMessage(request.headers, request.body))
    stored = json.loads(item.event)
    assert (event.get_id(), event.get_type(), event.get_source()) == (
        item.wait_id,
        stored["type"],
        stored["source"],
    )
    assert event.get_data() == stored["data"]


@pytest.mark.parametrize(
    ("rest", "line"),
    [("", "/"), ("?x", "/?x"), ("/a%2Fb/%7e;c", "/a%2Fb/%7e;c"), ("/grün?ö", "/gr%C3%BCn?%C3%B6"), ("/x#y", "/x"), ("/a/../b", "/a/../b")],
)  # fmt: skip
async def test_a_url_is_requested_as_written(
    sink: WebhookSink, receiver: Receiver, rest: str, line: str
) -> None:
    receiver.answers("200 OK")
    assert await post(sink, url=receiver.url + rest) == Delivered()
    assert receiver.requests[0].line == f"POST {line} HTTP/1.1"


async def test_a_connection_supplies_address_and_credentials(
    sink: WebhookSink, connections: FakeConnections, receiver: Receiver
) -> None:
    receiver.answers("204 No Content")
    extra = {
        "X-Org": "from the connection",
        "webhook_secret": "never sent",
        "Webhook-Id": "not the connection's to set",
    }
    connections.by_id["c"] = Connection(
        "c", host=f"{receiver.url}/base", login="user", password="pw", extra=extra
    )
    assert (
        await post(sink, conn_id="c", endpoint="hook", headers={"x-org": "from the wait", "X-Team": "data"})
        == Delivered()
    )
    [request] = receiver.requests
    assert request.line == "POST /base/hook HTTP/1.1"
    assert request.headers["authorization"] == "Basic " + base64.b64encode(b"user:pw").decode()
    assert request.headers["x-org"] == "from the connection"
    assert request.headers["x-team"] == "data"
    assert request.headers["webhook-id"] == "d1"
    assert "never sent" not in repr(request)


async def test_cookies_are_not_stored_and_proxies_not_used(
    sink: WebhookSink, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
    receiver.answers("200 OK", "Set-Cookie: a=b; Path=/")
    for _ in range(2):
        assert await post(sink, url=receiver.url) == Delivered()
    assert all("cookie" not in request.headers for request in receiver.requests)
    assert receiver.connections == 1  # a complete answer leaves the connection for the next event


# ------------------------------------------------------------ signatures


def verify(secret: str | bytes, receiver: Receiver) -> None:
    request = receiver.requests[-1]
    Webhook(secret).verify(request.body, request.headers)


@pytest.mark.parametrize(("secret", "verifier"), [(OLD, OLD), ("raw text", b"raw"), ("raw text", b"text")])
async def test_the_standardwebhooks_verifier_accepts_the_signature(
    connections: FakeConnections, receiver: Receiver, secret: str, verifier: str | bytes
) -> None:
    receiver.answers("200 OK")
    async with WebhookSink(connections, secret=secret, secret_headers=PATTERNS) as sink:
        target = sink.parse({"url": receiver.url})
        assert sink.signed(target) is True
        await post(sink, url=receiver.url)
    verify(verifier, receiver)


async def test_during_a_rotation_both_secrets_verify(
    connections: FakeConnections, receiver: Receiver
) -> None:
    receiver.answers("200 OK")
    async with WebhookSink(connections, secret=f"{NEW} {OLD}", secret_headers=PATTERNS) as sink:
        await post(sink, url=receiver.url)
    verify(OLD, receiver)
    verify(NEW, receiver)
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        verify(b"another", receiver)
    receiver.requests[-1].body += b" "
    with pytest.raises(WebhookVerificationError, match="No matching signature"):
        verify(OLD, receiver)


async def test_the_connections_secret_takes_precedence_over_the_setting(
    connections: FakeConnections, receiver: Receiver
) -> None:
    receiver.answers("200 OK")
    connections.by_id["c"] = Connection("c", host=receiver.url, extra={"webhook_secret": NEW})
    async with WebhookSink(connections, secret=OLD, secret_headers=PATTERNS) as sink:
        await post(sink, conn_id="c")
    verify(NEW, receiver)
    with pytest.raises(WebhookVerificationError):
        verify(OLD, receiver)


async def test_a_connection_without_a_secret_is_signed_with_the_setting(
    connections: FakeConnections, receiver: Receiver
) -> None:
    receiver.answers("200 OK")
    connections.by_id["c"] = Connection("c", host=receiver.url)
    async with WebhookSink(connections, secret=OLD, secret_headers=PATTERNS) as sink:
        assert sink.signed(sink.parse({"conn_id": "c"})) is True
        await post(sink, conn_id="c")
    verify(OLD, receiver)


async def test_it_delivers_only_within_its_context(connections: FakeConnections) -> None:
    sink = WebhookSink(connections, secret=None, secret_headers=PATTERNS)
    with pytest.raises(RuntimeError, match="outside its context"):
        await post(sink, url="http://127.0.0.1")


async def test_signed_reflects_the_cached_connection(connections: FakeConnections) -> None:
    connections.by_id["with"] = Connection("with", host="h", extra={"webhook_secret": NEW})
    connections.by_id["without"] = Connection("without", host="h")
    sink = WebhookSink(connections, secret=None, secret_headers=PATTERNS)
    targets = [{"url": "http://h"}, {"conn_id": "without"}, {"conn_id": "unknown"}, {"conn_id": "with"}]
    assert [sink.signed(sink.parse(params)) for params in targets] == [False, False, False, True]


@pytest.mark.parametrize("secret", ["", "  ", "whsec_", "whsec_!planted", f"{OLD} whsec_pl\u00e4nted"])
def test_a_malformed_secret_setting_is_an_error_that_does_not_quote_it(
    connections: FakeConnections, secret: str
) -> None:
    with pytest.raises(ValueError, match="webhook secret") as raised:
        WebhookSink(connections, secret=secret, secret_headers=PATTERNS)
    assert "pl" not in str(raised.value).replace("place", "")


@pytest.mark.parametrize("secret", ["whsec_!planted", 5, ["planted"]])
async def test_a_connections_malformed_secret_fails_the_delivery(
    sink: WebhookSink, connections: FakeConnections, receiver: Receiver, secret: object
) -> None:
    connections.by_id["c"] = Connection("c", host=receiver.url, extra={"webhook_secret": secret})
    receipt = await post(sink, conn_id="c")
    assert isinstance(receipt, DeliveryFailed)
    assert "secret" in receipt.error
    assert "planted" not in receipt.error
    assert receiver.requests == []


# ------------------------------------------------------------ answers


@pytest.mark.parametrize(
    ("status", "receipt"),
    [
        ("200 OK", Delivered()),
        ("201 Created", Delivered()),
        ("204 No Content", Delivered()),
        ("299 Odd", Delivered()),
        ("302 Found", DeliveryFailed("the receiver answered 302; redirects are not followed")),
        ("307 Temporary Redirect", DeliveryFailed("the receiver answered 307; redirects are not followed")),
        ("400 Bad Request", DeliveryFailed("the receiver answered 400")),
        ("401 Unauthorized", DeliveryFailed("the receiver answered 401")),
        ("404 Not Found", DeliveryFailed("the receiver answered 404")),
        ("410 Gone", DeliveryRejected("the receiver answered 410 Gone")),
        ("500 Internal Server Error", DeliveryFailed("the receiver answered 500")),
        ("999 What", DeliveryFailed("the receiver answered 999")),
    ],
)
async def test_the_status_decides(
    sink: WebhookSink, receiver: Receiver, status: str, receipt: Receipt
) -> None:
    receiver.answers(
        status, f"Location: {receiver.url}/elsewhere", body=b"" if status.startswith("204") else b"planted"
    )
    assert await post(sink, url=f"{receiver.url}/?token=planted") == receipt
    assert len(receiver.requests) == 1


@pytest.mark.parametrize("status", ["429 Too Many Requests", "503 Service Unavailable"])
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120.0), (formatdate(1_000_120, usegmt=True), 120.0), (formatdate(999_000, usegmt=True), 0.0), ("soon", None), ("-5", None)],
)  # fmt: skip
async def test_retry_after_is_parsed_in_both_formats(
    connections: FakeConnections, receiver: Receiver, status: str, value: str, seconds: float | None
) -> None:
    receiver.answers(status, f"Retry-After: {value}")
    async with WebhookSink(
        connections, secret=None, secret_headers=PATTERNS, now=lambda: 1_000_000.0
    ) as sink:
        receipt = await post(sink, url=receiver.url)
    assert receipt == DeliveryFailed(f"the receiver answered {status[:3]}", seconds)


async def test_retry_after_is_relative_to_the_receivers_clock(
    connections: FakeConnections, receiver: Receiver
) -> None:
    receiver.answers(
        "503 Busy", f"Date: {formatdate(5000, usegmt=True)}", f"Retry-After: {formatdate(5030, usegmt=True)}"
    )
    async with WebhookSink(
        connections, secret=None, secret_headers=PATTERNS, now=lambda: 1_000_000.0
    ) as sink:
        assert await post(sink, url=receiver.url) == DeliveryFailed("the receiver answered 503", 30.0)


async def test_an_endless_response_body_is_not_read(sink: WebhookSink, receiver: Receiver) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    receiver.answer = endless
    assert await post(sink, url=receiver.url) == Delivered()
    async with asyncio.timeout(5):
        await receiver.closed.wait()  # and the connection does not linger


async def test_cancelling_a_delivery_closes_the_connection(sink: WebhookSink, receiver: Receiver) -> None:
    arrived = asyncio.Event()

    async def hang(_: asyncio.StreamWriter) -> None:
        arrived.set()
        await asyncio.Event().wait()

    receiver.answer = hang
    attempt = asyncio.ensure_future(post(sink, url=receiver.url))
    await arrived.wait()
    attempt.cancel()
    with pytest.raises(asyncio.CancelledError):
        await attempt
    receiver.answers("200 OK")
    assert await post(sink, url=receiver.url) == Delivered()


@pytest.mark.parametrize("data", [b"", b"HTTP/1.1 200", b"HTTP/1.1 200 OK\r\nContent-Le"])
@pytest.mark.parametrize("ending", [reset, asyncio.StreamWriter.close])
async def test_an_incomplete_response_is_a_failure(
    sink: WebhookSink, receiver: Receiver, data: bytes, ending: Callable[[asyncio.StreamWriter], None]
) -> None:
    async def send_and_end(writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        ending(writer)

    receiver.answer = send_and_end
    receipt = await post(sink, url=f"{receiver.url}/?planted")
    assert receipt == DeliveryFailed("the connection to the receiver broke before it answered")


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n\r\n",
        b"HTTP/1.1 2x0 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"planted" * 10_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: planted\r\n\r\n",
    ],
)
async def test_a_response_that_is_not_http_is_a_failure(
    sink: WebhookSink, receiver: Receiver, data: bytes
) -> None:
    receiver.sends(data)
    assert await post(sink, url=f"{receiver.url}/?planted") == DeliveryFailed(
        "the receiver did not answer with valid HTTP"
    )


async def test_an_unreachable_receiver_is_a_failure(sink: WebhookSink) -> None:
    assert await post(sink, url=f"http://127.0.0.1:{free_port()}/?planted") == DeliveryFailed(
        "could not connect to the receiver"
    )


async def test_an_unresolvable_host_is_a_failure(sink: WebhookSink, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unknown(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "planted")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", unknown)  # no test asks a real name server
    receipt = await post(sink, url="http://receiver.invalid/?planted")
    assert receipt == DeliveryFailed("the host name of the receiver does not resolve")


async def test_tls_to_a_plain_text_receiver_is_a_failure(sink: WebhookSink, receiver: Receiver) -> None:
    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(100)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        writer.close()

    async with stream_server(plain) as port:
        receipt = await post(sink, url=f"https://127.0.0.1:{port}/")
    assert receipt == DeliveryFailed("the TLS handshake with the receiver failed")


async def test_an_untrusted_certificate_is_accepted_only_if_the_connection_allows_it(
    sink: WebhookSink, connections: FakeConnections, receiver: Receiver
) -> None:
    receiver.answers("200 OK")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("self_signed.pem"))
    async with stream_server(receiver.serve, tls=context) as port:
        url = f"https://127.0.0.1:{port}"
        assert await post(sink, url=url) == DeliveryFailed(
            "the TLS certificate of the receiver is not trusted"
        )
        connections.by_id["c"] = Connection("c", host=url, extra={"verify": False})
        assert await post(sink, conn_id="c") == Delivered()


# ------------------------------------------------------------ connections that fail


async def test_an_unknown_connection_may_be_added_before_the_next_attempt(sink: WebhookSink) -> None:
    assert await post(sink, conn_id="c") == DeliveryFailed("there is no connection 'c'")


async def test_an_unavailable_connection_backend_is_a_failure(
    sink: WebhookSink, connections: FakeConnections
) -> None:
    connections.down = True
    assert await post(sink, conn_id="c") == DeliveryFailed("the backend is down")


async def test_credentials_are_not_sent_outside_the_connections_origin(
    sink: WebhookSink, connections: FakeConnections, receiver: Receiver
) -> None:
    target = sink.parse({"conn_id": "c", "endpoint": f"{receiver.url}/x"})
    connections.by_id["c"] = Connection("c", host="http://elsewhere.invalid", password="planted")
    receipt = await sink.deliver(target, ITEM)
    assert receipt == DeliveryFailed("the endpoint leaves the connection's origin http://elsewhere.invalid")
    assert receiver.requests == []


@pytest.mark.parametrize(
    "connection",
    [
        Connection("c", host=""),
        Connection("c", host="planted@h"),
        Connection("c", host="http://127.0.0.1", password="planted\r\nX: y", extra={"auth_type": "bearer"}),
        Connection("c", host="http://127.0.0.1", extra={"auth_type": "planted"}),
    ],
)
async def test_an_invalid_connection_is_a_failure_that_does_not_quote_it(
    sink: WebhookSink, connections: FakeConnections, connection: Connection
) -> None:
    connections.by_id["c"] = connection
    receipt = await post(sink, conn_id="c")
    assert isinstance(receipt, DeliveryFailed)
    assert "planted" not in receipt.error


async def test_secrets_appear_in_no_repr_log_or_output(
    connections: FakeConnections,
    receiver: Receiver,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG)
    extra = {"webhook_secret": "planted1", "X-Api-Key": "planted2"}
    connections.by_id["c"] = Connection(
        "c", host=receiver.url, login="planted3", password="planted4", extra=extra
    )
    seen: list[object] = []
    async with WebhookSink(connections, secret="planted5", secret_headers=PATTERNS) as sink:
        target = sink.parse({"conn_id": "c", "endpoint": "/x"})
        seen += [sink, vars(type(sink)), target, connections.by_id["c"]]
        for answer in [
            "HTTP/1.1 500 planted6\r\n\r\n",
            "HTTP/1.1 302 Found\r\nLocation: /planted6\r\n\r\n",
            "planted6\r\n\r\n",
        ]:
            receiver.sends(answer.encode())
            seen.append(await sink.deliver(target, ITEM))
        seen.append(await sink._resolve(target))
        seen.append(sink._connections)
    assert len(receiver.requests) == 3
    out, err = capfd.readouterr()
    assert "planted" not in repr(seen) + out + err + caplog.text
