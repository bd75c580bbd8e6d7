"""The event log, the progress of waits that are cancelled, and answers to repeated submits."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import orjson
import pytest
from store_values import (
    DONE,
    SEEN,
    START,
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
)

from waitd.core.errors import Conflict, NotFound
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.wait import Outcome, Progress, WaitState
from waitd.ports import IdempotentSubmit, Inserted, StoredOutcome, StoreListener, WaitFilter
from waitd.stores import Store
from waitd.stores.queries import event_log

LIVE = Progress(17, 3, None, SEEN.runs)


async def event_data(store: Store, name: str) -> list[Any]:
    """This field of the data of each event."""
    return [orjson.loads(event or b"")["data"][name] for _, event in await store.events_after(0, None, 10)]


async def test_the_log_holds_the_delivered_bytes_in_the_order_of_their_numbers(store: Store) -> None:
    assert store.finished_seq == 0
    waits = [await ended(store) for _ in range(3)]
    await add_one(store)
    events = await store.events_after(0, None, 10)
    assert [seq for seq, _ in events] == [1, 2, 3]
    assert [orjson.loads(event or b"")["id"] for _, event in events] == [wait.id for wait in waits]
    assert {item.event for item in await due(store)} == {event for _, event in events}
    assert await store.events_after(1, None, 1) == events[1:2]
    assert await store.events_after(3, None, 10) == []
    assert store.finished_seq == 3


async def test_events_of_other_namespaces_are_numbered_and_not_shown(store: Store) -> None:
    await ended(store, namespace="a")
    await ended(store, namespace="b")
    assert [event is None for _, event in await store.events_after(0, "b", 10)] == [True, False]


async def test_the_log_holds_cancelled_and_superseded_waits(store: Store) -> None:
    await store.cancel((await add_one(store)).id, cancelled_outcome())
    await add_one(store, supersede_key="k")
    await add_one(store, supersede_key="k")
    assert await event_data(store, "reason") == ["cancelled", "superseded"]


async def test_a_reader_resumes_only_where_no_later_event_is_missing(store: Store) -> None:
    await store.check_resumable(0)
    waits = await add(store, *[new_wait(sinks=[]) for _ in range(4)])
    # The second ended long ago and was stored late: the pruned event need not have the lowest
    # number.
    for wait, at in zip(waits, (0, -10_000, 0, 0), strict=True):
        await store.finish(ending(wait, at=START + at))
    for seq in (0, 1, 2, 3, 4):
        await store.check_resumable(seq)
    with pytest.raises(NotFound):
        await store.check_resumable(5)
    assert await store.prune(START - 5_000, 10) == 1
    for seq in (0, 1, 2):
        with pytest.raises(NotFound):
            await store.check_resumable(seq)
    with pytest.raises(NotFound):
        await store.events_after(1, None, 10)
    for seq in (3, 4):
        await store.check_resumable(seq)
    assert [seq for seq, _ in await store.events_after(2, None, 10)] == [3, 4]


async def test_pruned_numbers_are_known_after_a_restart(database: Path, clock: WallClock) -> None:
    async with opened(database, clock) as store:
        for _ in range(2):
            await ended(store, sinks=[])
        assert await store.prune(START + 61, 1) == 1
        assert await store.prune(START + 61, 1) == 1
    async with opened(database, clock) as store:
        assert store.finished_seq == 2
        for seq in (0, 1, 2):
            with pytest.raises(NotFound):
                await store.check_resumable(seq)
        assert await store.events_after(2, None, 10) == []


async def test_the_last_number_is_updated_before_the_listener_is_called(database: Path) -> None:
    class Listener(StoreListener):
        def on_finished(self, outcomes: Sequence[StoredOutcome]) -> None:
            numbers.append(store.finished_seq)

    numbers: list[int] = []
    async with opened(database, listener=Listener()) as store:
        await ended(store)
        await ended(store)
    assert numbers == [1, 2]


# ---------------------------------------------------------------- the live progress


async def test_a_cancelled_wait_ends_with_its_live_progress(
    store: Store, listener: RecordingListener
) -> None:
    held, unheld = await add(store, new_wait(), new_wait())
    await store.save_progress([(held.id, SEEN), (unheld.id, SEEN)])
    listener.live[held.id] = LIVE
    assert (await store.cancel(held.id, cancelled_outcome())).progress == LIVE
    assert (await store.cancel(unheld.id, cancelled_outcome())).progress == SEEN
    assert (await store.get(held.id)).progress == LIVE
    assert await event_data(store, "pokes") == [17, 1]


async def test_a_superseded_wait_ends_with_its_live_progress(
    store: Store, listener: RecordingListener
) -> None:
    old = await add_one(store, supersede_key="k")
    listener.live[old.id] = LIVE
    await add_one(store, supersede_key="k")
    assert (await store.get(old.id)).progress == LIVE
    assert await event_data(store, "pokes") == [17]


# ---------------------------------------------------------------- lists and replays


async def test_a_list_shows_the_deliveries_of_each_wait(store: Store) -> None:
    one, other, waiting = await ended(store), await ended(store, sinks=[]), await add_one(store)
    listed = {wait.id: wait for wait in await store.find(WaitFilter())}
    assert listed == {wait.id: await store.get(wait.id) for wait in (one, other, waiting)}
    assert [len(listed[wait.id].deliveries) for wait in (one, other, waiting)] == [1, 0, 0]


async def test_replays_returns_the_wait_of_each_key_and_stores_nothing(
    store: Store, listener: RecordingListener
) -> None:
    wait = await add_one(store, key="k", digest=b"1")
    over = await ended(store, key="e", digest=b"1")
    listener.inserted.clear()
    submits = [
        IdempotentSubmit("default", "k", b"1"),
        IdempotentSubmit("default", "k", b"2"),
        IdempotentSubmit("default", "x", b"1"),
        IdempotentSubmit("other", "k", b"1"),
        IdempotentSubmit("default", "e", b"1"),
        IdempotentSubmit("default", "\ud800", b"1"),
        IdempotentSubmit("default", "k", b"1"),
    ]
    same, conflict, unknown, foreign, finished, no_text, again = await store.find_replays(submits)
    assert same == again == Inserted(wait, created=False)
    assert isinstance(conflict, Conflict)
    assert unknown is foreign is no_text is None
    assert finished == Inserted(await store.get(over.id), created=False)
    assert isinstance(finished, Inserted)
    assert finished.wait.outcome == DONE
    assert listener.inserted == []
    assert await store.find_replays([]) == []


async def test_a_read_ends_with_its_bytes_whatever_the_first_events_were_like(store: Store) -> None:
    for _ in range(10):
        await ended(store)
    large = Outcome(WaitState.SUCCESS, {"text": "x" * 50_000}, "", "success")
    for _ in range(10):
        await finish(store, await add_one(store), large)
    seq, reads = 0, 0
    while page := await store.events_after(seq, None, 100):
        assert sum(len(stored.event or b"") for stored in page) < event_log.PART_BYTES + 60_000
        assert [stored.seq for stored in page] == list(range(seq + 1, seq + 1 + len(page)))
        seq, reads = page[-1].seq, reads + 1
    assert (seq, reads) == (20, 4)
