"""How waits end, the outbox and its deliveries, and the deletion of old waits."""

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
    HOOK,
    OTHER_HOOK,
    OTHER_WEBHOOK,
    SEEN,
    START,
    WEBHOOK,
    RecordingListener,
    WallClock,
    add,
    add_one,
    due,
    ended,
    ending,
    finish,
    new_wait,
    opened,
    settle,
)

from waitd.core.errors import Conflict, NotFound
from waitd.core.waits.delivery import AfterAttempt, DeliveryState
from waitd.core.waits.event import build_event
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.wait import Outcome, WaitState
from waitd.ports import StoredWait, WaitFilter
from waitd.stores import Store


async def test_a_finished_wait_is_stored_with_its_event_and_its_deliveries(
    store: Store, listener: RecordingListener
) -> None:
    wait = await add_one(store, sinks=[WEBHOOK, OTHER_WEBHOOK], labels={"dag_id": "ä"})
    result = await finish(store, wait)
    assert result.destinations == {HOOK, OTHER_HOOK}
    assert result.wait == await store.get(wait.id)
    assert listener.finished == [result]
    stored = result.wait
    assert (stored.state, stored.outcome, stored.finished_at, stored.progress) == (
        WaitState.SUCCESS,
        DONE,
        START + 60,
        SEEN,
    )
    assert [(d.sink, d.state, d.attempts, d.next_attempt_at, d.created_at) for d in stored.deliveries] == [
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


async def test_finishing_an_unknown_wait_returns_none(store: Store) -> None:
    wait = await add_one(store)
    assert await store.finish(ending(structs.replace(wait, id="gone"))) is None


async def test_many_waits_finish_in_one_commit(store: Store, listener: RecordingListener) -> None:
    waits = await add(store, *[new_wait() for _ in range(1500)])
    results = await asyncio.gather(*[store.finish(ending(wait)) for wait in waits])
    assert [result.wait.id for result in results if result is not None] == [wait.id for wait in waits]
    assert len(listener.finished) == 1500
    assert await store.delivery_counts() == {"queued": 1500}
    assert await store.counts() == {("success", "http"): 1500}


async def test_a_wait_without_sinks_has_no_deliveries(store: Store) -> None:
    result = await finish(store, await add_one(store, sinks=[]))
    assert (result.destinations, result.wait.deliveries) == (frozenset(), ())


async def test_a_payload_that_json_cannot_hold_is_left_out(store: Store) -> None:
    deep: list[Any] = []
    for _ in range(400):
        deep = [deep]
    for payload, progress in ((deep, SEEN), ("\ud800", replace(SEEN, state="\ud800"))):
        wait = await add_one(store)
        result = await finish(
            store, wait, Outcome(WaitState.SUCCESS, payload, "said \ud800", "success"), progress
        )
        assert result.wait.outcome == Outcome(WaitState.SUCCESS, None, "said ?", "result_omitted")
        assert (await store.get(wait.id)).outcome == result.wait.outcome


async def test_integers_of_over_64_bits_stay_exact(store: Store) -> None:
    payload = {"id": 2**64 + 1, "least": [-(2**63) - 1]}
    wait = await add_one(store)
    result = await finish(store, wait, Outcome(WaitState.SUCCESS, payload, "", "success"), SEEN)
    assert result.wait.outcome == Outcome(WaitState.SUCCESS, payload, "", "success")
    assert (await store.get(wait.id)).outcome == result.wait.outcome


async def test_a_large_payload_is_stored_unchanged(store: Store) -> None:
    wait = await add_one(store)
    outcome = replace(DONE, payload={"text": "ä" * 30_000})
    await finish(store, wait, outcome)
    assert (await store.get(wait.id)).outcome == outcome


async def test_a_cancelled_wait_is_delivered_to_every_sink_but_airflow(
    store: Store, listener: RecordingListener, clock: WallClock
) -> None:
    wait = await add_one(store, sinks=[AIRFLOW, WEBHOOK])
    clock.at += 7
    now = await store.cancel(wait.id, cancelled_outcome("cancelled", "by a user"))
    assert now == await store.get(wait.id)
    assert (now.state, now.finished_at) == (WaitState.CANCELLED, START + 7)
    assert [d.sink for d in now.deliveries] == [WEBHOOK]
    assert [(e.wait.id, e.destinations) for e in listener.finished] == [(wait.id, frozenset({HOOK}))]
    (item,) = await due(store, now=clock.at)
    assert orjson.loads(item.event)["type"] == "waitd.wait.cancelled"
    assert await store.finish(ending(wait)) is None


@pytest.mark.parametrize("state", [WaitState.SUCCESS, WaitState.FAILED, WaitState.TIMEOUT])
async def test_an_asset_event_is_delivered_on_success_only(store: Store, state: WaitState) -> None:
    asset = {**AIRFLOW, "mode": "asset_event"}
    result = await finish(store, await add_one(store, sinks=[asset, AIRFLOW]), Outcome(state))
    expected = [asset, AIRFLOW] if state is WaitState.SUCCESS else [AIRFLOW]
    assert [delivery.sink for delivery in result.wait.deliveries] == expected


async def test_only_a_waiting_wait_of_the_namespace_is_cancelled(store: Store) -> None:
    wait = await add_one(store, namespace="a")
    with pytest.raises(NotFound):
        await store.cancel(wait.id, cancelled_outcome(), "b")
    with pytest.raises(NotFound):
        await store.cancel("unknown", cancelled_outcome())
    first, second = await asyncio.gather(
        store.cancel(wait.id, cancelled_outcome(), "a"),
        store.cancel(wait.id, cancelled_outcome()),
        return_exceptions=True,
    )
    assert isinstance(first, StoredWait)
    assert isinstance(second, Conflict)
    with pytest.raises(Conflict):
        await store.cancel(wait.id, cancelled_outcome())


async def test_due_deliveries_are_listed_longest_due_first_without_the_excluded_ones(
    store: Store, clock: WallClock
) -> None:
    for _ in range(4):
        await ended(store)
        clock.at += 10
    first, second, third = items = await due(store, now=START + 20)
    assert [item.created_at for item in items] == [START, START + 10, START + 20]
    assert await due(store, now=START + 20, limit=2) == [first, second]
    assert await due(store, now=START + 20, exclude=frozenset({first.id, third.id})) == [second]
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


async def test_a_sink_without_a_valid_destination_does_not_keep_a_wait_from_ending(store: Store) -> None:
    result = await finish(store, await add_one(store, sinks=[{"kind": "webhook"}, WEBHOOK]))
    assert len(result.wait.deliveries) == 2
    assert set(await store.due_destinations(START)) == set(result.destinations)


async def test_redelivery_adds_deliveries_of_the_same_event(
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


async def test_only_an_ended_wait_of_the_namespace_is_redelivered(store: Store) -> None:
    wait = await add_one(store, namespace="a")
    with pytest.raises(Conflict):
        await store.redeliver(wait.id)
    await finish(store, wait)
    for wait_id, namespace in (("unknown", None), (wait.id, "b")):
        with pytest.raises(NotFound):
            await store.redeliver(wait_id, namespace)
    assert len((await store.redeliver(wait.id, "a")).deliveries) == 2


async def test_a_cancelled_wait_is_not_redelivered_to_airflow(store: Store) -> None:
    wait = await add_one(store, sinks=[AIRFLOW, WEBHOOK])
    await store.cancel(wait.id, cancelled_outcome())
    assert [d.sink for d in (await store.redeliver(wait.id)).deliveries] == [WEBHOOK, WEBHOOK]


async def test_old_ended_waits_are_deleted_after_their_deliveries(store: Store) -> None:
    settled, unsettled, waiting = await ended(store), await ended(store, key="k"), await add_one(store)
    await settle(store, settled)
    assert await store.prune(START + 60, 10) == 0, "it ended at that very moment"
    assert await store.prune(START + 61, 10) == 1
    with pytest.raises(NotFound):
        await store.get(settled.id)
    assert await store.delivery_counts() == {"queued": 1}
    assert {wait.id for wait in await store.find(WaitFilter())} == {unsettled.id, waiting.id}


async def test_the_longest_ended_waits_are_deleted_first_up_to_the_limit(store: Store) -> None:
    waits = await add(store, *[new_wait(sinks=[]) for _ in range(5)])
    for number, wait in enumerate(waits):
        await finish(store, wait, at=START - number)
    assert await store.prune(START + 1, 2) == 2
    assert {wait.id for wait in await store.find(WaitFilter())} == {wait.id for wait in waits[:3]}
    assert await store.prune(START + 1, 10) == 3


async def test_events_are_numbered_in_commit_order_and_no_number_is_used_twice(
    database: Path, clock: WallClock
) -> None:
    async with opened(database, clock) as store:
        for _ in range(3):
            await ended(store, sinks=[])
        assert [seq for seq, _ in await store.events_after(0, None, 10)] == [1, 2, 3]
        assert await store.prune(START + 61, 10) == 3
    async with opened(database, clock) as store:
        await ended(store)
        assert [seq for seq, _ in await store.events_after(3, None, 10)] == [4]
