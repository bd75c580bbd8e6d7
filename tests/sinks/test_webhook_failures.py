"""The receipt of a webhook: each response, and each way to fail without one."""

import asyncio
import logging
import ssl
from collections.abc import Callable
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from deliveries import failure
from fakes import FakeConnections
from stream_server import ClosingServer, stream_server
from webhook_receiver import Receiver, reset
from webhook_setup import ITEM, post, webhook_sink

from waitd.bench.children import free_port
from waitd.core.connections.connection import Connection
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected, Receipt
from waitd.outgoing import CachingResolver, EgressGuard, NameNotFound, SystemLookup
from waitd.outgoing.names import Answer
from waitd.sinks.webhook import WebhookSink


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
async def test_the_status_decides_the_receipt(
    sink: WebhookSink, receiver: Receiver, status: str, receipt: Receipt
) -> None:
    receiver.answers(
        status, f"Location: {receiver.url}/elsewhere", body=b"" if status.startswith("204") else b"planted"
    )
    assert await post(sink, url=f"{receiver.url}/?token=planted") == receipt
    assert len(receiver.requests) == 1


@pytest.mark.parametrize(
    "status", ["429 Too Many Requests", "503 Service Unavailable", "401 Unauthorized", "403 Forbidden"]
)
@pytest.mark.parametrize(
    ("value", "seconds"),
    [("120", 120.0), (formatdate(1_000_120, usegmt=True), 120.0), (formatdate(999_000, usegmt=True), 0.0), ("soon", None), ("-5", None), ("2.5", 2.5)],
)  # fmt: skip
async def test_retry_after_is_parsed_in_both_formats(
    connections: FakeConnections, receiver: Receiver, status: str, value: str, seconds: float | None
) -> None:
    receiver.answers(status, f"Retry-After: {value}")
    async with webhook_sink(connections, now=lambda: 1_000_000.0) as sink:
        receipt = await post(sink, url=receiver.url)
    assert receipt == DeliveryFailed(f"the receiver answered {status[:3]}", seconds)


async def test_retry_after_is_relative_to_the_receivers_clock(
    connections: FakeConnections, receiver: Receiver
) -> None:
    receiver.answers(
        "503 Busy", f"Date: {formatdate(5000, usegmt=True)}", f"Retry-After: {formatdate(5030, usegmt=True)}"
    )
    async with webhook_sink(connections, now=lambda: 1_000_000.0) as sink:
        assert await post(sink, url=receiver.url) == DeliveryFailed("the receiver answered 503", 30.0)


@pytest.mark.parametrize(
    ("extra", "says"),
    [({"timeout": 0.2}, "in time"), ({"check_response": False}, "check_response is not supported")],
)
async def test_the_options_of_a_connection_hold_or_are_refused(
    connections: FakeConnections, extra: dict[str, Any], says: str
) -> None:
    silent = asyncio.Event()

    async def serve(reader: asyncio.StreamReader, _: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await silent.wait()

    async with stream_server(serve) as port, webhook_sink(connections) as sink:
        connections.by_id["c"] = Connection("c", "http", host=f"http://127.0.0.1:{port}", extra=extra)
        assert says in failure(await post(sink, conn_id="c", endpoint="x"))


async def test_an_endless_response_body_is_not_read(sink: WebhookSink, receiver: Receiver) -> None:
    async def endless(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        while True:
            writer.write(b"400\r\n" + b"x" * 1024 + b"\r\n")
            await writer.drain()

    receiver.answer = endless
    assert await post(sink, url=receiver.url) == Delivered()
    async with asyncio.timeout(60):
        await receiver.closed.wait()  # the connection is closed


async def test_a_delivery_that_meets_a_connection_closed_while_idle_is_sent_again(sink: WebhookSink) -> None:
    server = ClosingServer(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    async with stream_server(server.serve) as port:
        for _ in range(3):
            assert await post(sink, url=f"http://127.0.0.1:{port}/") == Delivered()
    assert server.requests == 3


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


async def test_an_unresolvable_host_is_a_failure() -> None:
    class Lookup(SystemLookup):
        async def find(self, host: str) -> Answer:
            raise NameNotFound("planted")  # tests use no real name server

    names = CachingResolver(Lookup())
    egress = EgressGuard(resolver=lambda: names)
    async with WebhookSink(FakeConnections(), secret=None, secret_headers=(), egress=egress) as sink:
        receipt = await post(sink, url="http://receiver.invalid/?planted")
    await names.close()
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
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(Path(__file__).with_name("self_signed.pem"))
    async with stream_server(receiver.serve, tls=context) as port:
        url = f"https://127.0.0.1:{port}"
        assert await post(sink, url=url) == DeliveryFailed(
            "the TLS certificate of the receiver is not trusted"
        )
        connections.by_id["c"] = Connection("c", host=url, extra={"verify": False})
        assert await post(sink, conn_id="c") == Delivered()


async def test_a_connection_that_is_not_available_is_a_failure(
    sink: WebhookSink, connections: FakeConnections
) -> None:
    assert await post(sink, conn_id="c") == DeliveryFailed("there is no connection 'c'")
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
    assert "planted" not in failure(await post(sink, conn_id="c"))


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
    objects: list[object] = []
    async with webhook_sink(connections, "planted5") as sink:
        target = sink.parse({"conn_id": "c", "endpoint": "/x"})
        objects += [sink, vars(type(sink)), target, connections.by_id["c"]]
        for answer in [
            "HTTP/1.1 500 planted6\r\n\r\n",
            "HTTP/1.1 302 Found\r\nLocation: /planted6\r\n\r\n",
            "planted6\r\n\r\n",
        ]:
            receiver.sends(answer.encode())
            objects.append(await sink.deliver(target, ITEM))
        objects.append(await sink._resolve(target))
        objects.append(sink._connections)
    assert len(receiver.requests) == 3
    out, err = capfd.readouterr()
    assert "planted" not in repr(objects) + out + err + caplog.text


@pytest.mark.parametrize("data", [b"HTTP/1.1 100 \r\n\r\n", b"\r\n", b"HTTP/1.1 200 OK\r\nX: y\r\n", b"x"])
async def test_an_endless_head_is_a_failure(sink: WebhookSink, data: bytes) -> None:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(data * (8_000_000 // len(data)))
        await reader.read()  # until the sink closes the connection

    async with stream_server(serve) as port, asyncio.timeout(60):
        receipt = await post(sink, url=f"http://127.0.0.1:{port}/")
    assert receipt == DeliveryFailed("the receiver did not answer with valid HTTP")
