"""The real store and the real deliverer, and a broker that is killed in the middle of deliveries."""

import asyncio
import time
from pathlib import Path

import orjson
import pytest
from brokers import Sqs
from daemon import until
from outbox import Outbox, outbox
from scene import Scene

from waitd.core.wait import WaitId
from waitd.ports import StoredDelivery


def kill(scene: Scene) -> None:
    """Kills the broker where what it has taken outlives that, else its network."""
    if scene.broker.durable:
        scene.broker.server.kill()


async def start(scene: Scene) -> None:
    if scene.broker.durable:
        await asyncio.to_thread(scene.broker.server.start)
    await scene.proxy.up()


async def end_all(running: Outbox, ids: list[WaitId]) -> None:
    for wait_id in ids:
        await running.end(wait_id, time.time())
        await asyncio.sleep(0.002)


async def deliveries(running: Outbox, ids: list[WaitId], kind: str) -> list[StoredDelivery]:
    return [d for wait in await running.waits(ids) for d in wait.deliveries if d.sink["kind"] == kind]


@pytest.mark.slow
async def test_a_broker_killed_and_restarted_in_the_middle_loses_nothing_and_slows_no_other(
    scene: Scene, tmp_path: Path
) -> None:
    kind = scene.broker.kind
    async with outbox(tmp_path / "waitd.db", {kind: scene.sink}, attempt_timeout=2.0) as running:
        ids = await running.add(scene.broker.many, {"kind": kind, **scene.params()})
        ending = asyncio.create_task(end_all(running, ids))
        await until(lambda: len(running.beside.parcels) >= 40)
        await asyncio.to_thread(kill, scene)
        await scene.proxy.down()
        await ending
        await until(
            lambda: len(running.beside.parcels) == scene.broker.many, 10, "the pace of the other sink"
        )
        async with asyncio.timeout(10):
            while not any(d.last_error for d in await deliveries(running, ids, kind)):  # noqa: ASYNC110 - the store tells nobody
                await asyncio.sleep(0.1)
        assert {d.state for d in await deliveries(running, ids, kind)} == {"delivered", "queued"}
        await start(scene)
        await running.settled(60)
        after = await deliveries(running, ids, kind)
        assert {d.state for d in after} == {"delivered"}
        assert max(d.attempts for d in after) > 1
        sent = {parcel.wait_id: parcel.event for parcel in running.beside.parcels}
    taken = await scene.read(scene.broker.many)
    bodies = {orjson.loads(one.body)["id"]: one.body for one in taken}
    assert bodies == sent  # all of them, and the same bytes as elsewhere
    if scene.broker.deduplicates:
        assert len(taken) == scene.broker.many


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
        await running.settled(10)
        (first,) = await sqs.read(1)
        await running.store.redeliver(wait_id)
        await running.settled(10)
        (second,) = await sqs.read(1)
        made = await deliveries(running, [wait_id], "sqs")
    assert first.body == second.body
    assert [d.attempts for d in made] == [2, 1]
    assert [taken.headers["MessageDeduplicationId"] for taken in (first, second)] == [d.id for d in made]


async def test_an_event_that_no_broker_takes_is_dead_and_holds_up_no_other(
    amqp: Scene, tmp_path: Path
) -> None:
    async with outbox(tmp_path / "waitd.db", {"amqp": amqp.sink}, ladder=(0.0, 0.1, 0.1)) as running:
        poison = await running.add(3, {"kind": "amqp", **amqp.params(), "routing_key": "nobody"})
        good = await running.add(20, {"kind": "amqp", **amqp.params()})
        for wait_id in (*poison, *good):
            await running.end(wait_id, time.time())
        await running.settled(10)
        dead = [wait.deliveries[0] for wait in await running.waits(poison)]
        assert {(d.state, d.attempts) for d in dead} == {("dead", 3)}
        assert "no queue is bound" in (dead[0].last_error or "")
        assert {wait.deliveries[0].state for wait in await running.waits(good)} == {"delivered"}
    assert len(await amqp.read(20)) == 20
