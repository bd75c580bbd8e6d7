"""A database of an earlier waitd (commit 3229241, as an SQL dump) opens, and its waits continue."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from store_values import (
    DONE,
    START,
    WEBHOOK,
    RecordingListener,
    WallClock,
    add_one,
    due,
    finish,
    new_wait,
    opened,
)

from waitd.core.errors import NotFound
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.submission import SubmitState
from waitd.core.waits.wait import WaitState
from waitd.ports import AuditFilter, IdempotentSubmit, Inserted, WaitFilter
from waitd.stores import Store
from waitd.stores.operations.insert import SUPERSEDED

DUMP = Path(__file__).with_name("database_3229241.sql")
PLAIN, SUPERSEDABLE, SUBMITTED, DELIVERED, UNDELIVERED = (
    f"01a22ad6-0f71-7261-a2ac-42{rest}"
    for rest in ("49ccee16d3", "4ae8e6824c", "4b98b96bca", "4c68fed2c0", "4dcfa6a193")
)


@pytest.fixture
async def old_store(database: Path, clock: WallClock, listener: RecordingListener) -> AsyncIterator[Store]:
    database.parent.mkdir()
    with closing(sqlite3.connect(database)) as plain:
        plain.executescript(DUMP.read_text("utf-8"))
    clock.at = START + 120
    async with opened(database, clock, listener) as store:
        yield store


async def test_waits_are_read_as_they_were_written(old_store: Store) -> None:
    waiting = await old_store.load_waiting(None, 10)
    assert [wait.id for wait in waiting] == [PLAIN, SUPERSEDABLE, SUBMITTED]
    plain = waiting[0]
    assert (plain.created_at, plain.deadline, plain.state) == (START, START + 600, WaitState.WAITING)
    assert (plain.spec.params, plain.spec.sinks) == ({"endpoint": "https://example.org/job"}, (WEBHOOK,))
    assert (plain.progress.pokes, plain.progress.state) == (1, '{"etag":"1"}')
    assert [run.reason for run in plain.progress.runs] == ["http_404"]
    job = waiting[2].submission
    assert job is not None
    assert (job.state, job.handle) == (SubmitState.SUBMITTED, "job-7")
    [ended] = await old_store.find(WaitFilter(labels={"dag_id": "ü"}))
    assert (ended.id, ended.outcome) == (DELIVERED, DONE)
    assert [delivery.state for delivery in ended.deliveries] == ["delivered"]


async def test_other_rows_are_read_as_they_were_written(old_store: Store) -> None:
    assert await old_store.signals("default", "go") == [{"n": 1}]
    assert [key.id for key in await old_store.api_keys()] == ["abc"]
    audit = await old_store.find_audit(AuditFilter())
    assert [stored.entry.action for stored in audit] == ["create_key", "submit"]
    assert await old_store.airflow_connections() == ["airflow_default"]
    assert old_store.event_secret == 1234567890123456789
    assert [event.seq for event in await old_store.events_after(0, None, 10)] == [1, 2]


async def test_waits_end_and_are_delivered(old_store: Store, listener: RecordingListener) -> None:
    waiting = await old_store.load_waiting(None, 10)
    for wait in waiting[:2]:
        await finish(old_store, wait, at=START + 130)
    assert (await old_store.cancel(SUBMITTED, cancelled_outcome())).state is WaitState.CANCELLED
    assert old_store.finished_seq == 5
    assert len(listener.finished) == 3
    items = await due(old_store, now=START + 200)
    assert {item.wait_id for item in items} == {UNDELIVERED, PLAIN, SUPERSEDABLE, SUBMITTED}
    assert await old_store.prune(START + 1000, 10) == 1, "only the delivered one"
    with pytest.raises(NotFound):
        await old_store.get(DELIVERED)


async def test_idempotency_and_supersede_keys_still_hold(old_store: Store) -> None:
    earlier = [Inserted(await old_store.get(PLAIN), created=False)]
    assert await old_store.find_replays([IdempotentSubmit("default", "plain-key", b"d" * 32)]) == earlier
    assert await old_store.insert([new_wait(key="plain-key")]) == earlier
    await add_one(old_store, supersede_key="latest")
    superseded = await old_store.get(SUPERSEDABLE)
    assert (superseded.state, superseded.outcome) == (WaitState.CANCELLED, SUPERSEDED)
