"""Lists of deliveries, and redelivery: of single deliveries, or of dead ones, each once."""

import asyncio

import pytest
from store_values import (
    AIRFLOW,
    HOOK,
    OTHER_HOOK,
    OTHER_WEBHOOK,
    WEBHOOK,
    RecordingListener,
    add_one,
    due,
    ended,
    settle,
)

from waitd.core.errors import Conflict, NotFound
from waitd.core.waits.delivery import DeliveryState
from waitd.ports import DeliveryFilter, Redelivered
from waitd.stores import Store
from waitd.stores.operations.commands import RedeliverEach
from waitd.stores.queries.waits import MAX_DELIVERIES

DEAD = DeliveryState.DEAD
ALL_DEAD = DeliveryFilter(state="dead")


async def test_deliveries_are_filtered_and_listed_newest_first(store: Store) -> None:
    wait = await ended(store, sinks=[WEBHOOK, AIRFLOW])
    other = await ended(store, namespace="b")
    webhook, airflow = await settle(store, wait, DEAD)
    [foreign] = (await store.get(other.id)).deliveries
    for filter_, expected in (
        (DeliveryFilter(), [foreign, airflow, webhook]),
        (DeliveryFilter(state="dead"), [airflow, webhook]),
        (DeliveryFilter(state="queued"), [foreign]),
        (DeliveryFilter(sink="airflow"), [airflow]),
        (DeliveryFilter(wait_id=other.id), [foreign]),
        (DeliveryFilter(namespace="default"), [airflow, webhook]),
        (DeliveryFilter(before=airflow.id), [webhook]),
        (DeliveryFilter(limit=2), [foreign, airflow]),
        (DeliveryFilter(state="dead", sink="webhook", wait_id=wait.id, namespace="default"), [webhook]),
        (DeliveryFilter(sink="\ud800", wait_id="\ud800"), []),
    ):
        assert await store.find_deliveries(filter_) == expected, filter_


async def test_redelivering_by_id_adds_deliveries_beside_the_old_ones(
    store: Store, listener: RecordingListener
) -> None:
    wait = await ended(store, sinks=[WEBHOOK, OTHER_WEBHOOK])
    first, second = await settle(store, wait, DEAD)
    assert await due(store) == []
    assert await store.redeliver_each([second.id, second.id, first.id]) == Redelivered(2, more=False)
    now = (await store.get(wait.id)).deliveries
    assert [d.state for d in now] == ["dead", "dead", "queued", "queued"]
    assert [d.sink for d in now[2:]] == [OTHER_WEBHOOK, WEBHOOK]
    assert [d.attempts for d in now[2:]] == [0, 0]
    assert listener.redelivered == [{HOOK, OTHER_HOOK}]
    [again] = await due(store)
    assert b"waitd.wait.success" in again.event


async def test_a_delivered_delivery_may_be_redelivered(store: Store) -> None:
    [delivery] = await settle(store, await ended(store))
    assert (await store.redeliver_each([delivery.id])).deliveries == 1


async def test_if_one_delivery_is_refused_none_is_redelivered(
    store: Store, listener: RecordingListener
) -> None:
    [dead] = await settle(store, await ended(store, namespace="a"), DEAD)
    [queued] = (await ended(store, namespace="a")).deliveries
    old = await ended(store, supersede_key="k", namespace="a")
    await add_one(store, supersede_key="k", namespace="a")
    [superseded] = (await store.get(old.id)).deliveries
    for name, error in (("unknown", NotFound), (queued.id, Conflict), (superseded.id, Conflict)):
        with pytest.raises(error, match=str(old.id) if name == superseded.id else name):
            await store.redeliver_each([dead.id, name], "a")
    with pytest.raises(NotFound):
        await store.redeliver_each([dead.id], "b")
    assert await store.delivery_counts() == {"dead": 2, "queued": 1}
    assert listener.redelivered == []


async def test_concurrent_requests_redeliver_dead_deliveries_once(
    store: Store, listener: RecordingListener
) -> None:
    wait = await ended(store, sinks=[WEBHOOK, OTHER_WEBHOOK])
    await settle(store, wait, DEAD)
    await ended(store)
    results = await asyncio.gather(*[store.redeliver_dead(ALL_DEAD) for _ in range(3)])
    assert sorted(result.deliveries for result in results) == [0, 0, 2]
    assert (await store.redeliver_dead(ALL_DEAD)).deliveries == 0
    await settle(store, wait, DEAD)
    assert await store.redeliver_dead(ALL_DEAD) == Redelivered(2, more=False), "not the first two as well"
    assert await store.delivery_counts() == {"dead": 4, "queued": 3}
    assert listener.redelivered == [{HOOK, OTHER_HOOK}] * 2


async def test_dead_deliveries_are_checked_again_in_the_transaction(store: Store) -> None:
    [delivery] = await settle(store, await ended(store), DEAD)
    [late] = await settle(store, await ended(store, supersede_key="k"), DEAD)
    await add_one(store, supersede_key="k")

    async def redeliver(*ids: str) -> int:
        return await store._execute(RedeliverEach(ids, None, dead_only=True))

    assert await redeliver(late.id, "pruned") == 0
    assert [await redeliver(delivery.id), await redeliver(delivery.id)] == [1, 0]
    [again] = await store.find_deliveries(DeliveryFilter(state="queued"))
    assert await redeliver(again.id) == 0


async def test_dead_deliveries_are_redelivered_oldest_first_up_to_the_limit(store: Store) -> None:
    waits = [await ended(store) for _ in range(5)]
    for wait in waits:
        await settle(store, wait, DEAD)
    results = [await store.redeliver_dead(DeliveryFilter(limit=2)) for _ in range(4)]
    assert results == [(2, True), (2, True), (1, False), (0, False)]
    queued = await store.find_deliveries(DeliveryFilter(state="queued"))
    assert [d.wait_id for d in queued] == [wait.id for wait in reversed(waits)]


async def test_dead_deliveries_are_filtered(store: Store) -> None:
    one = await ended(store, sinks=[WEBHOOK, AIRFLOW])
    other = await ended(store, namespace="b")
    for wait in (one, other):
        await settle(store, wait, DEAD)
    assert (await store.redeliver_dead(DeliveryFilter(wait_id=one.id, sink="airflow"))).deliveries == 1
    assert (await store.redeliver_dead(DeliveryFilter(namespace="b"))).deliveries == 1
    assert (await store.redeliver_dead(DeliveryFilter())).deliveries == 1


async def test_deliveries_of_superseded_waits_stay_dead(store: Store) -> None:
    old = await ended(store, supersede_key="k")
    await add_one(store, supersede_key="k")
    assert [d.state for d in (await store.get(old.id)).deliveries] == ["dead"]
    assert (await store.redeliver_dead(ALL_DEAD)).deliveries == 0


async def test_a_wait_shows_the_newest_of_many_deliveries(store: Store) -> None:
    wait = await ended(store)
    for _ in range(MAX_DELIVERIES + 5):
        shown = await store.redeliver(wait.id)
    deliveries = await store.find_deliveries(DeliveryFilter(wait_id=wait.id, limit=1000))
    assert len(deliveries) == MAX_DELIVERIES + 6
    assert list(reversed(shown.deliveries)) == deliveries[:MAX_DELIVERIES]


async def test_a_wait_is_read_with_the_deliveries_that_fit(store: Store) -> None:
    large, small = ({**WEBHOOK, "headers": {"x-fill": "x" * size}} for size in (30_000, 10))
    for sink, shown in ((large, 8), (small, 10)):
        wait = await ended(store, sinks=[sink])
        for _ in range(9):
            await settle(store, wait)
            await store.redeliver(wait.id)
        deliveries = (await store.get(wait.id)).deliveries
        assert len(deliveries) == shown
        assert deliveries[-1].state == "queued", "the newest ones"
