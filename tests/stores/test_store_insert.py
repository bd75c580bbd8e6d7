"""Adding, finding and loading waits."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from msgspec import structs
from store_values import (
    DONE,
    SEEN,
    START,
    RecordingListener,
    WallClock,
    add,
    add_one,
    destination_of,
    ended,
    ending,
    new_wait,
    opened,
)

from waitd.core.errors import Conflict, InvalidInput, NotFound
from waitd.core.waits.wait import EMPTY_PROGRESS, Outcome, WaitId, WaitState
from waitd.ports import (
    ApiStore,
    Inserted,
    MaintenanceStore,
    OutboxStore,
    PokerStore,
    StoredWait,
    StoreListener,
    WaitFilter,
)
from waitd.stores import Database, Store


def test_the_store_is_what_each_part_asks_for(store: Store) -> None:
    poker: PokerStore = store
    outbox: OutboxStore = store
    keeper: MaintenanceStore = store
    api: ApiStore = store
    assert {id(poker), id(outbox), id(keeper), id(api)} == {id(store)}


async def test_a_wait_comes_back_as_it_was_accepted(database: Path, clock: WallClock) -> None:
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


async def test_the_poker_has_a_wait_before_its_caller_has_the_answer(database: Path) -> None:
    class Listener(StoreListener):
        def on_inserted(self, waits: Sequence[StoredWait]) -> None:
            reported.append([wait.id for wait in waits] if not task.done() else [])

    reported: list[list[WaitId]] = []
    async with opened(database, listener=Listener()) as store:
        task = asyncio.create_task(store.insert([new_wait()]))
        (answer,) = await task
    assert isinstance(answer, Inserted)
    assert reported == [[answer.wait.id]]


async def test_a_caller_that_goes_away_leaves_its_wait_with_the_poker(
    store: Store, listener: RecordingListener
) -> None:
    task = asyncio.create_task(store.insert([new_wait()]))
    await asyncio.sleep(0)  # it has queued its wait
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await store.check_writable()
    assert [wait.id for wait in listener.inserted] == [wait.id for wait in await store.load_waiting(None, 10)]
    assert len(listener.inserted) == 1


async def test_the_same_key_with_the_same_body_is_the_same_wait(
    store: Store, listener: RecordingListener
) -> None:
    first = await add_one(store, key="k")
    (again,) = await store.insert([new_wait(key="k")])
    assert again == Inserted(first, created=False)
    assert len(listener.inserted) == 1


async def test_a_replay_shows_the_wait_as_it_is_now(store: Store) -> None:
    wait = await ended(store, key="k")
    (again,) = await store.insert([new_wait(key="k")])
    assert again == Inserted(await store.get(wait.id), created=False)
    assert isinstance(again, Inserted)
    assert again.wait.state is WaitState.SUCCESS
    assert len(again.wait.deliveries) == 1


async def test_the_same_key_with_another_body_is_a_conflict(
    store: Store, listener: RecordingListener
) -> None:
    await add_one(store, key="k", digest=b"1")
    (answer,) = await store.insert([new_wait(key="k", digest=b"2")])
    assert isinstance(answer, Conflict)
    assert len(await store.load_waiting(None, 10)) == 1


async def test_a_key_counts_in_its_own_namespace_only(store: Store) -> None:
    one = await add_one(store, key="k", namespace="a")
    other = await add_one(store, key="k", namespace="b", digest=b"2")
    assert one.id != other.id


async def test_a_batch_is_answered_row_by_row(store: Store) -> None:
    known = await add_one(store, key="known")
    answers = await store.insert(
        [
            new_wait(key="new"),
            new_wait(key="known"),
            new_wait(key="known", digest=b"other"),
            new_wait(),
            new_wait(key="new"),
            new_wait(key="new", digest=b"other"),
            new_wait(key="\ud800"),
            new_wait(supersede_key="\0"),
        ]
    )
    first, replay, conflict, plain, twin, odd_twin, *unstorable = answers
    assert isinstance(first, Inserted)
    assert first.created
    assert replay == Inserted(known, created=False)
    assert isinstance(conflict, Conflict)
    assert isinstance(plain, Inserted)
    assert twin == Inserted(first.wait, created=False)
    assert isinstance(odd_twin, Conflict)
    assert all(isinstance(answer, InvalidInput) for answer in unstorable)
    assert {w.id for w in await store.load_waiting(None, 10)} == {known.id, first.wait.id, plain.wait.id}


async def test_calls_committed_together_get_each_its_own_answer(store: Store) -> None:
    known = await add_one(store, key="known")
    done = await add_one(store)
    calls: list[Any] = [store.insert([new_wait()]) for _ in range(20)]
    calls += [store.insert([new_wait(key="known")]), store.insert([new_wait(key="known", digest=b"other")])]
    calls += [store.finish(ending(done)), store.cancel("nobody", DONE), store.check_writable()]
    answers: list[Any] = await asyncio.gather(*calls, return_exceptions=True)
    *fresh, (replay,), (conflict,), end, unknown, checked = answers
    assert len({answer.wait.id for (answer,) in fresh}) == 20
    assert replay == Inserted(known, created=False)
    assert isinstance(conflict, Conflict)
    assert end.wait.id == done.id
    assert isinstance(unknown, NotFound)
    assert checked is None


async def test_a_large_batch_is_stored_whole(store: Store, listener: RecordingListener) -> None:
    answers = await store.insert([new_wait() for _ in range(10_000)])
    assert len({answer.wait.id for answer in answers if isinstance(answer, Inserted)}) == 10_000
    assert await store.counts() == {("waiting", "http"): 10_000}
    assert [wait.id for wait in listener.inserted] == [
        answer.wait.id for answer in answers if isinstance(answer, Inserted)
    ]


async def test_an_unknown_wait_or_one_of_another_namespace_is_not_found(store: Store) -> None:
    wait = await add_one(store, namespace="a")
    assert (await store.get(wait.id, "a")).id == wait.id
    for wait_id, namespace in ((wait.id, "b"), ("no-such-id", None), ("\ud800", None), ("\0", None)):
        with pytest.raises(NotFound):
            await store.get(wait_id, namespace)


async def test_waiting_waits_are_loaded_in_pages_in_the_order_of_their_ids(store: Store) -> None:
    waits = await add(store, *[new_wait() for _ in range(7)])
    await store.finish(ending(waits[3]))
    pages: list[list[WaitId]] = []
    after: WaitId | None = None
    while page := await store.load_waiting(after, 3):
        pages.append([wait.id for wait in page])
        after = page[-1].id
    assert [len(page) for page in pages] == [3, 3]
    assert [wait_id for page in pages for wait_id in page] == [
        wait.id for wait in waits if wait is not waits[3]
    ]


async def test_progress_is_kept_while_a_wait_waits_and_not_after(store: Store) -> None:
    waiting, over = await add(store, new_wait(), new_wait())
    await store.finish(ending(over))
    await store.save_progress([(waiting.id, SEEN), (over.id, replace(SEEN, pokes=99))])
    assert (await store.get(waiting.id)).progress == SEEN
    assert (await store.get(over.id)).progress == SEEN
    assert [wait.progress for wait in await store.load_waiting(None, 10)] == [SEEN]


async def test_waits_are_listed_newest_first_page_by_page(store: Store) -> None:
    waits = await add(store, *[new_wait() for _ in range(5)])
    first = await store.find(WaitFilter(limit=3))
    rest = await store.find(WaitFilter(limit=3, before=first[-1].id))
    assert [w.id for w in [*first, *rest]] == [w.id for w in reversed(waits)]


async def test_waits_are_listed_by_namespace_state_and_kind(store: Store) -> None:
    mine = await add_one(store, namespace="a")
    other = await add_one(store, namespace="b", kind="s3_key")
    over = await ended(store, namespace="b")

    async def ids(**wanted: Any) -> set[WaitId]:
        return {wait.id for wait in await store.find(WaitFilter(**wanted))}

    assert await ids(namespace="a") == {mine.id}
    assert await ids(state="waiting") == {mine.id, other.id}
    assert await ids(state="success") == {over.id}
    assert await ids(kind="http", namespace="b") == {over.id}
    assert await ids(kind="' OR 1=1 --") == set()


@pytest.mark.parametrize("name", ["dag_id", 'a"b', "a.b", "$", "a'b", "a\\b", "ä☃", "a]b", "%", ""])
async def test_waits_are_found_by_labels_whatever_their_names(store: Store, name: str) -> None:
    wanted = await add_one(store, labels={name: 'v"\\1', "other": "x"})
    await add_one(store, labels={name: "v2", "other": "x"})
    await add_one(store, labels={"another": 'v"\\1'})
    assert [w.id for w in await store.find(WaitFilter(labels={name: 'v"\\1', "other": "x"}))] == [wanted.id]
    assert await store.find(WaitFilter(labels={name: 'v"\\1', "other": "y"})) == []


async def test_a_label_that_looks_like_a_number_is_compared_as_text(store: Store) -> None:
    wait = await add_one(store, labels={"map_index": "1"})
    assert [w.id for w in await store.find(WaitFilter(labels={"map_index": "1"}))] == [wait.id]
    assert await store.find(WaitFilter(labels={"map_index": "1.0"})) == []


async def test_waits_are_counted_by_state_and_kind(store: Store) -> None:
    await add(store, new_wait(), new_wait(), new_wait(kind="s3_key"))
    wait = await ended(store)
    await store.cancel((await add_one(store)).id, Outcome(WaitState.CANCELLED, reason="cancelled"))
    assert wait.state is WaitState.SUCCESS
    assert await store.counts() == {
        ("waiting", "http"): 2,
        ("waiting", "s3_key"): 1,
        ("success", "http"): 1,
        ("cancelled", "http"): 1,
    }


async def test_a_store_in_memory_works_and_needs_no_lock(clock: WallClock) -> None:

    url = "sqlite+aiosqlite://"
    stores = [Store(await Database.open(url), now=clock, destination_of=destination_of) for _ in range(2)]
    try:
        wait = await add_one(stores[0])
        calls = [stores[0].get(wait.id) for _ in range(5)] + [add_one(stores[0]) for _ in range(5)]
        assert len(await asyncio.gather(*calls)) == 10
        assert structs.replace(await stores[0].get(wait.id), deliveries=()) == wait
        assert await stores[1].counts() == {}
    finally:
        for store in stores:
            await store.close()
