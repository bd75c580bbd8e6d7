"""Supersede keys: one wait holds a key, and a wait that loses it delivers nothing more."""

import pytest
from store_values import START, RecordingListener, add_one, due, ended, ending, new_wait, settle

from waitd.core.errors import Conflict
from waitd.core.waits.delivery import AfterAttempt, DeliveryState
from waitd.core.waits.wait import WaitState
from waitd.ports import Inserted, StoredOutcome, StoredWait
from waitd.stores import Store
from waitd.stores.operations.insert import SUPERSEDED

CANCELLED = WaitState.CANCELLED


async def states(store: Store, wait: StoredWait) -> list[tuple[str, str | None]]:
    return [(d.state, d.last_error) for d in (await store.get(wait.id)).deliveries]


async def test_a_new_wait_cancels_the_older_one_and_reports_it(
    store: Store, listener: RecordingListener
) -> None:
    older = await add_one(store, supersede_key="k")
    newer = await add_one(store, supersede_key="k")
    now = await store.get(older.id)
    assert (now.state, now.outcome, now.deliveries) == (CANCELLED, SUPERSEDED, ())
    assert listener.finished == [StoredOutcome(now, frozenset())]
    assert [wait.id for wait in await store.load_waiting(None, 10)] == [newer.id]
    assert await store.finish(ending(older)) is None


async def test_a_new_wait_stops_the_deliveries_of_an_ended_one(
    store: Store, listener: RecordingListener
) -> None:
    older = await ended(store, supersede_key="k")
    (item,) = await due(store)
    await add_one(store, supersede_key="k")
    assert await states(store, older) == [("dead", "superseded")]
    assert await due(store) == []
    # An attempt was in progress meanwhile; its failure must not queue the delivery again.
    await store.save_attempt(item.id, AfterAttempt(DeliveryState.QUEUED, 1, START + 5, "503"), START)
    assert await states(store, older) == [("dead", "superseded")]
    assert (await store.get(older.id)).state is WaitState.SUCCESS
    assert len(listener.finished) == 1


async def test_a_successful_delivery_stays_delivered(store: Store) -> None:
    older = await ended(store, supersede_key="k")
    await settle(store, older)
    await add_one(store, supersede_key="k")
    assert await states(store, older) == [("delivered", None)]


@pytest.mark.parametrize("has_ended", [True, False])
async def test_a_superseded_wait_is_not_redelivered(store: Store, has_ended: bool) -> None:
    older = await (ended if has_ended else add_one)(store, supersede_key="k")
    await add_one(store, supersede_key="k")
    with pytest.raises(Conflict, match="superseded"):
        await store.redeliver(older.id)


async def test_a_replay_supersedes_nothing(store: Store, listener: RecordingListener) -> None:
    older = await add_one(store, key="1", supersede_key="k")
    newer = await add_one(store, key="2", supersede_key="k")
    (replay,) = await store.insert([new_wait(key="1", supersede_key="k")])
    assert isinstance(replay, Inserted)
    assert (replay.wait.id, replay.wait.state, replay.created) == (older.id, CANCELLED, False)
    assert (await store.get(newer.id)).state is WaitState.WAITING
    assert len(listener.finished) == 1


async def test_the_last_wait_of_a_batch_holds_the_key(store: Store, listener: RecordingListener) -> None:
    before = await add_one(store, supersede_key="k")
    listener.inserted.clear()
    answers = await store.insert(
        [new_wait(supersede_key="k"), new_wait(supersede_key="other"), new_wait(supersede_key="k")]
    )
    first, other, last = [answer.wait for answer in answers if isinstance(answer, Inserted)]
    assert {wait.id for wait in await store.load_waiting(None, 10)} == {other.id, last.id}
    assert [wait.id for wait in listener.inserted] == [other.id, last.id]
    assert [e.wait.id for e in listener.finished] == [before.id, first.id]
    now = await store.get(first.id)
    assert (now.state, now.outcome) == (CANCELLED, SUPERSEDED)


async def test_a_key_belongs_to_its_namespace(store: Store) -> None:
    one = await add_one(store, supersede_key="k", namespace="a")
    await add_one(store, supersede_key="k", namespace="b")
    assert (await store.get(one.id)).state is WaitState.WAITING


async def test_a_key_is_taken_over_any_number_of_times(store: Store) -> None:
    waits = [await (ended if turn % 2 else add_one)(store, supersede_key="k") for turn in range(7)]
    assert [(await store.get(w.id)).state for w in waits[::2]] == [CANCELLED] * 3 + [WaitState.WAITING]
    for wait in waits[1::2]:
        assert await states(store, wait) == [("dead", "superseded")]
