"""Ending waits, the outbox and its deliveries, and what is deleted in the end."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pytest
from msgspec import structs
from store_values import (
    AIRFLOW,
    DONE,
    OTHER_WEBHOOK,
    SEEN,
    START,
    WEBHOOK,
    RecordingListener,
    WallClock,
    add,
    add_one,
    ended,
    ending,
    new_wait,
    opened,
)

from waitd.core.errors import Conflict, NotFound
from waitd.core.waits.delivery import AfterAttempt, DeliveryState
from waitd.core.waits.event import build_event
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.wait import Outcome, WaitState
from waitd.ports import OutboxItem, StoredOutcome, StoredWait, WaitFilter
from waitd.stores import Store

HOOK, OTHER_HOOK = "webhook https://example.org/hook", "webhook https://example.com/hook"
DELIVERED = AfterAttempt(DeliveryState.DELIVERED, 1, None, None)


async def due(store: Store, destination: str = HOOK, now: float = START, **more: Any) -> list[OutboxItem]:
    wanted: dict[str, Any] = {"limit": 100, "exclude": frozenset()} | more
    return list(await store.due_items(destination, now, **wanted))


async def settle(store: Store, wait: StoredWait) -> None:
    for delivery in (await store.get(wait.id)).deliveries:
        await store.save_attempt(delivery.id, DELIVERED, START)


async def test_an_end_is_stored_with_its_event_and_its_deliveries(
    store: Store, listener: RecordingListener
) -> None:
    wait = await add_one(store, sinks=[WEBHOOK, OTHER_WEBHOOK], labels={"dag_id": "ä"})
    result = await store.finish(ending(wait))
    assert isinstance(result, StoredOutcome)
    assert result.destinations == {HOOK, OTHER_HOOK}
    assert result.wait == await store.get(wait.id)
    assert listener.finished == [result]
    kept = result.wait
    assert (kept.state, kept.outcome, kept.finished_at, kept.progress) == (
        WaitState.SUCCESS,
        DONE,
        START + 60,
        SEEN,
    )
    assert [(d.sink, d.state, d.attempts, d.next_attempt_at, d.created_at) for d in kept.deliveries] == [
        (WEBHOOK, "queued", 0, START, START),
        (OTHER_WEBHOOK, "queued", 0, START, START),
    ]
    (item,), (other,) = await due(store), await due(store, OTHER_HOOK)
    expected = build_event(
        wait.id, "default", wait.spec, DONE, pokes=1, created_at=wait.created_at, finished_at=START + 60
    )
    assert orjson.loads(item.event) == expected
    assert item.event == other.event
    assert (item.sink, item.attempts, item.wait_id, item.created_at) == (WEBHOOK, 0, wait.id, START)


async def test_a_wait_ends_once(store: Store, listener: RecordingListener) -> None:
    wait = await add_one(store)
    late = replace(DONE, state=WaitState.FAILED)
    results = await asyncio.gather(store.finish(ending(wait)), store.finish(ending(wait, late)))
    assert [result is None for result in results] == [False, True]
    assert await store.finish(ending(wait, late)) is None
    assert (await store.get(wait.id)).state is WaitState.SUCCESS
    assert (len(listener.finished), len(await due(store))) == (1, 1)


async def test_the_end_of_a_wait_that_is_not_there_is_none(store: Store) -> None:
    wait = await add_one(store)
    assert await store.finish(ending(structs.replace(wait, id="gone"))) is None


async def test_many_ends_commit_together(store: Store, listener: RecordingListener) -> None:
    waits = await add(store, *[new_wait() for _ in range(1500)])
    results = await asyncio.gather(*[store.finish(ending(wait)) for wait in waits])
    assert [result.wait.id for result in results if result is not None] == [wait.id for wait in waits]
    assert len(listener.finished) == 1500
    assert await store.delivery_counts() == {"queued": 1500}
    assert await store.counts() == {("success", "http"): 1500}


async def test_a_wait_without_sinks_ends_with_nothing_to_deliver(store: Store) -> None:
    wait = await add_one(store, sinks=[])
    result = await store.finish(ending(wait))
    assert result is not None
    assert (result.destinations, result.wait.deliveries) == (frozenset(), ())


async def test_a_payload_that_is_no_json_is_left_out_and_the_end_is_not_lost(store: Store) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    wait, other = await add(store, new_wait(), new_wait())
    for hostile, progress in ((deep, SEEN), ("\ud800", replace(SEEN, state="\ud800"))):
        outcome = Outcome(WaitState.SUCCESS, hostile, "said \ud800", "success")
        target = wait if hostile is deep else other
        result = await store.finish(ending(target, outcome, progress))
        assert result is not None
        assert result.wait.outcome == Outcome(WaitState.SUCCESS, None, "said ?", "result_omitted")
        assert (await store.get(target.id)).outcome == result.wait.outcome


async def test_a_large_payload_comes_back_whole(store: Store) -> None:
    wait = await add_one(store)
    payload = {"text": "ä" * 30_000}
    await store.finish(ending(wait, replace(DONE, payload=payload)))
    outcome = (await store.get(wait.id)).outcome
    assert outcome is not None
    assert outcome.payload == payload


async def test_a_cancelled_wait_tells_every_sink_but_airflow(
    store: Store, listener: RecordingListener, clock: WallClock
) -> None:
    wait = await add_one(store, sinks=[AIRFLOW, WEBHOOK])
    clock.at += 7
    now = await store.cancel(wait.id, cancelled_outcome("cancelled", "by hand"))
    assert now == await store.get(wait.id)
    assert (now.state, now.finished_at) == (WaitState.CANCELLED, START + 7)
    assert [d.sink for d in now.deliveries] == [WEBHOOK]
    assert [(e.wait.id, e.destinations) for e in listener.finished] == [(wait.id, frozenset({HOOK}))]
    (item,) = await due(store, now=clock.at)
    assert orjson.loads(item.event)["type"] == "waitd.wait.cancelled"
    assert await store.finish(ending(wait)) is None


@pytest.mark.parametrize("state", [WaitState.SUCCESS, WaitState.FAILED, WaitState.TIMEOUT])
async def test_an_asset_event_tells_of_success_alone(store: Store, state: WaitState) -> None:
    asset = {**AIRFLOW, "mode": "asset_event"}
    wait = await add_one(store, sinks=[asset, AIRFLOW])
    ended = await store.finish(ending(wait, outcome=Outcome(state)))
    assert ended is not None
    expected = [asset, AIRFLOW] if state is WaitState.SUCCESS else [AIRFLOW]
    assert [delivery.sink for delivery in ended.wait.deliveries] == expected


async def test_only_a_waiting_wait_of_ones_own_namespace_is_cancelled(store: Store) -> None:
    wait = await add_one(store, namespace="a")
    with pytest.raises(NotFound):
        await store.cancel(wait.id, cancelled_outcome(), "b")
    with pytest.raises(NotFound):
        await store.cancel("nobody", cancelled_outcome())
    first, second = await asyncio.gather(
        store.cancel(wait.id, cancelled_outcome(), "a"),
        store.cancel(wait.id, cancelled_outcome()),
        return_exceptions=True,
    )
    assert isinstance(first, StoredWait)
    assert isinstance(second, Conflict)
    with pytest.raises(Conflict):
        await store.cancel(wait.id, cancelled_outcome())


async def test_due_parcels_come_the_longest_due_first_and_without_those_in_hand(
    store: Store, clock: WallClock
) -> None:
    waits = []
    for _ in range(4):
        waits.append(await ended(store))
        clock.at += 10
    parcels = await due(store, now=START + 20)
    assert [p.wait_id for p in parcels] == [w.id for w in waits[:3]]
    assert [p.wait_id for p in await due(store, now=START + 20, limit=2)] == [w.id for w in waits[:2]]
    in_hand = frozenset({parcels[0].id, parcels[2].id})
    assert [p.wait_id for p in await due(store, now=START + 20, exclude=in_hand)] == [waits[1].id]
    assert await due(store, OTHER_HOOK, now=START + 20) == []


async def test_destinations_are_due_when_their_first_delivery_is(store: Store, clock: WallClock) -> None:
    assert await store.due_destinations(START) == []
    assert await store.next_attempt_at() is None
    clock.at = START + 5
    await ended(store, sinks=[OTHER_WEBHOOK])
    clock.at = START
    await ended(store)
    await ended(store)
    assert await store.next_attempt_at() == START
    assert await store.due_destinations(START - 1) == []
    assert await store.due_destinations(START) == [HOOK]
    assert set(await store.due_destinations(START + 5)) == {HOOK, OTHER_HOOK}


async def test_an_attempt_decides_when_the_next_is_due(store: Store) -> None:
    wait = await ended(store)
    (item,) = await due(store)
    await store.save_attempt(item.id, AfterAttempt(DeliveryState.QUEUED, 1, START + 5, "503"), START + 1)
    assert await due(store, now=START + 4) == []
    (again,) = await due(store, now=START + 5)
    assert (again.id, again.attempts, again.event) == (item.id, 1, item.event)
    await store.save_attempt(item.id, AfterAttempt(DeliveryState.DEAD, 2, None, "410"), START + 5)
    (delivery,) = (await store.get(wait.id)).deliveries
    assert (delivery.state, delivery.attempts, delivery.next_attempt_at, delivery.last_error) == (
        "dead",
        2,
        None,
        "410",
    )
    assert await store.next_attempt_at() is None
    await store.save_attempt(item.id, AfterAttempt(DeliveryState.QUEUED, 3, START, "late"), START + 6)
    assert (await store.get(wait.id)).deliveries == (delivery,)
    assert await store.delivery_counts() == {"dead": 1}


async def test_a_sink_that_no_longer_names_a_destination_loses_no_end(store: Store) -> None:
    wait = await add_one(store, sinks=[{"kind": "webhook"}, WEBHOOK])
    result = await store.finish(ending(wait))
    assert result is not None
    assert len(result.wait.deliveries) == 2
    assert set(await store.due_destinations(START)) == set(result.destinations)


async def test_delivering_anew_adds_a_delivery_of_the_same_event(
    store: Store, listener: RecordingListener
) -> None:
    wait = await ended(store, sinks=[WEBHOOK, OTHER_WEBHOOK])
    (first,) = await due(store)
    await settle(store, wait)
    now = await store.redeliver(wait.id)
    assert now == await store.get(wait.id)
    assert [d.state for d in now.deliveries] == ["delivered", "delivered", "queued", "queued"]
    (again,) = await due(store)
    assert again.event == first.event
    assert again.id != first.id
    assert listener.redelivered == [{HOOK, OTHER_HOOK}]


async def test_delivering_anew_needs_an_ended_wait(store: Store) -> None:
    wait = await add_one(store, namespace="a")
    with pytest.raises(Conflict):
        await store.redeliver(wait.id)
    await store.finish(ending(wait))
    for wait_id, namespace in (("nobody", None), (wait.id, "b")):
        with pytest.raises(NotFound):
            await store.redeliver(wait_id, namespace)
    again = await store.redeliver(wait.id, "a")
    assert len(again.deliveries) == 2


async def test_a_cancelled_wait_is_not_delivered_anew_to_airflow(store: Store) -> None:
    wait = await add_one(store, sinks=[AIRFLOW, WEBHOOK])
    await store.cancel(wait.id, cancelled_outcome())
    assert [d.sink for d in (await store.redeliver(wait.id)).deliveries] == [WEBHOOK, WEBHOOK]


async def test_old_ended_waits_are_deleted_once_all_is_delivered(store: Store) -> None:
    settled, unsettled, waiting = await ended(store), await ended(store, key="k"), await add_one(store)
    await settle(store, settled)
    assert await store.prune(START + 60, 10) == 0, "it ended at that very moment"
    assert await store.prune(START + 61, 10) == 1
    with pytest.raises(NotFound):
        await store.get(settled.id)
    assert await store.delivery_counts() == {"queued": 1}
    assert {wait.id for wait in await store.find(WaitFilter())} == {unsettled.id, waiting.id}


async def test_deleting_is_bounded_and_begins_with_the_longest_ended(store: Store) -> None:
    waits = await add(store, *[new_wait(sinks=[]) for _ in range(5)])
    for number, wait in enumerate(waits):
        await store.finish(ending(wait, at=START - number))
    assert await store.prune(START + 1, 2) == 2
    assert {wait.id for wait in await store.find(WaitFilter())} == {wait.id for wait in waits[:3]}
    assert await store.prune(START + 1, 10) == 3


async def test_ends_are_numbered_in_commit_order_and_no_number_is_given_twice(
    database: Path, clock: WallClock
) -> None:
    async with opened(database, clock) as store:
        for wait in await add(store, *[new_wait(sinks=[]) for _ in range(3)]):
            await store.finish(ending(wait))
        assert await numbers(store) == [1, 2, 3]
        assert await store.prune(START + 61, 10) == 3
    async with opened(database, clock) as store:
        await ended(store)
        assert await numbers(store) == [4]


async def numbers(store: Store) -> list[int]:
    async with store._database.reading() as connection:
        rows = await connection.fetch_all(
            "SELECT finished_seq FROM waits WHERE state != 'waiting' ORDER BY id"
        )
    return [number for (number,) in rows]
