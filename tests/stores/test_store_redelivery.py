"""Finding deliveries and delivering anew: one by one, or the dead ones, each once."""

import asyncio
from pathlib import Path

import pytest
from store_values import (
    AIRFLOW,
    OTHER_WEBHOOK,
    START,
    WEBHOOK,
    RecordingListener,
    WallClock,
    add_one,
    ended,
    opened,
)

from waitd.core.errors import Conflict, NotFound
from waitd.core.waits.delivery import AfterAttempt, DeliveryId, DeliveryState
from waitd.ports import DeliveryFilter, Redelivered, StoredDelivery, StoredWait
from waitd.stores import Store
from waitd.stores.operations.commands import RedeliverEach
from waitd.stores.queries.waits import MAX_DELIVERIES

HOOK, OTHER_HOOK = "webhook https://example.org/hook", "webhook https://example.com/hook"
DEAD = DeliveryFilter(state="dead")


async def settle(
    store: Store, wait: StoredWait, state: DeliveryState = DeliveryState.DEAD
) -> list[StoredDelivery]:
    """All of the wait's queued deliveries have come to `state`."""
    for delivery in (await store.get(wait.id)).deliveries:
        await store.save_attempt(delivery.id, AfterAttempt(state, 3, None, "410"), START)
    return list((await store.get(wait.id)).deliveries)


async def test_deliveries_are_found_newest_first_by_everything_that_is_asked_for(store: Store) -> None:
    wait = await ended(store, sinks=[WEBHOOK, AIRFLOW])
    other = await ended(store, namespace="b")
    webhook, airflow = await settle(store, wait)
    [foreign] = (await store.get(other.id)).deliveries

    async def found(**wanted: object) -> list[DeliveryId]:
        return [d.id for d in await store.find_deliveries(DeliveryFilter(**wanted))]  # type: ignore[arg-type]

    assert await found() == [foreign.id, airflow.id, webhook.id]
    assert await store.find_deliveries(DeliveryFilter(state="dead")) == [airflow, webhook]
    assert await found(state="queued") == [foreign.id]
    assert await found(sink="airflow") == [airflow.id]
    assert await found(wait_id=other.id) == [foreign.id]
    assert await found(namespace="default") == [airflow.id, webhook.id]
    assert await found(before=airflow.id) == [webhook.id]
    assert await found(limit=2) == [foreign.id, airflow.id]
    assert await found(state="dead", sink="webhook", wait_id=wait.id, namespace="default") == [webhook.id]
    assert await found(sink="\ud800", wait_id="\ud800") == []


async def test_named_deliveries_go_out_anew_beside_the_old_ones(
    store: Store, listener: RecordingListener
) -> None:
    wait = await ended(store, sinks=[WEBHOOK, OTHER_WEBHOOK])
    first, second = await settle(store, wait)
    assert await store.due_items(HOOK, START, 10, frozenset()) == []
    assert await store.redeliver_each([second.id, second.id, first.id]) == Redelivered(2, more=False)
    now = (await store.get(wait.id)).deliveries
    assert [d.state for d in now] == ["dead", "dead", "queued", "queued"]
    assert [d.sink for d in now[2:]] == [OTHER_WEBHOOK, WEBHOOK]
    assert [d.attempts for d in now[2:]] == [0, 0]
    assert listener.redelivered == [{HOOK, OTHER_HOOK}]
    [again] = await store.due_items(HOOK, START, 10, frozenset())
    assert b"waitd.wait.success" in again.event


async def test_a_delivered_one_may_go_out_anew_too(store: Store) -> None:
    [delivery] = await settle(store, await ended(store), DeliveryState.DELIVERED)
    assert (await store.redeliver_each([delivery.id])).deliveries == 1


async def test_where_one_of_them_cannot_none_goes_out(store: Store, listener: RecordingListener) -> None:
    dead = (await settle(store, await ended(store, namespace="a")))[0]
    [queued] = (await ended(store, namespace="a")).deliveries
    old = await ended(store, supersede_key="k", namespace="a")
    await add_one(store, supersede_key="k", namespace="a")
    [superseded] = (await store.get(old.id)).deliveries
    for name, error in (("nobody", NotFound), (queued.id, Conflict), (superseded.id, Conflict)):
        with pytest.raises(error, match=str(old.id) if name == superseded.id else name):
            await store.redeliver_each([dead.id, name], "a")
    with pytest.raises(NotFound):
        await store.redeliver_each([dead.id], "b")
    assert await store.delivery_counts() == {"dead": 2, "queued": 1}
    assert listener.redelivered == []


async def test_dead_ones_go_out_anew_once_however_often_it_is_asked_for(
    store: Store, listener: RecordingListener
) -> None:
    wait = await ended(store, sinks=[WEBHOOK, OTHER_WEBHOOK])
    await settle(store, wait)
    await ended(store)
    answers = await asyncio.gather(*[store.redeliver_dead(DEAD) for _ in range(3)])
    assert sorted(answer.deliveries for answer in answers) == [0, 0, 2]
    assert (await store.redeliver_dead(DEAD)).deliveries == 0
    await settle(store, wait)
    assert await store.redeliver_dead(DEAD) == Redelivered(2, more=False), "not the first two as well"
    assert await store.delivery_counts() == {"dead": 4, "queued": 3}
    assert listener.redelivered == [{HOOK, OTHER_HOOK}] * 2


async def test_what_happened_since_dead_ones_were_looked_for_counts(store: Store) -> None:
    [delivery] = await settle(store, await ended(store))
    old = await ended(store, supersede_key="k")
    [late] = await settle(store, old)
    await add_one(store, supersede_key="k")

    async def found_before(*ids: str) -> int:
        count: int = await store._writer.execute(RedeliverEach(ids, None, dead_only=True))
        return count

    assert await found_before(late.id, "pruned") == 0
    assert [await found_before(delivery.id), await found_before(delivery.id)] == [1, 0]
    [again] = await store.find_deliveries(DeliveryFilter(state="queued"))
    assert await found_before(again.id) == 0


async def test_dead_ones_are_taken_the_oldest_first_up_to_the_limit(store: Store) -> None:
    waits = [await ended(store) for _ in range(5)]
    for wait in waits:
        await settle(store, wait)
    answers = [await store.redeliver_dead(DeliveryFilter(limit=2)) for _ in range(4)]
    assert answers == [(2, True), (2, True), (1, False), (0, False)]
    queued = await store.find_deliveries(DeliveryFilter(state="queued"))
    assert [d.wait_id for d in queued] == [wait.id for wait in reversed(waits)]


async def test_dead_ones_are_narrowed_down(store: Store) -> None:
    one = await ended(store, sinks=[WEBHOOK, AIRFLOW])
    other = await ended(store, namespace="b")
    for wait in (one, other):
        await settle(store, wait)
    assert (await store.redeliver_dead(DeliveryFilter(wait_id=one.id, sink="airflow"))).deliveries == 1
    assert (await store.redeliver_dead(DeliveryFilter(namespace="b"))).deliveries == 1
    assert (await store.redeliver_dead(DeliveryFilter())).deliveries == 1


async def test_what_was_superseded_stays_dead(store: Store) -> None:
    old = await ended(store, supersede_key="k")
    await add_one(store, supersede_key="k")
    assert [d.state for d in (await store.get(old.id)).deliveries] == ["dead"]
    assert (await store.redeliver_dead(DEAD)).deliveries == 0


async def test_a_wait_shows_the_newest_of_many_deliveries(database: Path, clock: WallClock) -> None:
    async with opened(database, clock) as store:
        wait = await ended(store)
        for _ in range(MAX_DELIVERIES + 5):
            shown = await store.redeliver(wait.id)
        all_of_them = await store.find_deliveries(DeliveryFilter(wait_id=wait.id, limit=1000))
        assert len(all_of_them) == MAX_DELIVERIES + 6
        assert list(reversed(shown.deliveries)) == all_of_them[:MAX_DELIVERIES]
