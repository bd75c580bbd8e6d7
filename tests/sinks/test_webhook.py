"""The webhook sink: its parameters, and the request that it sends."""

import base64
import json
import time
from collections.abc import Mapping
from typing import Any

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from deliveries import make_item
from fakes import FakeConnections
from webhook_receiver import Receiver
from webhook_setup import EVENT, post, webhook_sink

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput
from waitd.core.waits.delivery import Delivered
from waitd.ports import Sink
from waitd.sinks.webhook import WebhookSink


def problems(sink: WebhookSink, params: Mapping[str, Any]) -> dict[str, str]:
    with pytest.raises(InvalidInput) as raised:
        sink.parse(params)
    return {problem.pointer: problem.detail for problem in raised.value.problems}


def test_it_implements_the_port(connections: FakeConnections) -> None:
    port: Sink = webhook_sink(connections)
    assert (
        port.parse({"url": "https://Example.org:443/hook?x=1"}).destination == "webhook https://example.org"
    )
    assert port.parse({"conn_id": "team/hooks", "endpoint": "/x"}).destination == "webhook team/hooks"


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
    assert list(problems(webhook_sink(connections), params)) == [pointer]


def test_a_secret_header_is_refused_without_quoting_and_suggests_conn_id(
    connections: FakeConnections,
) -> None:
    headers = {"X-Api-Key": "planted", "X-A": "planted\n"}
    details = problems(
        webhook_sink(connections), {"url": "http://user:planted@h/?planted", "headers": headers}
    )
    assert "planted" not in repr(details)
    assert "conn_id" in details["/url"]
    assert "conn_id" in details["/headers/X-Api-Key"]


async def test_it_delivers_only_within_its_context(connections: FakeConnections) -> None:
    with pytest.raises(RuntimeError, match="outside its context"):
        await post(webhook_sink(connections), url="http://127.0.0.1")


async def test_the_stored_bytes_are_posted_as_a_cloudevent(sink: WebhookSink, receiver: Receiver) -> None:
    receipt = await post(sink, url=f"{receiver.url}/hook?tenant=a%2Fb", headers={"X-Team": "data"})
    assert receipt == Delivered()
    [request] = receiver.requests
    assert request.line == "POST /hook?tenant=a%2Fb HTTP/1.1"
    assert request.body == EVENT
    assert request.headers["content-type"] == "application/cloudevents+json"
    assert request.headers["content-length"] == str(len(EVENT))
    assert request.headers["x-team"] == "data"
    assert request.headers["webhook-id"] == "w1"
    assert request.headers["waitd-delivery-id"] == "d1"
    assert abs(int(request.headers["webhook-timestamp"]) - time.time()) < 60
    assert "webhook-signature" not in request.headers


async def test_the_cloudevents_sdk_parses_the_request(sink: WebhookSink, receiver: Receiver) -> None:
    item = make_item()
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
    assert request.headers["webhook-id"] == "w1"
    assert request.headers["waitd-delivery-id"] == "d1"
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
