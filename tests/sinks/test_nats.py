"""What only JetStream has."""

import pytest
from brokers import Nats, parcel_of
from nats.aio.client import Client
from scene import Scene

from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected


async def prepared(scene: Scene, name: str, **options: object) -> None:
    assert isinstance(scene.broker, Nats)
    await scene.broker.prepare(name, **options)
    scene.name = name


async def test_a_repeated_delivery_is_kept_once_and_a_redelivery_again(nats: Scene) -> None:
    from dataclasses import replace

    from waitd.core.waits.delivery import DeliveryId

    parcel = parcel_of()
    again = replace(parcel, id=DeliveryId("another"))
    assert [await nats.deliver(p) for p in (parcel, parcel, again)] == [Delivered()] * 3
    assert [taken.headers["delivery_id"] for taken in await nats.read(2)] == [parcel.id, "another"]


async def test_a_subject_that_no_stream_listens_to_is_refused(nats: Scene) -> None:
    assert await nats.deliver(parcel_of(), subject="nobody.listens") == DeliveryFailed(
        "no JetStream stream listens to the subject"
    )


async def test_a_full_stream_is_refused(nats: Scene) -> None:
    await prepared(nats, nats.name + "full", max_msgs=1, discard="new")
    assert await nats.deliver(parcel_of()) == Delivered()
    receipt = await nats.deliver(parcel_of())
    assert isinstance(receipt, DeliveryFailed)
    assert "maximum messages" in receipt.error


async def test_an_event_larger_than_the_stream_takes_is_gone(nats: Scene) -> None:
    await prepared(nats, nats.name + "small", max_msg_size=200)
    assert isinstance(await nats.deliver(parcel_of(size=1000)), DeliveryRejected)


async def test_a_subject_the_login_may_not_publish_to_is_refused_at_once(nats: Scene) -> None:
    receipt = await nats.deliver(parcel_of(), patience=5, subject="forbidden.fruit")
    assert receipt == DeliveryFailed("this login may not publish to the subject")
    assert await nats.deliver(parcel_of()) == Delivered()


async def test_an_answer_that_is_no_acknowledgement_is_no_delivery(nats: Scene) -> None:
    assert isinstance(nats.broker, Nats)
    client = await nats.broker.client()

    async def answer(message: object) -> None:
        await message.respond(b"thank you")  # type: ignore[attr-defined]  # nats.Msg

    await client.subscribe("chatty.service", cb=answer)
    await client.flush()
    receipt = await nats.deliver(parcel_of(), subject="chatty.service")
    await client.close()
    assert receipt == DeliveryFailed("the answer is no acknowledgement of JetStream")


async def test_a_loss_that_the_library_fails_to_tell_of_is_seen(
    nats: Scene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does where an event was still to be sent: its `drain` raises, and what it would have called is not called."""

    async def failing(self: Client, *_: object) -> None:
        self._status = Client.CLOSED
        raise ConnectionResetError("Connection lost")

    parcel = parcel_of()
    assert await nats.deliver(parcel_of()) == Delivered()
    nats.proxy.cut_before_the_next_answer()
    with monkeypatch.context() as patched:
        patched.setattr(Client, "_close", failing)
        receipt = await nats.deliver(parcel, patience=10)
    assert receipt == DeliveryFailed("the connection to NATS was closed before it answered")
    assert await nats.deliver(parcel) == Delivered()
