"""The real store and the real deliverer, and a broker that is killed in the middle of deliveries."""

import asyncio
import time
from pathlib import Path

import orjson
import pytest
from brokers import Sqs, Taken
from daemon import until
from outbox import Outbox, outbox
from scene import Scene

from waitd.core.waits.wait import WaitId

MANY = 1000


async def kill(place: Scene) -> list[Taken]:
    """SIGKILL (Kafka's mock cluster takes its broker down). Returns what it had taken where that does not outlive it.

    moto keeps everything in memory. Its answers are held back while its queue is read, so that nothing is taken for delivered after that.
    """
    lost: list[Taken] = []
    if not place.broker.durable:
        place.proxy.hang()
        lost = await place.read(0)
    await asyncio.to_thread(place.broker.server.kill)
    await place.proxy.down()
    place.proxy.resume()
    return lost


async def start(place: Scene) -> None:
    await asyncio.to_thread(place.broker.server.start)
    if not place.broker.durable:
        await place.broker.prepare(place.name)
    await place.proxy.up()


async def end_all(running: Outbox, ids: list[WaitId]) -> None:
    for first in range(0, len(ids), 10):
        await asyncio.gather(*(running.end(wait_id, time.time()) for wait_id in ids[first : first + 10]))


@pytest.mark.slow
async def test_a_broker_killed_and_restarted_in_the_middle_loses_nothing_and_slows_no_other(
    place: Scene, tmp_path: Path
) -> None:
    kind = place.broker.kind
    async with outbox(tmp_path / "waitd.db", {kind: place.sink}, attempt_timeout=2.0) as running:
        ids = await running.add(MANY, {"kind": kind, **place.params()})
        ending = asyncio.create_task(end_all(running, ids))
        await until(lambda: running.delivered(kind) >= 40)
        taken = await kill(place)
        await ending
        await until(lambda: len(running.beside.parcels) == MANY, 120, "the pace of the other sink")
        await running.told(ids, kind, of=".", within=120)
        assert {d.state for d in await running.deliveries(ids, kind)} == {"delivered", "queued"}
        await start(place)
        await running.settled(240)
        after = await running.deliveries(ids, kind)
        assert {d.state for d in after} == {"delivered"}
        assert max(d.attempts for d in after) > 1
        sent = {parcel.wait_id: parcel.event for parcel in running.beside.parcels}
    taken += await place.read(0 if taken else MANY)
    bodies = {orjson.loads(one.body)["id"]: one.body for one in taken}
    assert bodies == sent  # all of them, and the same bytes as elsewhere
    if place.broker.deduplicates:
        assert len(taken) == MANY


async def test_a_redelivery_passes_a_fifo_queues_deduplication_and_an_attempt_again_does_not(
    sqs: Scene, tmp_path: Path
) -> None:
    assert isinstance(sqs.broker, Sqs)
    sqs.name += ".fifo"
    await sqs.broker.prepare(sqs.name)
    async with outbox(tmp_path / "waitd.db", {"sqs": sqs.sink}) as running:
        (wait_id,) = await running.add(1, {"kind": "sqs", **sqs.params()})
        sqs.proxy.cut_before_the_next_answer()
        await running.end(wait_id, time.time())
        await running.settled(60)
        (first,) = await sqs.read(1)
        await running.store.redeliver(wait_id)
        await running.settled(60)
        (second,) = await sqs.read(1)
        made = await running.deliveries([wait_id], "sqs")
    assert first.body == second.body
    assert [d.attempts for d in made] == [2, 1]
    assert [taken.headers["MessageDeduplicationId"] for taken in (first, second)] == [d.id for d in made]


async def test_an_event_that_no_broker_takes_is_dead_and_holds_up_no_other(
    amqp: Scene, tmp_path: Path
) -> None:
    async with outbox(tmp_path / "waitd.db", {"amqp": amqp.sink}, retry_delays=(0.0, 0.1, 0.1)) as running:
        poison = await running.add(3, {"kind": "amqp", **amqp.params(), "routing_key": "nobody"})
        good = await running.add(20, {"kind": "amqp", **amqp.params()})
        for wait_id in (*poison, *good):
            await running.end(wait_id, time.time())
        await running.settled(60)
        dead = await running.deliveries(poison, "amqp")
        assert {(d.state, d.attempts) for d in dead} == {("dead", 3)}
        assert "no queue is bound" in (dead[0].last_error or "")
        assert {d.state for d in await running.deliveries(good, "amqp")} == {"delivered"}
    assert len(await amqp.read(20)) == 20
