"""The costs of waits: stored when they end, summed by day, and bounded in number."""

import asyncio
import sqlite3
from collections.abc import AsyncIterator
from contextlib import closing
from pathlib import Path

import pytest
from store_values import (
    AIRFLOW,
    SEEN,
    START,
    RecordingListener,
    WallClock,
    add,
    add_one,
    ended,
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
RULES = CostRules(labels=("dag_id", "team"), max_values=3)


def measured(wait: StoredWait, seconds: float) -> MeasuredUsage:
    """A second of CPU a poke, two bytes a second."""
    return MeasuredUsage(float(wait.progress.pokes), 2.0 * seconds)


@pytest.fixture
async def store(database: Path, clock: WallClock) -> AsyncIterator[Store]:
    async with opened(database, clock, RecordingListener(usage=measured), RULES) as store:
        yield store


async def sums(
    store: Store, by: str = "kind", namespace: str | None = "default", limit: int = 100
) -> CostSums:
    return await store.find_costs(CostFilter(namespace, BEFORE, by, limit))


async def counts(store: Store) -> dict[str, float]:
    """The number of waits by their label `dag_id`."""
    return {name: totals[0].waits for name, totals in (await sums(store, "dag_id")).rows}


async def test_an_ended_wait_is_stored_with_its_usage(store: Store) -> None:
    finished, waiting = await ended(store), await add_one(store)
    assert finished.measured == MeasuredUsage(1.0, 120.0)
    assert (await store.get(finished.id)).measured == finished.measured
    assert (await store.get(waiting.id)).measured is None


async def test_only_ended_waits_are_summed(store: Store) -> None:
    await ended(store, labels={"dag_id": "a"})
    await ended(store, labels={"dag_id": "a"}, sinks=[AIRFLOW])
    await ended(store, labels={"dag_id": "b"}, kind="s3_key")
    cancelled, _ = await add(store, *[new_wait(labels={"dag_id": "a"})] * 2)
    await store.cancel(cancelled.id, cancelled_outcome())
    by_dag = await sums(store, "dag_id")
    assert dict(by_dag.rows) == {
        "a": [WaitingTotals("http", 3, 120, 2, 1, 1, MeasuredUsage(2, 240))],
        "b": [WaitingTotals("s3_key", 1, 60, 1, 0, 0, MeasuredUsage(1, 120))],
    }
    assert {part.kind: part.waits for part in by_dag.total} == {"http": 3, "s3_key": 1}
    assert dict((await sums(store, "kind")).rows)["http"][0].waits == 3
    assert [name for name, _ in (await sums(store, "day")).rows] == [TODAY]


async def test_a_superseded_wait_is_summed(store: Store) -> None:
    await add(store, new_wait(supersede_key="k"))
    await add(store, new_wait(supersede_key="k"))
    assert [part.waits for part in (await sums(store)).total] == [1]


async def test_a_wait_without_the_label_counts_under_the_empty_value(store: Store) -> None:
    await ended(store, labels={"dag_id": "a"})
    await ended(store, labels={})
    assert await counts(store) == {"a": 1, "": 1}
    assert (await sums(store, "dag_id")).total[0].waits == 2


async def test_the_number_of_label_values_a_day_is_bounded(
    store: Store, database: Path, clock: WallClock
) -> None:
    for name in "abcdea":
        await ended(store, labels={"dag_id": name})
    assert await counts(store) == {"a": 2, "b": 1, "c": 1, OTHER: 2}
    await store.close()
    # The values that are known before a restart are known after it.
    async with opened(database, clock, RecordingListener(usage=measured), RULES) as again:
        for name in "fa":
            await ended(again, labels={"dag_id": name})
        assert await counts(again) == {"a": 3, "b": 1, "c": 1, OTHER: 3}
        await ended(again, at=START + DAY, labels={"dag_id": "f"})
        assert "f" in await counts(again), "another day starts with no values"


async def test_days_are_summed_separately_from_the_first_requested_one(store: Store) -> None:
    for days in (3, 2, 1, 0):
        await ended(store, at=START - days * DAY + 60)
    by_day = await sums(store, "day")
    assert [name for name, _ in by_day.rows] == [TODAY, day_of(START - DAY), BEFORE]
    assert by_day.total[0].waits == 3
    first = await sums(store, "day", limit=1)
    assert ([name for name, _ in first.rows], first.more, first.total[0].waits) == ([TODAY], True, 3)


async def test_label_values_are_listed_longest_wait_first_up_to_the_limit(store: Store) -> None:
    for name, seconds in (("a", 10), ("b", 300), ("c", 100)):
        await ended(store, at=START + seconds, labels={"team": name})
    by_team = await sums(store, "team", limit=2)
    assert ([name for name, _ in by_team.rows], by_team.more) == (["b", "c"], True)
    assert by_team.total[0].waits == 3


async def test_sums_are_those_of_one_namespace_or_of_all(store: Store) -> None:
    await ended(store, namespace="a")
    await ended(store, namespace="b")
    await store.save_overhead(MeasuredUsage(7.0, 70.0), 0.0)
    assert (await sums(store, namespace="a")).total[0].waits == 1
    assert (await sums(store, namespace="c")).total == []
    everything = await sums(store, namespace=None)
    assert [part.waits for part in everything.total] == [2]
    assert dict(everything.rows).keys() == {"http"}


async def test_sums_are_kept_after_the_waits_are_deleted(store: Store) -> None:
    await ended(store, sinks=[])
    assert await store.prune(START + 61, 10) == 1
    assert (await sums(store)).total[0].waits == 1


async def test_overhead_is_summed(store: Store) -> None:
    assert (await sums(store)).overhead == MeasuredUsage()
    await store.save_overhead(MeasuredUsage(1.0, 10.0), 0.0)
    await store.save_overhead(MeasuredUsage(2.0, 20.0), 0.0)
    assert (await sums(store)).overhead == MeasuredUsage(3.0, 30.0)
    assert (await sums(store)).total == []


async def test_sums_of_old_days_are_deleted(store: Store, clock: WallClock) -> None:
    await ended(store)
    clock.at += 10 * DAY
    await store.save_overhead(MeasuredUsage(1.0, 1.0), clock.at - 10 * DAY)
    assert (await sums(store)).total[0].waits == 1
    clock.at += DAY
    await store.save_overhead(MeasuredUsage(1.0, 1.0), clock.at - 10 * DAY)
    assert (await sums(store)).total == []


async def test_unmeasured_waits_are_not_summed(database: Path, clock: WallClock) -> None:
    async with opened(database, clock) as store:
        assert (await ended(store)).measured is None
        assert (await sums(store)).total == []


async def test_many_ends_in_one_commit_write_few_rows(store: Store, database: Path) -> None:
    waits = await add(store, *[new_wait(labels={"dag_id": "ab"[n % 2]}) for n in range(500)])
    await asyncio.gather(*[store.finish(ending(wait, progress=SEEN)) for wait in waits])
    with closing(sqlite3.connect(database)) as plain:
        assert plain.execute("SELECT count(*) FROM costs").fetchone() == (4,)
    assert await counts(store) == {"a": 250, "b": 250}
