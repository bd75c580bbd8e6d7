"""Brokers that are killed during deliveries from a real store."""

import asyncio
import time
from pathlib import Path

import orjson
import pytest
from broker_adapter import ReceivedMessage
from daemon import until
from outbox import Outbox, outbox
from sink_setup import SinkSetup

from waitd.core.waits.wait import WaitId
from waitd.engine import deliverer

COUNT = 1000
#: The least pace of deliveries during and after an outage, a second: all arrive within seconds, and
#: none uses up its attempts before the broker is back.
MIN_RATE = 200.0


async def kill(sink_setup: SinkSetup) -> list[ReceivedMessage]:
    """Kills the broker; returns its messages if they do not survive that.

    Kafka's mock cluster takes its broker down instead. moto keeps messages in memory, so its
    answers are held back while its queue is read: no later message counts as delivered.
    """
    messages: list[ReceivedMessage] = []
    if not sink_setup.broker.durable:
        sink_setup.proxy.hang()
        messages = await sink_setup.read(0)
    await asyncio.to_thread(sink_setup.broker.server.kill)
    await sink_setup.proxy.down()
    sink_setup.proxy.resume()
    return messages


async def start(sink_setup: SinkSetup) -> None:
    await asyncio.to_thread(sink_setup.broker.server.start)
    if not sink_setup.broker.durable:
        await sink_setup.broker.create_destination(sink_setup.name)
    await sink_setup.proxy.up()


async def finish_concurrently(running: Outbox, ids: list[WaitId]) -> None:
    for first in range(0, len(ids), 10):
        await asyncio.gather(*(running.finish(wait_id, time.time()) for wait_id in ids[first : first + 10]))


@pytest.mark.slow
@pytest.mark.long
async def test_killing_and_restarting_a_broker_loses_nothing_and_slows_no_other_sink(
    sink_setup: SinkSetup, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deliverer, "MIN_RATE", MIN_RATE)
    kind = sink_setup.broker.kind
    async with outbox(tmp_path / "waitd.db", {kind: sink_setup.sink}, attempt_timeout=2.0) as running:
        ids = await running.add(COUNT, {"kind": kind, **sink_setup.params()})
        finishing = asyncio.create_task(finish_concurrently(running, ids))
        await until(lambda: running.delivered(kind) >= 40)
        received = await kill(sink_setup)
        await finishing
        await until(lambda: len(running.other_sink.items) == COUNT, 120, "the other sink was delayed")
        await running.wait_for_error(ids, kind, pattern=".", within=120)
        assert {d.state for d in await running.deliveries(ids, kind)} == {"delivered", "queued"}
        await start(sink_setup)
        await running.wait_until_settled(240)
        after = await running.deliveries(ids, kind)
        assert {d.state for d in after} == {"delivered"}
        assert max(d.attempts for d in after) > 1
        sent = {item.wait_id: item.event for item in running.other_sink.items}
    received += await sink_setup.read(0 if received else COUNT)
    bodies = {orjson.loads(message.body)["id"]: message.body for message in received}
    assert bodies == sent  # every event, with the bytes that the other sink received
    if sink_setup.broker.deduplicates:
        assert len(received) == COUNT


async def test_a_fifo_queue_deduplicates_attempts_but_not_redeliveries(
    sqs: SinkSetup, tmp_path: Path
) -> None:
    sqs.name += ".fifo"
    await sqs.broker.create_destination(sqs.name)
    async with outbox(tmp_path / "waitd.db", {"sqs": sqs.sink}) as running:
        (wait_id,) = await running.add(1, {"kind": "sqs", **sqs.params()})
        sqs.proxy.cut_before_next_answer()
        await running.finish_all([wait_id])
        await running.wait_until_settled(60)
        (first,) = await sqs.read(1)
        await running.store.redeliver(wait_id)
        await running.wait_until_settled(60)
        (second,) = await sqs.read(1)
        deliveries = await running.deliveries([wait_id], "sqs")
    assert first.body == second.body
    assert [d.attempts for d in deliveries] == [2, 1]
    assert [received.headers["MessageDeduplicationId"] for received in (first, second)] == [
        d.id for d in deliveries
    ]


async def test_an_undeliverable_event_is_dead_and_delays_no_other(amqp: SinkSetup, tmp_path: Path) -> None:
    async with outbox(tmp_path / "waitd.db", {"amqp": amqp.sink}, retry_delays=(0.0, 0.1, 0.1)) as running:
        unroutable = await running.add(3, {"kind": "amqp", **amqp.params(), "routing_key": "unbound"})
        good = await running.add(20, {"kind": "amqp", **amqp.params()})
        await running.finish_all([*unroutable, *good])
        await running.wait_until_settled(60)
        dead = await running.deliveries(unroutable, "amqp")
        assert {(d.state, d.attempts) for d in dead} == {("dead", 3)}
        assert "no queue is bound" in (dead[0].last_error or "")
        assert {d.state for d in await running.deliveries(good, "amqp")} == {"delivered"}
    assert len(await amqp.read(20)) == 20
