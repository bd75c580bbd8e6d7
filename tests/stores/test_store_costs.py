"""What waits have cost: kept with their ends, added up by the day, and bounded."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from store_values import (
    AIRFLOW,
    SEEN,
    START,
    RecordingListener,
    WallClock,
    add,
    add_one,
    ending,
    new_wait,
    opened,
)

from waitd.core.costs.model import MeasuredUsage, WaitingTotals
from waitd.core.waits.step import cancelled_outcome
from waitd.ports import CostFilter, CostSums, StoredWait
from waitd.stores import CostRules, Store
from waitd.stores.operations.costs import OTHER, day_of

DAY = 86_400.0
TODAY, BEFORE = day_of(START), day_of(START - 2 * DAY)
RULES = CostRules(labels=("dag_id", "team"), values=3, retention=10 * DAY)


def measured(wait: StoredWait, seconds: float) -> MeasuredUsage:
    """A second of CPU a poke, two bytes a second."""
    return MeasuredUsage(float(wait.progress.pokes), 2.0 * seconds)


@pytest.fixture
async def store(database: Path, clock: WallClock) -> AsyncIterator[Store]:
    async with opened(database, clock, RecordingListener(usage=measured), RULES) as store:
        yield store


async def sums(store: Store, by: str = "kind", namespace: str | None = "default", **more: Any) -> CostSums:
    return await store.find_costs(
        CostFilter(namespace, more.get("since", BEFORE), by, more.get("limit", 100))
    )


async def end(store: Store, at: float = START + 60, **wait: Any) -> StoredWait:
    stored = await add_one(store, **wait)
    ended = await store.finish(ending(stored, at=at))
    assert ended is not None
    return ended.wait


async def test_an_end_is_stored_with_what_the_wait_has_used(store: Store) -> None:
    ended = await end(store)
    assert ended.measured == MeasuredUsage(1.0, 120.0)
    assert (await store.get(ended.id)).measured == ended.measured
    waiting = await add_one(store)
    assert (await store.get(waiting.id)).measured is None


async def test_sums_are_those_of_the_waits_that_ended(store: Store) -> None:
    await end(store, labels={"dag_id": "a"})
    await end(store, labels={"dag_id": "a"}, sinks=[AIRFLOW])
    await end(store, labels={"dag_id": "b"}, kind="s3_key")
    cancelled_one = await add_one(store, labels={"dag_id": "a"})
    await store.cancel(cancelled_one.id, cancelled_outcome())
    await add_one(store, labels={"dag_id": "a"})
    found = await sums(store, "dag_id")
    rows = dict(found.rows)
    assert rows["a"] == [WaitingTotals("http", 3, 120, 2, 1, 1, MeasuredUsage(2, 240))]
    assert rows["b"] == [WaitingTotals("s3_key", 1, 60, 1, 0, 0, MeasuredUsage(1, 120))]
    assert {part.kind: part.waits for part in found.total} == {"http": 3, "s3_key": 1}
    assert dict((await sums(store, "kind")).rows)["http"][0].waits == 3
    assert [name for name, _ in (await sums(store, "day")).rows] == [TODAY]


async def test_a_superseded_wait_counts_too(store: Store) -> None:
    await add(store, new_wait(supersede_key="k"))
    await add(store, new_wait(supersede_key="k"))
    assert [part.waits for part in (await sums(store)).total] == [1]


async def test_a_wait_without_the_label_counts_under_no_value_so_that_rows_add_up(store: Store) -> None:
    await end(store, labels={"dag_id": "a"})
    await end(store, labels={})
    found = await sums(store, "dag_id")
    assert {name: parts[0].waits for name, parts in found.rows} == {"a": 1, "": 1}
    assert found.total[0].waits == 2


async def test_a_days_values_are_bounded_and_the_rest_is_one(
    store: Store, database: Path, clock: WallClock
) -> None:
    for name in "abcdea":
        await end(store, labels={"dag_id": name})
    assert {n: p[0].waits for n, p in (await sums(store, "dag_id")).rows} == {
        "a": 2,
        "b": 1,
        "c": 1,
        OTHER: 2,
    }
    await store.close()
    # The values that are known before a restart are known after it.
    async with opened(database, clock, RecordingListener(usage=measured), RULES) as again:
        for name in "fa":
            await end(again, labels={"dag_id": name})
        rows = {n: p[0].waits for n, p in (await sums(again, "dag_id")).rows}
        assert rows == {"a": 3, "b": 1, "c": 1, OTHER: 3}
        await end(again, at=START + DAY, labels={"dag_id": "f"})
        assert "f" in dict((await sums(again, "dag_id")).rows), "another day starts with no values"


async def test_days_are_told_apart_and_older_ones_left_out(store: Store) -> None:
    for days in (3, 2, 1, 0):
        await end(store, at=START - days * DAY + 60)
    found = await sums(store, "day")
    assert [name for name, _ in found.rows] == [TODAY, day_of(START - DAY), BEFORE]
    assert found.total[0].waits == 3
    few = await sums(store, "day", limit=1)
    assert ([name for name, _ in few.rows], few.more, few.total[0].waits) == ([TODAY], True, 3)


async def test_the_longest_waits_come_first_and_the_limit_says_that_there_are_more(store: Store) -> None:
    for name, seconds in (("a", 10), ("b", 300), ("c", 100)):
        await end(store, at=START + seconds, labels={"team": name})
    found = await sums(store, "team", limit=2)
    assert ([name for name, _ in found.rows], found.more) == (["b", "c"], True)
    assert found.total[0].waits == 3


async def test_a_namespace_sees_its_own_and_who_sees_all_sees_all(store: Store) -> None:
    await end(store, namespace="a")
    await end(store, namespace="b")
    await store.save_overhead(MeasuredUsage(7.0, 70.0))
    assert (await sums(store, namespace="a")).total[0].waits == 1
    assert (await sums(store, namespace="c")).total == []
    every = await sums(store, namespace=None)
    assert [part.waits for part in every.total] == [2]
    assert dict(every.rows).keys() == {"http"}


async def test_sums_outlive_the_waits(store: Store) -> None:
    await end(store, sinks=[])
    assert await store.prune(START + 61, 10) == 1
    assert (await sums(store)).total[0].waits == 1


async def test_overhead_is_added_up(store: Store) -> None:
    assert (await sums(store)).overhead == MeasuredUsage()
    await store.save_overhead(MeasuredUsage(1.0, 10.0))
    await store.save_overhead(MeasuredUsage(2.0, 20.0))
    assert (await sums(store)).overhead == MeasuredUsage(3.0, 30.0)
    assert (await sums(store)).total == []


async def test_sums_of_old_days_are_deleted(store: Store, clock: WallClock) -> None:
    await end(store)
    clock.at += 10 * DAY
    await store.save_overhead(MeasuredUsage(1.0, 1.0))
    assert (await sums(store)).total[0].waits == 1
    clock.at += DAY
    await store.save_overhead(MeasuredUsage(1.0, 1.0))
    assert (await sums(store)).total == []


async def test_where_nobody_measures_nothing_is_added_up(database: Path, clock: WallClock) -> None:
    async with opened(database, clock) as store:
        ended = await end(store)
        assert ended.measured is None
        assert (await sums(store)).total == []


async def test_many_ends_in_one_commit_are_few_rows(store: Store, database: Path) -> None:
    import asyncio

    waits = await add(store, *[new_wait(labels={"dag_id": "ab"[n % 2]}) for n in range(500)])
    await asyncio.gather(*[store.finish(ending(wait, progress=SEEN)) for wait in waits])
    with closing(sqlite3.connect(database)) as plain:
        assert plain.execute("SELECT count(*) FROM costs").fetchone() == (4,)
    assert {n: p[0].waits for n, p in (await sums(store, "dag_id")).rows} == {"a": 250, "b": 250}
