"""Every broker sink against a real broker, whose own consumer reads the messages back."""

import asyncio
import json
from dataclasses import replace

import pytest
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from daemon import until
from deliveries import CONTENT_TYPE, failure, make_item
from sink_setup import SinkSetup

from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected

pytestmark = pytest.mark.slow


async def test_the_stored_bytes_arrive_as_a_cloudevent(broker_setup: SinkSetup) -> None:
    item = make_item()
    assert await broker_setup.deliver(item) == Delivered()
    (received,) = await broker_setup.read(1)
    assert received.body == item.event
    assert CONTENT_TYPE in received.headers.values()
    event = from_structured_event(HTTPMessage({"content-type": CONTENT_TYPE}, received.body))
    assert event.get_id() == item.wait_id == received.headers["event_id"]
    if broker_setup.broker.kind != "sqs":  # a standard queue stores no delivery id
        assert received.headers["delivery_id"] == item.id


async def test_concurrent_deliveries_share_a_client_and_none_is_lost(broker_setup: SinkSetup) -> None:
    items = [make_item(number) for number in range(40)]
    assert await asyncio.gather(*map(broker_setup.deliver, items)) == [Delivered()] * 40
    assert {received.body for received in await broker_setup.read(40)} == {item.event for item in items}
    if broker_setup.broker.kind in {"redis", "nats", "amqp", "kafka"}:
        assert broker_setup.proxy.accepted <= 2


async def test_deliveries_fail_at_once_while_the_broker_is_down(broker_setup: SinkSetup) -> None:
    await broker_setup.proxy.down()
    receipts = await asyncio.gather(*(broker_setup.deliver(make_item()) for _ in range(5)))
    assert broker_setup.proxy.accepted == 0
    assert all("could not connect" in failure(receipt) for receipt in receipts), receipts
    await broker_setup.proxy.up()
    assert await broker_setup.deliver(make_item()) == Delivered()


async def test_a_connection_can_be_tried(broker_setup: SinkSetup) -> None:
    if broker_setup.broker.kind in {"sqs", "webhook"}:
        pytest.skip("it is asked over HTTP: tests/app/test_connection_tries.py")
    assert await broker_setup.sink.try_connection(broker_setup.connection) is None
    assert broker_setup.proxy.accepted >= 1


async def test_deliveries_succeed_again_after_an_outage(broker_setup: SinkSetup) -> None:
    assert await broker_setup.deliver(make_item()) == Delivered()
    await broker_setup.proxy.down()
    if broker_setup.broker.kind == "kafka":  # its producer retries until the caller cancels
        with pytest.raises(TimeoutError):
            await broker_setup.deliver(make_item(), within=0.3)
    else:
        assert isinstance(await broker_setup.deliver(make_item()), DeliveryFailed)
    await broker_setup.proxy.up()
    assert await broker_setup.deliver(make_item()) == Delivered()


async def test_a_connection_cut_before_the_acknowledgement_loses_nothing(broker_setup: SinkSetup) -> None:
    first, item = make_item(), make_item()
    assert await broker_setup.deliver(first) == Delivered()
    broker_setup.proxy.cut_before_next_answer()
    receipts = [await broker_setup.deliver(item)]
    while not isinstance(receipts[-1], Delivered) and len(receipts) < 4:
        receipts.append(await broker_setup.deliver(item))
    assert broker_setup.proxy.cuts == 1
    assert receipts[-1] == Delivered()
    # aiokafka resends by itself under the same sequence number
    assert isinstance(receipts[0], DeliveryFailed) or broker_setup.broker.kind == "kafka"
    bodies = [received.body for received in await broker_setup.read(2)]
    assert bodies.count(item.event) >= 1
    if broker_setup.broker.deduplicates:
        assert bodies.count(item.event) == 1
    assert set(bodies) == {first.event, item.event}


async def test_deliveries_to_a_hanging_broker_can_be_cancelled(broker_setup: SinkSetup) -> None:
    assert await broker_setup.deliver(make_item()) == Delivered()
    broker_setup.proxy.hang()
    stuck = [asyncio.create_task(broker_setup.deliver(make_item(), within=0.3)) for _ in range(20)]
    done, _ = await asyncio.wait(stuck, timeout=5)
    assert [type(task.exception()) for task in done] == [TimeoutError] * 20
    broker_setup.proxy.resume()
    after = [make_item(number) for number in range(20)]
    receipts = await asyncio.gather(*map(broker_setup.deliver, after))
    assert receipts == [Delivered()] * 20
    bodies = {received.body for received in await broker_setup.read(21)}
    assert {item.event for item in after} <= bodies


async def test_a_hanging_connect_can_be_cancelled(broker_setup: SinkSetup) -> None:
    broker_setup.proxy.hang()
    with pytest.raises(TimeoutError):
        await broker_setup.deliver(make_item(), within=0.2)
    broker_setup.proxy.resume()
    assert await broker_setup.deliver(make_item()) == Delivered()


async def test_a_too_large_event_is_rejected_without_delaying_others(broker_setup: SinkSetup) -> None:
    large, small = make_item(size=broker_setup.broker.max_bytes + 1), [make_item() for _ in range(5)]
    receipt = await broker_setup.deliver(large)
    if broker_setup.broker.kind == "redis":  # closes the connection instead of answering
        assert isinstance(receipt, DeliveryFailed)
        await broker_setup.deliver(make_item())  # the closed connection may be noticed only now
    else:
        assert isinstance(receipt, DeliveryRejected), receipt
        assert "larger" in receipt.error
    assert [await broker_setup.deliver(item) for item in small] == [Delivered()] * 5


async def test_wrong_credentials_are_a_failure_that_does_not_quote_them(broker_setup: SinkSetup) -> None:
    connection = broker_setup.connection
    if broker_setup.broker.kind == "sqs":
        pytest.skip("moto checks credentials for the whole server: tests/sinks/test_sqs.py")
    broker_setup.connection = broker_setup.broker.with_wrong_credentials(connection)
    error = failure(await broker_setup.deliver(make_item(), within=30))
    assert "planted" not in error
    if broker_setup.broker.kind != "kafka":  # its mock cluster closes the connection at a login
        assert "credentials" in error or "login" in error
    broker_setup.connection = connection
    assert await broker_setup.deliver(make_item()) == Delivered()


async def test_a_changed_connection_replaces_the_client(broker_setup: SinkSetup) -> None:
    assert await broker_setup.deliver(make_item()) == Delivered()
    (before,), connections = clients(broker_setup), set(broker_setup.proxy.open)
    connection = broker_setup.connection
    broker_setup.connection = replace(connection)  # an equal connection from a new lookup
    assert await broker_setup.deliver(make_item()) == Delivered()
    assert clients(broker_setup) == [before]
    broker_setup.connection = replace(connection, extra={**connection.extra, "note": "rotated"})
    assert await broker_setup.deliver(make_item()) == Delivered()
    assert len(clients(broker_setup)) == 1
    assert clients(broker_setup) != [before]
    await until(lambda: not connections & broker_setup.proxy.open, 60, "the old client is still connected")


def clients(broker_setup: SinkSetup) -> list[object]:
    return [pooled.opening.result() for pooled in broker_setup.sink._clients._clients.values()]


async def test_closing_the_sink_closes_every_connection(broker_setup: SinkSetup) -> None:
    await asyncio.gather(*(broker_setup.deliver(make_item()) for _ in range(5)))
    assert broker_setup.proxy.open
    before = asyncio.all_tasks()
    await broker_setup.sink.__aexit__(None, None, None)
    await until(lambda: not broker_setup.proxy.open, 60, "a connection is still open")
    assert not {task for task in asyncio.all_tasks() - before if not task.done()}


async def test_closing_the_sink_is_bounded_while_the_broker_hangs(broker_setup: SinkSetup) -> None:
    assert await broker_setup.deliver(make_item()) == Delivered()
    broker_setup.proxy.hang()
    with pytest.raises(TimeoutError):
        await broker_setup.deliver(make_item(), within=0.2)
    async with asyncio.timeout(60):
        await broker_setup.sink.__aexit__(None, None, None)


async def test_an_invalid_connection_is_a_failure_that_does_not_quote_it(broker_setup: SinkSetup) -> None:
    broker_setup.connections.down = True
    assert await broker_setup.deliver(make_item()) == DeliveryFailed("the backend is down")
    broker_setup.connections.down = False
    connection = broker_setup.connections.by_id.pop("broker")
    assert isinstance(await broker_setup.deliver(make_item()), DeliveryFailed)
    invalid = {"endpoint_url": "ftp://planted", "bootstrap.servers": "a b", "region_name": "eu-west-1"}
    broker_setup.connection = replace(connection, host="user:planted@host", extra=invalid)
    if broker_setup.broker.kind != "sqs":
        assert "planted" not in failure(await broker_setup.deliver(make_item()))


async def test_deliveries_are_not_signed(broker_setup: SinkSetup) -> None:
    assert broker_setup.sink.signed(broker_setup.sink.parse(broker_setup.params())) is None


def test_each_test_item_has_a_unique_event() -> None:
    """The other tests rely on it: they identify events by their ids."""
    assert json.loads(make_item(1).event)["id"] != json.loads(make_item(1).event)["id"]
