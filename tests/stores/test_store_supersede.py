"""A supersede key: at most one wait holds it, and nothing is delivered of those that lost it."""

from typing import Any

import pytest
from store_values import START, RecordingListener, add_one, ended, ending, new_wait

from waitd.core.errors import Conflict
from waitd.core.waits.delivery import AfterAttempt, DeliveryState
from waitd.core.waits.wait import WaitState
from waitd.ports import Inserted
from waitd.stores import Store

CANCELLED = WaitState.CANCELLED


async def states(store: Store, wait: Any) -> list[tuple[str, str | None]]:
    return [(d.state, d.last_error) for d in (await store.get(wait.id)).deliveries]


async def test_a_new_wait_cancels_the_older_one_and_says_so(
    store: Store, listener: RecordingListener
) -> None:
    older = await add_one(store, supersede_key="k")
    newer = await add_one(store, supersede_key="k")
    now = await store.get(older.id)
    assert now.outcome is not None
    assert (now.state, now.outcome.reason, now.deliveries) == (CANCELLED, "superseded", ())
    assert [(e.wait.id, e.wait.state, e.destinations) for e in listener.finished] == [
        (older.id, CANCELLED, frozenset())
    ]
    assert [wait.id for wait in await store.load_waiting(None, 10)] == [newer.id]
    assert await store.finish(ending(older)) is None


async def test_a_new_wait_stops_what_an_ended_one_has_not_delivered(
    store: Store, listener: RecordingListener
) -> None:
    older = await ended(store, supersede_key="k")
    (item,) = await store.due_items("webhook https://example.org/hook", START, 10, frozenset())
    await add_one(store, supersede_key="k")
    assert await states(store, older) == [("dead", "superseded")]
    assert await store.due_items("webhook https://example.org/hook", START, 10, frozenset()) == []
    # An attempt was on its way meanwhile; its failure must not queue it anew.
    await store.save_attempt(item.id, AfterAttempt(DeliveryState.QUEUED, 1, START + 5, "503"), START)
    assert await states(store, older) == [("dead", "superseded")]
    assert (await store.get(older.id)).state is WaitState.SUCCESS
    assert len(listener.finished) == 1


async def test_what_was_delivered_stays_delivered(store: Store) -> None:
    older = await ended(store, supersede_key="k")
    (delivery,) = older.deliveries
    await store.save_attempt(delivery.id, AfterAttempt(DeliveryState.DELIVERED, 1, None, None), START)
    await add_one(store, supersede_key="k")
    assert await states(store, older) == [("delivered", None)]


@pytest.mark.parametrize("over", [True, False])
async def test_a_superseded_wait_is_not_delivered_anew(store: Store, over: bool) -> None:
    older = await (ended if over else add_one)(store, supersede_key="k")
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


async def test_the_last_of_a_batch_holds_the_key(store: Store, listener: RecordingListener) -> None:
    before = await add_one(store, supersede_key="k")
    listener.inserted.clear()
    answers = await store.insert(
        [new_wait(supersede_key="k"), new_wait(supersede_key="other"), new_wait(supersede_key="k")]
    )
    first, other, last = [answer.wait for answer in answers if isinstance(answer, Inserted)]
    assert {wait.id for wait in await store.load_waiting(None, 10)} == {other.id, last.id}
    assert [wait.id for wait in listener.inserted] == [other.id, last.id]
    assert [e.wait.id for e in listener.finished] == [before.id, first.id]
    again = await store.get(first.id)
    assert again.outcome is not None
    assert (again.state, again.outcome.reason) == (CANCELLED, "superseded")


async def test_keys_of_other_namespaces_are_left_alone(store: Store) -> None:
    one = await add_one(store, supersede_key="k", namespace="a")
    await add_one(store, supersede_key="k", namespace="b")
    assert (await store.get(one.id)).state is WaitState.WAITING


async def test_a_key_changes_hands_any_number_of_times(store: Store) -> None:
    waits = [await (ended if turn % 2 else add_one)(store, supersede_key="k") for turn in range(7)]
    assert [(await store.get(w.id)).state for w in waits[::2]] == [CANCELLED] * 3 + [WaitState.WAITING]
    for wait in waits[1::2]:
        assert await states(store, wait) == [("dead", "superseded")]
