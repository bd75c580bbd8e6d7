"""JetStream only: streams, subjects, and deduplication."""

from dataclasses import replace

import pytest
from deliveries import failure, make_item
from nats.aio.client import Client
from sink_setup import SinkSetup

from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryId, DeliveryRejected


async def use_stream(setup: SinkSetup, name: str, **options: object) -> None:
    await setup.broker.create_destination(name, **options)
    setup.name = name


async def test_a_repeated_delivery_is_deduplicated_but_not_a_redelivery(nats: SinkSetup) -> None:
    item = make_item()
    redelivery = replace(item, id=DeliveryId("another"))
    assert [await nats.deliver(sent) for sent in (item, item, redelivery)] == [Delivered()] * 3
    assert [received.headers["delivery_id"] for received in await nats.read(2)] == [item.id, "another"]


async def test_a_subject_without_a_stream_is_a_failure(nats: SinkSetup) -> None:
    assert await nats.deliver(make_item(), subject="no.stream") == DeliveryFailed(
        "no JetStream stream has this subject"
    )


async def test_a_full_stream_is_a_failure(nats: SinkSetup) -> None:
    await use_stream(nats, nats.name + "full", max_msgs=1, discard="new")
    assert await nats.deliver(make_item()) == Delivered()
    assert "maximum messages" in failure(await nats.deliver(make_item()))


async def test_an_event_over_the_streams_size_limit_is_rejected(nats: SinkSetup) -> None:
    await use_stream(nats, nats.name + "small", max_msg_size=200)
    assert isinstance(await nats.deliver(make_item(size=1000)), DeliveryRejected)


async def test_a_forbidden_subject_fails_at_once(nats: SinkSetup) -> None:
    receipt = await nats.deliver(make_item(), within=5, subject="forbidden.fruit")
    assert receipt == DeliveryFailed("this login may not publish to the subject")
    assert await nats.deliver(make_item()) == Delivered()


async def test_an_answer_without_an_acknowledgement_is_a_failure(nats: SinkSetup) -> None:
    client = await nats.broker.client()

    async def answer(message: object) -> None:
        await message.respond(b"thank you")  # type: ignore[attr-defined]  # nats.Msg

    await client.subscribe("chatty.service", cb=answer)
    await client.flush()
    receipt = await nats.deliver(make_item(), subject="chatty.service")
    await client.close()
    assert receipt == DeliveryFailed("the answer is not a JetStream acknowledgement")


async def test_a_lost_connection_that_the_library_does_not_report_is_detected(
    nats: SinkSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If data was still to be sent, the library's `drain` raises and no callback runs."""

    async def failing(self: Client, *_: object) -> None:
        self._status = Client.CLOSED
        raise ConnectionResetError("Connection lost")

    item = make_item()
    assert await nats.deliver(make_item()) == Delivered()
    nats.proxy.cut_before_next_answer()
    with monkeypatch.context() as patched:
        patched.setattr(Client, "_close", failing)
        receipt = await nats.deliver(item, within=10)
    assert receipt == DeliveryFailed("the connection to NATS was closed before it answered")
    assert await nats.deliver(item) == Delivered()
