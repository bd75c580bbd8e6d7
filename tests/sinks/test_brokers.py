"""What holds for every sink of a broker, against the real ones, read back by the broker's own consumer."""

import asyncio
import json
from dataclasses import replace

import pytest
from brokers import CONTENT_TYPE, parcel_of
from cloudevents.core.bindings.http import HTTPMessage, from_structured_event
from daemon import until
from scene import Scene

from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected


async def test_the_stored_bytes_arrive_as_a_cloudevent(scene: Scene) -> None:
    parcel = parcel_of()
    assert await scene.deliver(parcel) == Delivered()
    (taken,) = await scene.read(1)
    assert taken.body == parcel.event
    assert CONTENT_TYPE in taken.headers.values()
    event = from_structured_event(HTTPMessage({"content-type": CONTENT_TYPE}, taken.body))
    assert event.get_id() == parcel.wait_id
    if scene.broker.kind != "sqs":  # a standard queue has no place for it
        assert taken.headers["delivery_id"] == parcel.id


async def test_many_at_a_time_share_a_client_and_none_is_lost(scene: Scene) -> None:
    parcels = [parcel_of(number) for number in range(40)]
    assert await asyncio.gather(*map(scene.deliver, parcels)) == [Delivered()] * 40
    assert {taken.body for taken in await scene.read(40)} == {parcel.event for parcel in parcels}
    if scene.broker.kind in {"redis", "nats", "amqp", "kafka"}:
        assert scene.proxy.accepted <= 2


async def test_a_broker_that_is_down_is_refused_at_once_and_found_again(scene: Scene) -> None:
    await scene.proxy.down()
    receipts = await asyncio.gather(*(scene.deliver(parcel_of()) for _ in range(5)))
    assert scene.proxy.accepted == 0
    assert all(
        isinstance(receipt, DeliveryFailed) and "no connection" in receipt.error for receipt in receipts
    ), receipts
    await scene.proxy.up()
    assert await scene.deliver(parcel_of()) == Delivered()


async def test_a_broker_that_went_away_and_came_back_is_found_again(scene: Scene) -> None:
    assert await scene.deliver(parcel_of()) == Delivered()
    await scene.proxy.down()
    if scene.broker.kind == "kafka":  # its producer goes on trying, until the caller loses patience
        with pytest.raises(TimeoutError):
            await scene.deliver(parcel_of(), patience=0.3)
    else:
        assert isinstance(await scene.deliver(parcel_of()), DeliveryFailed)
    await scene.proxy.up()
    assert await scene.deliver(parcel_of()) == Delivered()


async def test_a_connection_cut_before_the_acknowledgement_is_refused_and_nothing_is_lost(
    scene: Scene,
) -> None:
    first, parcel = parcel_of(), parcel_of()
    assert await scene.deliver(first) == Delivered()
    scene.proxy.cut_before_the_next_answer()
    receipts = [await scene.deliver(parcel)]
    while not isinstance(receipts[-1], Delivered) and len(receipts) < 4:
        receipts.append(await scene.deliver(parcel))
    assert scene.proxy.cuts == 1
    assert receipts[-1] == Delivered()
    # aiokafka sends again by itself, under the same sequence number.
    assert isinstance(receipts[0], DeliveryFailed) or scene.broker.kind == "kafka"
    bodies = [taken.body for taken in await scene.read(2)]
    assert bodies.count(parcel.event) >= 1
    if scene.broker.deduplicates:
        assert bodies.count(parcel.event) == 1
    assert set(bodies) == {first.event, parcel.event}


async def test_a_hanging_broker_costs_the_callers_patience_and_the_client_works_on(scene: Scene) -> None:
    assert await scene.deliver(parcel_of()) == Delivered()
    scene.proxy.hang()
    stuck = [asyncio.create_task(scene.deliver(parcel_of(), patience=0.3)) for _ in range(20)]
    done, _ = await asyncio.wait(stuck, timeout=5)
    assert [type(task.exception()) for task in done] == [TimeoutError] * 20
    scene.proxy.resume()
    after = [parcel_of(number) for number in range(20)]
    receipts = await asyncio.gather(*map(scene.deliver, after))
    assert receipts == [Delivered()] * 20
    bodies = {taken.body for taken in await scene.read(21)}
    assert {parcel.event for parcel in after} <= bodies


async def test_a_hang_while_connecting_is_the_callers_timeout_too(scene: Scene) -> None:
    scene.proxy.hang()
    with pytest.raises(TimeoutError):
        await scene.deliver(parcel_of(), patience=0.2)
    scene.proxy.resume()
    assert await scene.deliver(parcel_of()) == Delivered()


async def test_an_event_larger_than_the_broker_takes_is_gone_and_holds_up_no_other(scene: Scene) -> None:
    large, small = parcel_of(size=scene.broker.too_large + 1), [parcel_of() for _ in range(5)]
    receipt = await scene.deliver(large)
    if scene.broker.kind == "redis":  # hangs up instead of saying so
        assert isinstance(receipt, DeliveryFailed)
        await scene.deliver(parcel_of())  # that it has may be noticed only now
    else:
        assert isinstance(receipt, DeliveryRejected), receipt
        assert "larger" in receipt.error
    assert [await scene.deliver(parcel) for parcel in small] == [Delivered()] * 5


async def test_wrong_credentials_are_refused_and_not_told(scene: Scene) -> None:
    connection = scene.known.known["broker"]
    if scene.broker.kind == "sqs":
        pytest.skip("moto checks credentials for the whole server: tests/sinks/test_sqs.py")
    scene.known.known["broker"] = scene.broker.with_wrong_credentials(connection)
    receipt = await scene.deliver(parcel_of(), patience=30)
    assert isinstance(receipt, DeliveryFailed)
    assert "planted" not in receipt.error
    if scene.broker.kind != "kafka":  # its mock cluster hangs up on a login
        assert "credentials" in receipt.error or "login" in receipt.error
    scene.known.known["broker"] = connection
    assert await scene.deliver(parcel_of()) == Delivered()


async def test_a_rotated_connection_gets_a_new_client_and_the_old_one_is_closed(scene: Scene) -> None:
    assert await scene.deliver(parcel_of()) == Delivered()
    (before,), connections = clients(scene), set(scene.proxy.open)
    connection = scene.known.known["broker"]
    scene.known.known["broker"] = replace(connection)  # looked up anew, and the same
    assert await scene.deliver(parcel_of()) == Delivered()
    assert clients(scene) == [before]
    scene.known.known["broker"] = replace(connection, extra={**connection.extra, "note": "rotated"})
    assert await scene.deliver(parcel_of()) == Delivered()
    assert len(clients(scene)) == 1
    assert clients(scene) != [before]
    await until(lambda: not connections & scene.proxy.open, 5, "the old client's end")


def clients(scene: Scene) -> list[object]:
    return [holding.making.result() for holding in scene.sink._clients._held.values()]


async def test_every_connection_is_closed_at_the_end(scene: Scene) -> None:
    await asyncio.gather(*(scene.deliver(parcel_of()) for _ in range(5)))
    assert scene.proxy.open
    before = asyncio.all_tasks()
    await scene.sink.__aexit__(None, None, None)
    await until(lambda: not scene.proxy.open, 5, "the end of every connection")
    assert not {task for task in asyncio.all_tasks() - before if not task.done()}


async def test_it_ends_in_time_while_its_broker_hangs(scene: Scene) -> None:
    assert await scene.deliver(parcel_of()) == Delivered()
    scene.proxy.hang()
    with pytest.raises(TimeoutError):
        await scene.deliver(parcel_of(), patience=0.2)
    async with asyncio.timeout(8):
        await scene.sink.__aexit__(None, None, None)


async def test_trouble_with_the_connection_is_the_operators_to_mend(scene: Scene) -> None:
    scene.known.down = True
    assert await scene.deliver(parcel_of()) == DeliveryFailed("the backend is down")
    scene.known.down = False
    connection = scene.known.known.pop("broker")
    assert isinstance(await scene.deliver(parcel_of()), DeliveryFailed)
    strange = {"endpoint_url": "ftp://planted", "bootstrap.servers": "a b", "region_name": "eu-west-1"}
    scene.known.known["broker"] = replace(connection, host="user:planted@host", extra=strange)
    target = scene.sink.parse
    receipt = (
        await scene.sink.deliver(target(scene.params()), parcel_of()) if scene.broker.kind != "sqs" else None
    )
    if receipt is not None:
        assert isinstance(receipt, DeliveryFailed)
        assert "planted" not in receipt.error


async def test_it_is_never_signed(scene: Scene) -> None:
    assert scene.sink.signed(scene.sink.parse(scene.params())) is None


async def test_a_parcel_is_json_of_its_own(scene: Scene) -> None:
    """Guards the helper: two parcels must not be mistaken for each other."""
    assert json.loads(parcel_of(1).event)["id"] != json.loads(parcel_of(1).event)["id"]
