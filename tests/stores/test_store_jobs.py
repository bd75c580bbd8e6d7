"""The stored jobs of waits, and stored signals."""

import asyncio
from pathlib import Path
from typing import Any

import pytest
from store_values import START, RecordingListener, WallClock, add_one, finish, opened

from waitd.core.errors import Conflict, InvalidInput
from waitd.core.waits.job_cancel import CancelState, JobCancel
from waitd.core.waits.step import cancelled_outcome, timeout_outcome
from waitd.core.waits.submission import PENDING_SUBMISSION, Submission, SubmitState, mark_submitting
from waitd.core.waits.verdict import Pending
from waitd.ports import Signal, SignalKey, StoredWait
from waitd.stores import Store
from waitd.stores.operations.signals import MAX_PAYLOADS

SUBMIT = {"endpoint": "https://h/jobs", "handle": "body.id", "cancel_job_on": ["cancelled"]}
SUBMITTED = Submission(SubmitState.SUBMITTED, {"id": 7}, 1)


async def add_with_submit(store: Store, **wait: Any) -> StoredWait:
    return await add_one(store, submit=SUBMIT, **wait)


async def test_a_wait_without_a_submit_has_no_job(store: Store) -> None:
    wait = await add_one(store)
    assert (wait.submission, (await store.get(wait.id)).submission) == (None, None)


async def test_the_state_of_a_job_survives_a_restart(database: Path) -> None:
    async with opened(database) as store:
        wait = await add_with_submit(store)
        assert wait.submission == (await store.get(wait.id)).submission == PENDING_SUBMISSION
        assert await store.save_submission(wait.id, mark_submitting(PENDING_SUBMISSION), only_waiting=True)
        assert await store.save_submission(wait.id, SUBMITTED)
    async with opened(database) as store:
        [loaded] = await store.load_waiting(None, 10)
        assert loaded.submission == SUBMITTED


async def test_an_ended_wait_takes_a_handle_but_no_mark(store: Store) -> None:
    wait = await add_with_submit(store)
    await store.cancel(wait.id, cancelled_outcome())
    assert not await store.save_submission(wait.id, mark_submitting(PENDING_SUBMISSION), only_waiting=True)
    assert (await store.get(wait.id)).submission == PENDING_SUBMISSION
    assert await store.save_submission(wait.id, SUBMITTED)
    assert (await store.get(wait.id)).submission == SUBMITTED


async def test_a_cancel_sees_the_mark_of_the_same_commit(store: Store) -> None:
    wait = await add_with_submit(store)
    marking = asyncio.create_task(
        store.save_submission(wait.id, mark_submitting(PENDING_SUBMISSION), only_waiting=True)
    )
    cancelling = asyncio.create_task(store.cancel(wait.id, cancelled_outcome()))
    assert await marking
    assert (await cancelling).job_cancel == JobCancel(next_attempt_at=START)


async def test_the_end_of_a_wait_decides_whether_its_job_is_cancelled(
    store: Store, listener: RecordingListener
) -> None:
    waits = [await add_with_submit(store) for _ in range(3)]
    for wait in waits[:2]:
        await store.save_submission(wait.id, SUBMITTED)
    await store.cancel(waits[0].id, cancelled_outcome())
    await finish(store, waits[1], timeout_outcome(Pending()))
    await store.cancel(waits[2].id, cancelled_outcome())
    assert [ended.wait.job_cancel for ended in listener.finished] == [
        JobCancel(next_attempt_at=START),
        None,
        None,
    ]
    assert [wait.id for wait in await store.jobs_to_cancel(None, 10)] == [waits[0].id]
    assert await store.jobs_to_cancel(waits[0].id, 10) == []


async def test_the_job_of_a_superseded_wait_is_cancelled(store: Store) -> None:
    older = await add_with_submit(store, supersede_key="k")
    await store.save_submission(older.id, SUBMITTED)
    await add_with_submit(store, supersede_key="k")
    assert (await store.get(older.id)).job_cancel == JobCancel(next_attempt_at=START)


async def test_a_wait_is_kept_until_its_job_is_cancelled(store: Store, clock: WallClock) -> None:
    wait = await add_with_submit(store, sinks=())
    await store.save_submission(wait.id, SUBMITTED)
    await store.cancel(wait.id, cancelled_outcome())
    clock.at += 1e6
    assert await store.prune(clock.at, 10) == 0
    await store.save_job_cancel(wait.id, JobCancel(CancelState.PENDING, 1, "HTTP 503", clock.at + 5))
    [due] = await store.jobs_to_cancel(None, 10)
    assert due.job_cancel == JobCancel(CancelState.PENDING, 1, "HTTP 503", clock.at + 5)
    await store.save_job_cancel(wait.id, JobCancel(CancelState.CANCELLED, 2))
    assert await store.jobs_to_cancel(None, 10) == []
    assert (await store.get(wait.id)).job_cancel == JobCancel(CancelState.CANCELLED, 2)
    assert await store.prune(clock.at, 10) == 1


# ---------------------------------------------------------------- signals


async def test_signals_are_stored_in_order_and_equal_ones_once(
    store: Store, clock: WallClock, listener: RecordingListener
) -> None:
    for payload in ({"a": 1}, None, {"a": 1}):
        clock.at += 1
        await store.save_signal("default", "k", payload)
    await store.save_signal("other", "k", "elsewhere")
    assert await store.signals("default", "k") == [{"a": 1}, None]
    assert listener.signals[2:] == [Signal("default", "k", START + 3), Signal("other", "k", START + 3)]
    assert set(await store.signal_keys()) == set(listener.signals[2:])


async def test_signals_survive_a_restart_and_are_pruned(database: Path, clock: WallClock) -> None:
    async with opened(database, clock) as store:
        await store.save_signal("default", "old", 1)
        clock.at += 100
        await store.save_signal("default", "new", 2)
    async with opened(database, clock) as store:
        assert await store.signals("default", "old") == [1]
        assert list(await store.prune_signals(START + 50, 10)) == [SignalKey("default", "old")]
        assert await store.signals("default", "old") == []
        assert await store.signals("default", "new") == [2]


async def test_the_number_of_payloads_under_a_key_is_limited(store: Store) -> None:
    for n in range(MAX_PAYLOADS):
        await store.save_signal("default", "k", n)
    with pytest.raises(Conflict, match="under this key"):
        await store.save_signal("default", "k", "too many")
    await store.save_signal("default", "k", 0)
    await store.save_signal("default", "another", "one more")


async def test_a_payload_that_json_cannot_hold_is_refused(store: Store) -> None:
    with pytest.raises(InvalidInput):
        await store.save_signal("default", "k", {"a": "\ud800"})
