"""Faults between the outbox and each sink: no event is lost, and no other sink is delayed.

`FAULTS` has, for each fault and sink, the steps and the error that deliveries report.
`NOT_PROVOKABLE` has the reason for each empty cell. test_broker_outages kills the brokers.
"""

import re
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import Any, NamedTuple

import orjson
import pytest
from broker_proxy import Streams
from broker_servers import PASSWORD
from brokers import ALL_SINKS, Kafka
from daemon import until
from deliveries import make_item
from http_brokers import Sqs
from kafka_cluster import NOT_ENOUGH_REPLICAS, TOPIC_FORBIDDEN, UNKNOWN_TOPIC
from kafka_sasl import SaslHandshake
from outbox import ErrorRecordingStore, outbox
from running_brokers import RunningBrokers
from sink_setup import SinkSetup, open_setup

from waitd.core.waits.delivery import Delivered

pytestmark = pytest.mark.slow

Step = Callable[[SinkSetup], Awaitable[None]]
#: How many events each fault affects.
COUNT = 5


class Fault(NamedTuple):
    """A fault: how it begins, the reported error (a pattern; "": none), and how it ends."""

    begin: Step
    error: str
    end: Step
    #: Seconds that an attempt may take, long enough for a busy machine.
    attempt_timeout: float = 15.0


async def nothing(sink_setup: SinkSetup) -> None:
    """The fault ends by itself."""


async def take_down(sink_setup: SinkSetup) -> None:
    await sink_setup.proxy.down()


async def bring_up(sink_setup: SinkSetup) -> None:
    await sink_setup.proxy.up()


async def hang(sink_setup: SinkSetup) -> None:
    sink_setup.proxy.hang()


async def resume(sink_setup: SinkSetup) -> None:
    sink_setup.proxy.resume()


async def cut_connection(sink_setup: SinkSetup) -> None:
    """Cuts a connection before its next answer.

    It is an established one, but for webhooks: those send a request again where an established
    connection was closed.
    """
    if sink_setup.broker.kind != "webhook":
        assert await sink_setup.deliver(make_item()) == Delivered()
    sink_setup.proxy.cut_before_next_answer()


async def set_wrong_credentials(sink_setup: SinkSetup) -> None:
    if isinstance(sink_setup.broker, Sqs):
        sink_setup.broker.check_credentials(True)
        return
    if isinstance(sink_setup.broker, Kafka):
        sink_setup.proxy.handshake = SaslHandshake("waitd", PASSWORD)
    sink_setup.connection = sink_setup.broker.with_wrong_credentials(sink_setup.connection)


async def restore_credentials(sink_setup: SinkSetup) -> None:
    if isinstance(sink_setup.broker, Sqs):
        sink_setup.broker.check_credentials(False)
        return
    right = sink_setup.broker.connection(sink_setup.proxy.port)
    sink_setup.connection = (
        sink_setup.broker.with_login(right) if isinstance(sink_setup.broker, Kafka) else right
    )


async def use_missing_destination(sink_setup: SinkSetup) -> None:
    """Delivers to a destination that does not exist."""
    sink_setup.name += "-later"
    if isinstance(sink_setup.broker, Kafka):  # the mock cluster creates topics on request
        sink_setup.broker.server.fail_topic(sink_setup.name, UNKNOWN_TOPIC)


async def create_destination(sink_setup: SinkSetup) -> None:
    if isinstance(sink_setup.broker, Kafka):
        sink_setup.broker.server.fail_topic(sink_setup.name, 0)
    await sink_setup.broker.create_destination(sink_setup.name)


def respond(**response: Any) -> Step:
    async def begin(sink_setup: SinkSetup) -> None:
        sink_setup.broker.set_response(**response)

    return begin


def fail_topic(code: int) -> Step:
    async def begin(sink_setup: SinkSetup) -> None:
        sink_setup.broker.server.fail_topic(sink_setup.name, code)

    return begin


async def throttle(sink_setup: SinkSetup) -> None:
    """Answers like an SQS that is throttling; moto never throttles."""
    body = b'{"__type": "com.amazonaws.sqs#RequestThrottled", "message": "planted"}'
    head = f"HTTP/1.1 403 Forbidden\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"

    async def answer(streams: Streams) -> bool:
        await streams.requests.readuntil(b"\r\n\r\n")
        streams.client.write(head.encode() + body)
        await streams.client.drain()
        await streams.requests.read()
        return False

    sink_setup.proxy.handshake = answer


async def stop_throttling(sink_setup: SinkSetup) -> None:
    sink_setup.proxy.handshake = None


async def use_untrusted_certificate(sink_setup: SinkSetup) -> None:
    sink_setup.broker.enable_tls(sink_setup.proxy)
    sink_setup.connection = sink_setup.broker.with_tls(sink_setup.connection)


async def stop_verifying(sink_setup: SinkSetup) -> None:
    connection = sink_setup.broker.connection(sink_setup.proxy.port)
    sink_setup.connection = sink_setup.broker.with_tls(connection, verify=False)


def each(kinds: Iterable[str], *fault: Any) -> dict[str, Fault]:
    return {kind: Fault(*fault) for kind in kinds}


NO_ANSWER = r"No answer within 2 s\.|did not answer in time|could not connect to .* in time"
BROKEN = "could not connect|was closed before|closed the channel before|broke before"
FAULTS: dict[str, dict[str, Fault]] = {
    "down at start": each(ALL_SINKS, take_down, "could not connect", bring_up),
    "a hang": each(ALL_SINKS, hang, NO_ANSWER, resume, 2.0),
    "a cut before the acknowledgement": {
        **each(ALL_SINKS.keys() - {"kafka"}, cut_connection, BROKEN, nothing),
        "kafka": Fault(cut_connection, "", nothing),  # its producer resends by itself
    },
    "a missing destination": {
        "sqs": Fault(use_missing_destination, "the queue does not exist", create_destination),
        "nats": Fault(use_missing_destination, "no JetStream stream has this subject", create_destination),
        "kafka": Fault(use_missing_destination, "the topic does not exist", create_destination),
        "amqp": Fault(use_missing_destination, "the exchange does not exist", create_destination),
        "webhook": Fault(respond(status=404), "the receiver answered 404", respond()),
    },
    "wrong credentials": {
        "sqs": Fault(set_wrong_credentials, "SQS does not accept the connection's credentials", restore_credentials),
        "redis": Fault(set_wrong_credentials, "does not accept the connection's login", restore_credentials),
        "nats": Fault(set_wrong_credentials, "NATS does not accept the connection's credentials", restore_credentials),
        "kafka": Fault(set_wrong_credentials, "Kafka does not accept the connection's credentials", restore_credentials),
        "amqp": Fault(set_wrong_credentials, "does not accept the connection's login", restore_credentials),
        "webhook": Fault(set_wrong_credentials, "the receiver answered 401", restore_credentials),
    },
    "a missing permission": {
        "kafka": Fault(fail_topic(TOPIC_FORBIDDEN), "may not write to the topic", fail_topic(0)),
        "webhook": Fault(respond(status=403), "the receiver answered 403", respond()),
    },
    "an untrusted certificate": each(ALL_SINKS.keys() - {"sqs", "webhook"}, use_untrusted_certificate, "TLS certificate", stop_verifying),
    "throttling": {
        "sqs": Fault(throttle, "SQS is throttling requests", stop_throttling),
        "webhook": Fault(respond(status=429, headers={"Retry-After": "1"}), "the receiver answered 429", respond()),
    },
    "a failing server": {
        "webhook": Fault(respond(status=500), "the receiver answered 500", respond()),
    },
}  # fmt: skip
CREATED_BY_XADD = "XADD creates the stream; test_redis has a key of another type"
NO_STATUS = "it has no HTTP status; test_nats and test_amqp have a full stream and queue"
NOT_PROVOKABLE: dict[str, dict[str, str]] = {
    "a missing destination": {"redis": CREATED_BY_XADD},
    "a missing permission": {
        "sqs": "moto has no permissions; the error is in test_sqs",
        "redis": "the login of the test server has every permission",
        "nats": "test_nats, with another subject",
        "amqp": "RabbitMQ closes the channel as for a missing exchange: `ChannelAccessRefused`",
    },
    "an untrusted certificate": {
        "sqs": "the queue's URL would change as well: test_broker_tls",
        "webhook": "test_webhook_failures",
    },
    "throttling": dict.fromkeys(("redis", "nats", "kafka", "amqp"), NO_STATUS),
    "a failing server": {
        "sqs": "test_sqs",
        **dict.fromkeys(("redis", "nats", "kafka", "amqp"), NO_STATUS),
    },
}


def test_every_cell_of_the_table_is_filled() -> None:
    for fault, lines in FAULTS.items():
        reasons = NOT_PROVOKABLE.get(fault, {})
        assert lines.keys() | reasons.keys() == ALL_SINKS.keys(), fault
        assert not lines.keys() & reasons.keys()
        assert all(reasons.values())


@pytest.mark.parametrize(
    ("kind", "name"), [(kind, name) for kind in ALL_SINKS for name in FAULTS if kind in FAULTS[name]]
)
async def test_a_fault_loses_nothing_slows_no_other_sink_and_is_reported(
    brokers: RunningBrokers, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str
) -> None:
    # A missing topic must be reported before the attempt times out, as with the default timeouts.
    monkeypatch.setattr("waitd.sinks.brokers.kafka.REQUEST_TIMEOUT", 500)
    fault = FAULTS[name][kind]
    async with open_setup(brokers.get(kind)) as sink_setup:
        await fault.begin(sink_setup)
        async with outbox(
            tmp_path / "waitd.db", {kind: sink_setup.sink}, attempt_timeout=fault.attempt_timeout
        ) as running:
            ids = await running.add(COUNT, {"kind": kind, **sink_setup.params()})
            await running.finish_all(ids)
            await until(lambda: len(running.other_sink.items) == COUNT, what="the other sink was delayed")
            if fault.error and fault.end is not nothing:
                await running.wait_for_error(ids, kind, pattern=fault.error, within=60)
            await fault.end(sink_setup)
            await running.wait_until_settled(60)
            after = await running.deliveries(ids, kind)
            assert {(d.state, d.last_error) for d in after} == {("delivered", None)}
            assert (max(d.attempts for d in after) > 1) is bool(fault.error)
            errors = [error for d in after for error in ErrorRecordingStore.errors.get(d.id, ())]
            assert any(re.search(fault.error, error) for error in errors) is bool(fault.error), errors
            sent = {item.wait_id: item.event for item in running.other_sink.items}
            messages = await sink_setup.read(COUNT)
    bodies = {orjson.loads(message.body)["id"]: message.body for message in messages}
    assert {wait_id: bodies.get(wait_id) for wait_id in sent} == sent


async def test_a_too_large_event_is_dead_and_delays_no_other(sink_setup: SinkSetup, tmp_path: Path) -> None:
    kind = sink_setup.broker.kind
    async with outbox(
        tmp_path / "waitd.db",
        {kind: sink_setup.sink},
        retry_delays=(0.0, 0.05, 0.1, 0.3),
        attempt_timeout=15.0,
    ) as running:
        large, *small = await running.add(1 + COUNT, {"kind": kind, **sink_setup.params()})
        await running.finish(large, time.time(), "x" * (sink_setup.broker.max_bytes + 1))
        await running.finish_all(small)
        await running.wait_until_settled(60)
        (dead,) = await running.deliveries([large], kind)
        assert dead.state == "dead"
        # Redis closes the connection, and a 413 may be temporary: both are retried.
        retried = kind in {"redis", "webhook"}
        assert dead.attempts == (4 if retried else 1)
        assert ("larger" in (dead.last_error or "")) is not retried
        assert {d.state for d in await running.deliveries(small, kind)} == {"delivered"}


async def test_too_few_replicas_are_retried_by_the_producer(kafka: SinkSetup) -> None:
    item = make_item()
    kafka.broker.server.fail_produce([NOT_ENOUGH_REPLICAS])
    assert await kafka.deliver(item) == Delivered()  # the producer retries by itself
    assert [received.body for received in await kafka.read(1)] == [item.event]


async def test_a_410_is_dead_at_once(webhook: SinkSetup, tmp_path: Path) -> None:
    await respond(status=410)(webhook)
    async with outbox(tmp_path / "waitd.db", {"webhook": webhook.sink}) as running:
        ids = await running.add(COUNT, {"kind": "webhook", **webhook.params()})
        await running.finish_all(ids)
        await running.wait_until_settled(10)
        rejected = await running.deliveries(ids, "webhook")
        assert {(d.state, d.attempts, d.last_error) for d in rejected} == {
            ("dead", 1, "the receiver answered 410 Gone")
        }
        await respond()(webhook)
        await running.store.redeliver(ids[0])
        await running.wait_until_settled(10)
        first, second = await running.deliveries(ids[:1], "webhook")
        assert (first.state, second.state) == ("dead", "delivered")  # the history is kept
        assert len(running.other_sink.items) == COUNT + 1
