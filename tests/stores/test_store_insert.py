"""How waits are inserted, listed and loaded."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from store_values import (
    DONE,
    SEEN,
    START,
    RecordingListener,
    WallClock,
    add,
    add_one,
    ended,
    ending,
    finish,
    new_wait,
    opened,
)

from waitd.core.errors import Conflict, InvalidInput, NotFound
from waitd.core.waits.wait import EMPTY_PROGRESS, Outcome, WaitId, WaitState
from waitd.ports import (
    Inserted,
    StoredWait,
    StoreListener,
    WaitFilter,
)
from waitd.stores import Store


async def test_a_wait_is_stored_as_it_was_accepted(database: Path, clock: WallClock) -> None:
    new = new_wait(
        namespace="team",
        exponential_backoff=True,
        max_wait=90.5,
        soft_fail=True,
        silent_fail=True,
        labels={"dag_id": "ä ☃"},
        params={"json": {"deep": [1, 2.5, None, True, "\0"]}},
        supersede_key="k",
    )
    async with opened(database, clock) as store:
        (accepted,) = await add(store, new)
    async with opened(database, clock) as store:
        again = await store.get(accepted.id)
    assert again == accepted
    assert again.spec == new.spec
    assert (again.created_at, again.deadline, again.state) == (START, START + 600.0, WaitState.WAITING)
    assert again.progress is EMPTY_PROGRESS


async def test_the_listener_gets_a_wait_before_its_caller_gets_the_answer(database: Path) -> None:
    class Listener(StoreListener):
        def on_inserted(self, waits: Sequence[StoredWait]) -> None:
            reported.append([wait.id for wait in waits] if not task.done() else [])

    reported: list[list[WaitId]] = []
    async with opened(database, listener=Listener()) as store:
        task = asyncio.create_task(store.insert([new_wait()]))
        (answer,) = await task
    assert isinstance(answer, Inserted)
    assert reported == [[answer.wait.id]]


async def test_the_wait_of_a_cancelled_caller_is_stored_and_reported(
    store: Store, listener: RecordingListener
) -> None:
    task = asyncio.create_task(store.insert([new_wait()]))
    await asyncio.sleep(0)  # it has queued its wait
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.check_writable()
    (wait,) = listener.inserted
    assert await store.load_waiting(None, 10) == [wait]


async def test_a_replay_shows_the_wait_as_it_is_now(store: Store) -> None:
    wait = await ended(store, key="k")
    assert (wait.state, len(wait.deliveries)) == (WaitState.SUCCESS, 1)
    assert await store.insert([new_wait(key="k")]) == [Inserted(wait, created=False)]


async def test_each_wait_of_a_batch_gets_its_own_answer(store: Store, listener: RecordingListener) -> None:
    known = await add_one(store, key="known")
    first, replay, conflict, elsewhere, plain, twin, odd_twin, *invalid = await store.insert(
        [
            new_wait(key="new"),
            new_wait(key="known"),
            new_wait(key="known", digest=b"other"),
            new_wait(key="known", digest=b"other", namespace="b"),
            new_wait(),
            new_wait(key="new"),
            new_wait(key="new", digest=b"other"),
            new_wait(key="\ud800"),
            new_wait(supersede_key="\0"),
        ]
    )
    created = [result.wait for result in (first, elsewhere, plain) if isinstance(result, Inserted)]
    assert [first, elsewhere, plain] == [Inserted(wait, created=True) for wait in created]
    assert replay == Inserted(known, created=False)
    assert twin == Inserted(created[0], created=False)
    assert [type(result) for result in (conflict, odd_twin, *invalid)] == [Conflict] * 2 + [InvalidInput] * 2
    assert await store.load_waiting(None, 10) == [known, *created]
    assert listener.inserted == [known, *created]


async def test_each_call_of_one_commit_gets_its_own_answer(store: Store) -> None:
    known = await add_one(store, key="known")
    waiting = await add_one(store)
    results: list[Any] = await asyncio.gather(
        *[store.insert([new_wait()]) for _ in range(20)],
        store.insert([new_wait(key="known")]),
        store.insert([new_wait(key="known", digest=b"other")]),
        store.finish(ending(waiting)),
        store.cancel("unknown", DONE),
        store.check_writable(),
        return_exceptions=True,
    )
    *new, (replay,), (conflict,), finished, unknown, checked = results
    assert len({result.wait.id for (result,) in new}) == 20
    assert replay == Inserted(known, created=False)
    assert isinstance(conflict, Conflict)
    assert finished.wait.id == waiting.id
    assert isinstance(unknown, NotFound)
    assert checked is None


async def test_a_large_batch_is_stored_completely(store: Store, listener: RecordingListener) -> None:
    waits = await add(store, *[new_wait() for _ in range(10_000)])
    assert len({wait.id for wait in waits}) == 10_000
    assert await store.counts() == {("waiting", "http"): 10_000}
    assert listener.inserted == waits


async def test_an_unknown_wait_or_one_of_another_namespace_is_not_found(store: Store) -> None:
    wait = await add_one(store, namespace="a")
    assert (await store.get(wait.id, "a")).id == wait.id
    for wait_id, namespace in ((wait.id, "b"), ("no-such-id", None), ("\ud800", None), ("\0", None)):
        with pytest.raises(NotFound):
            await store.get(wait_id, namespace)


async def test_waiting_waits_are_loaded_in_pages_in_the_order_of_their_ids(store: Store) -> None:
    *waits, last = await add(store, *[new_wait() for _ in range(7)])
    ended = waits.pop(3)
    await finish(store, ended)
    first = await store.load_waiting(None, 3)
    second = await store.load_waiting(first[-1].id, 3)
    assert [*first, *second] == [*waits, last]
    assert await store.load_waiting(last.id, 3) == []


async def test_progress_is_saved_until_a_wait_ends(store: Store) -> None:
    waiting, finished = await add_one(store), await ended(store)
    await store.save_progress([(waiting.id, SEEN), (finished.id, replace(SEEN, pokes=99))])
    assert (await store.get(waiting.id)).progress == SEEN
    assert (await store.get(finished.id)).progress == SEEN
    assert [wait.progress for wait in await store.load_waiting(None, 10)] == [SEEN]


async def test_waits_are_listed_newest_first_page_by_page(store: Store) -> None:
    waits = await add(store, *[new_wait() for _ in range(5)])
    first = await store.find(WaitFilter(limit=3))
    rest = await store.find(WaitFilter(limit=3, before=first[-1].id))
    assert [*first, *rest] == waits[::-1]
    assert len(first) == 3


async def test_waits_are_listed_by_namespace_state_and_kind(store: Store) -> None:
    first = await add_one(store, namespace="a")
    second = await add_one(store, namespace="b", kind="s3_key")
    third = await ended(store, namespace="b")
    for filter_, expected in (
        (WaitFilter(namespace="a"), [first]),
        (WaitFilter(state="waiting"), [second, first]),
        (WaitFilter(state="success"), [third]),
        (WaitFilter(kind="http", namespace="b"), [third]),
        (WaitFilter(kind="' OR 1=1 --"), []),
    ):
        assert await store.find(filter_) == expected, filter_


@pytest.mark.parametrize("name", ["dag_id", 'a"b', "a.b", "$", "a'b", "a\\b", "ä☃", "a]b", "%", ""])
async def test_waits_are_found_by_labels_whatever_their_names(store: Store, name: str) -> None:
    labels = {name: 'v"\\1', "other": "x"}
    wait = await add_one(store, labels=labels)
    await add_one(store, labels={name: "v2", "other": "x"})
    await add_one(store, labels={"another": 'v"\\1'})
    assert await store.find(WaitFilter(labels=labels)) == [wait]
    assert await store.find(WaitFilter(labels=labels | {"other": "y"})) == []


async def test_a_label_that_looks_like_a_number_is_compared_as_text(store: Store) -> None:
    wait = await add_one(store, labels={"map_index": "1"})
    assert await store.find(WaitFilter(labels={"map_index": "1"})) == [wait]
    assert await store.find(WaitFilter(labels={"map_index": "1.0"})) == []


async def test_waits_are_counted_by_state_and_kind(store: Store) -> None:
    _, _, _, cancelled = await add(store, new_wait(), new_wait(), new_wait(kind="s3_key"), new_wait())
    await ended(store)
    await store.cancel(cancelled.id, Outcome(WaitState.CANCELLED, reason="cancelled"))
    assert await store.counts() == {
        ("waiting", "http"): 2,
        ("waiting", "s3_key"): 1,
        ("success", "http"): 1,
        ("cancelled", "http"): 1,
    }


async def test_a_store_in_memory_needs_no_lock() -> None:
    async with opened(None) as store, opened(None) as other:
        wait = await add_one(store)
        calls = [store.get(wait.id) for _ in range(5)] + [add_one(store) for _ in range(5)]
        assert len(await asyncio.gather(*calls)) == 10
        assert await store.get(wait.id) == wait
        assert await other.counts() == {}
