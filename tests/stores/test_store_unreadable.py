"""Rows that cannot be read: they are set aside, listed as they are stored, and harm no other."""

import sqlite3
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from store_values import (
    HOOK,
    START,
    RecordingListener,
    add,
    add_one,
    all_waiting,
    due,
    ended,
    ending,
    finish,
    new_wait,
    opened,
)

from waitd.core.errors import Conflict, NotFound, Unreadable
from waitd.core.waits.audit import AuditEntry
from waitd.core.waits.step import cancelled_outcome
from waitd.ports import AuditFilter, CostFilter, DeliveryFilter, StoredWait, WaitFilter
from waitd.stores import Store

#: Values that no waiting wait may have, by column.
BAD_VALUES: list[tuple[str, Any]] = [
    ("spec", "no json"),
    ("spec", "[]"),
    ("spec", "{}"),
    ("spec", ""),
    ("spec", b"\xff\xfe"),
    ("spec", 17),
    ("spec", '{"kind":"http","params":{},"poke_interval":0,"timeout":60}'),
    ("spec", '{"kind":"http","params":{},"poke_interval":"x","timeout":60}'),
    ("spec", '{"kind":"http","params":{},"poke_interval":1,"timeout":60,"sinks":[{}]}'),
    ("spec", '{"kind":"http","params":{},"poke_interval":1,"timeout":60,"submit":{"cancel_job_on":1}}'),
    ("spec", "[" * 100_000),
    ("state", "bogus"),
    ("state", b"waiting"),
    ("state", "success"),
    ("created_at", "yesterday"),
    ("created_at", 1e300),
    ("created_at", float("inf")),
    ("deadline", "tomorrow"),
    ("deadline", -1e18),
    ("progress", "{}"),
    ("progress", "[1,2]"),
    ("progress", '[1,1,null,[["maybe","r","m",1,2,1]]]'),
    ("progress", '[1,1,null,[["pending","r","m",1e300,2,1]]]'),
    ("progress", b"[1]"),
    ("submission", '["bogus"]'),
    ("submission", "null"),
    ("namespace", b"default"),
    ("finished_at", START),
    ("event", b"no event"),
    ("id", b"blob"),
]


def damage(database: Path, wait: StoredWait, **columns: Any) -> None:
    """Writes values into the row of a wait, past waitd."""
    with closing(sqlite3.connect(database)) as connection:
        for name, value in columns.items():
            connection.execute(f"UPDATE waits SET {name} = ? WHERE id = ?", (value, wait.id))
        connection.commit()


def write(database: Path, sql: str, *values: Any) -> None:
    with closing(sqlite3.connect(database)) as connection:
        connection.execute(sql, values)
        connection.commit()


async def scrubbed(store: Store) -> list[str]:
    """The ids of unreadable waits after all rows have been read."""
    after: str | None = ""
    while after is not None:
        after = await store.scrub(after, 2)
    return [wait.id for wait in await store.find_unreadable(WaitFilter())]


@pytest.mark.parametrize("storage", ["TEXT", "BLOB"])
@pytest.mark.parametrize("name", ["\xff", "0\xff", "0\x80", "\x00\xff", "0\xef\xbf\xbd\xff", "{id}\x80"])
async def test_an_id_that_is_not_utf8_costs_its_own_wait_only(
    name: str, storage: str, database: Path
) -> None:
    """A text may come before, among or after the other ids; a BLOB comes after them."""
    async with opened(database) as store:
        waits = await add(store, *(new_wait() for _ in range(9)))
    write(
        database,
        f"UPDATE waits SET id = CAST(? AS {storage}) WHERE id = ?",
        name.format(id=waits[4].id[:-1]).encode("latin-1"),
        waits[4].id,
    )
    others = [wait.id for wait in waits if wait is not waits[4]]
    async with opened(database) as store:
        assert await all_waiting(store) == others
        for limit in range(1, 9):
            found = await store.find(WaitFilter(limit=limit))
            assert [wait.id for wait in found] == others[::-1][:limit]
        await scrubbed(store)
        [shown] = await store.find_unreadable(WaitFilter())
        assert shown.row["spec"]
        assert store.unreadable_counts() == {"waits": 1}


@pytest.mark.parametrize(("column", "value"), BAD_VALUES, ids=lambda value: str(value)[:30])
async def test_a_bad_value_costs_its_own_wait_only(column: str, value: Any, database: Path) -> None:
    async with opened(database) as store:
        waits = await add(store, *(new_wait() for _ in range(9)))
    bad = waits[4]
    damage(database, bad, **{column: value})
    others = [wait.id for wait in waits if wait is not bad]
    async with opened(database) as store:
        loaded = await all_waiting(store)
        # A start does not read the columns of ended waits; the scrub does.
        assert [wait_id for wait_id in loaded if wait_id != bad.id] == others
        assert (bad.id in loaded) == (column in {"finished_at", "event"})
        assert [wait.id for wait in await store.find(WaitFilter(limit=5))] == others[::-1][:5]
        assert [wait.id for wait in await store.find(WaitFilter(labels={"dag_id": "a"}))] == others[::-1]
        assert [wait.id for wait in await store.find(WaitFilter(state="waiting"))] == others[::-1]
        assert set(await store.counts()) <= {("waiting", "http"), ("success", "http")}
        await scrubbed(store)
        assert store.unreadable_counts() == {"waits": 1}
        [shown] = await store.find_unreadable(WaitFilter())
        assert shown.error
        assert set(shown.row) >= {"id", "spec", "state"}
        if isinstance(value, str):
            assert shown.row[column] == value
        for wait in waits:
            if wait.id in others:
                await finish(store, wait)
        assert len(await due(store)) == len(others)


async def test_text_that_is_not_utf8_costs_its_own_wait_only(database: Path) -> None:
    async with opened(database) as store:
        waits = await add(store, *(new_wait(key=f"key{n}") for n in range(5)))
        done = await ended(store)
    write(database, "UPDATE waits SET spec = CAST(x'7bff' AS TEXT) WHERE id = ?", waits[2].id)
    others = [wait for wait in waits if wait is not waits[2]]
    async with opened(database) as store:
        assert await all_waiting(store) == [wait.id for wait in others]
        assert [wait.id for wait in await store.find(WaitFilter())] == [
            wait.id for wait in (done, *others[::-1])
        ]
        with pytest.raises(Unreadable):
            await store.get(waits[2].id)
        [shown] = await store.find_unreadable(WaitFilter())
        assert shown.row["spec"] == {"base64": "e/8="}
        assert await store.finish(ending(waits[2])) is None
        await finish(store, others[0])


async def test_each_call_about_an_unreadable_wait_says_so(store: Store, database: Path) -> None:
    bad, good = await add(store, new_wait(key="key", supersede_key="latest"), new_wait())
    damage(database, bad, spec="no json")
    for call in (
        store.get(bad.id),
        store.cancel(bad.id, cancelled_outcome()),
        store.get(bad.id, "default"),
    ):
        with pytest.raises(Unreadable, match=f"{bad.id}.*cannot be read.*waitd export"):
            await call
    again, other = await store.insert([new_wait(key="key"), new_wait()])
    assert isinstance(again, Conflict)
    assert not isinstance(other, Exception)
    [newer] = await add(store, new_wait(supersede_key="latest"))
    assert newer.state == "waiting"
    await store.cancel(good.id, cancelled_outcome())
    shown = await store.get_unreadable(bad.id)
    assert shown is not None
    assert (shown.row["spec"], shown.row["idempotency_key"]) == ("no json", "key")
    assert await store.get_unreadable(bad.id, "another") is None


async def test_an_ended_wait_with_a_bad_event_is_left_out_of_lists_and_of_the_event_log(
    store: Store, database: Path
) -> None:
    bad, good = await ended(store), await ended(store)
    damage(database, bad, event=b"{}")
    assert [wait.id for wait in await store.find(WaitFilter())] == [good.id]
    assert [event.event is None for event in await store.events_after(0, None, 10)] == [True, False]
    with pytest.raises(Unreadable):
        await store.redeliver(bad.id)
    await store.redeliver(good.id)
    assert await scrubbed(store) == [bad.id]


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", b"\xff"),
        ("finished_seq", "last"),
        ("namespace", b"\xff"),
        ("principal", b"\xff"),
        ("kept_bytes", "many"),
    ],
)
async def test_an_ended_wait_that_is_damaged_is_never_deleted_and_keeps_no_other(
    store: Store, database: Path, column: str, value: Any
) -> None:
    damaged, other = await ended(store, sinks=()), await ended(store, sinks=())
    damage(database, damaged, **{column: value})
    assert await store.prune(START + 61, 10) == 1
    assert await store.prune(START + 61, 10) == 0
    with pytest.raises(NotFound):
        await store.get(other.id)


@pytest.mark.parametrize("sink", ["no json", "[]", "{}", b"\xff", "null", 5])
async def test_a_delivery_that_cannot_be_read_is_dead_and_says_why(
    sink: Any, store: Store, database: Path
) -> None:
    bad, good = await ended(store), await ended(store)
    write(database, "UPDATE deliveries SET sink = ? WHERE wait_id = ?", sink, bad.id)
    assert [item.wait_id for item in await due(store)] == [good.id]
    [delivery] = (await store.get(bad.id)).deliveries
    assert (delivery.state, delivery.sink) == ("dead", {"kind": "unreadable"})
    assert "cannot be read" in str(delivery.last_error)
    assert [d.wait_id for d in await store.find_deliveries(DeliveryFilter(sink="webhook"))] == [good.id]
    assert len(await store.find_deliveries(DeliveryFilter())) == 2
    with pytest.raises(Conflict, match="cannot be sent"):
        await store.redeliver_each([delivery.id])
    assert (await store.redeliver_dead(DeliveryFilter())).deliveries == 0


async def test_a_delivery_whose_event_is_bad_is_dead(store: Store, database: Path) -> None:
    bad, good = await ended(store), await ended(store)
    damage(database, bad, event=b"[")
    assert [item.wait_id for item in await due(store)] == [good.id]
    states = {d.wait_id: d.state for d in await store.find_deliveries(DeliveryFilter())}
    assert states == {bad.id: "dead", good.id: "queued"}
    assert store.unreadable_counts()["deliveries"] == 1


@pytest.mark.parametrize("column", ["next_attempt_at", "attempts", "created_at"])
async def test_a_delivery_with_a_bad_number_does_not_stop_the_outbox(
    column: str, store: Store, database: Path
) -> None:
    bad = await ended(store)
    write(database, f"UPDATE deliveries SET {column} = 'x' WHERE wait_id = ?", bad.id)
    assert await store.next_attempt_at() in {None, START}
    assert await due(store) == []
    good = await ended(store)
    assert await store.due_destinations(START) == [HOOK]
    assert [item.wait_id for item in await due(store)] == [good.id]


async def test_a_row_that_was_damaged_under_a_held_wait_ends_without_harm_to_others(
    store: Store, database: Path, listener: RecordingListener
) -> None:
    waits = await add(store, *(new_wait() for _ in range(3)))
    damage(database, waits[1], spec="no json")
    answers = [await store.finish(ending(wait)) for wait in waits]
    assert [answer is None for answer in answers] == [False, True, False]
    assert [outcome.wait.id for outcome in listener.finished] == [waits[0].id, waits[2].id]


async def test_a_mended_row_is_served_again(store: Store, database: Path) -> None:
    wait = await add_one(store)
    with closing(sqlite3.connect(database)) as connection:
        ((spec,),) = connection.execute("SELECT spec FROM waits").fetchall()
    damage(database, wait, spec="no json")
    assert await store.load_waiting(None, 10) == []
    assert await store.waiting_ids(None, 10) == []
    damage(database, wait, spec=spec)
    await store.check_unreadable()
    assert store.unreadable_counts() == {"waits": 0}
    assert await store.waiting_ids(None, 10) == [wait.id]
    assert await store.load_waiting(None, 10) == [wait]


async def test_bad_rows_of_other_tables_are_left_out(store: Store, database: Path) -> None:
    for n in range(2):
        await store.save_signal("default", "key", n)
        await store.save_audit_entry(
            AuditEntry(START + n, "key:1", "admin", "*", "::1", "poke", f"wait{n}", 1, "done")
        )
    write(database, "UPDATE signals SET payload = 'no json' WHERE payload = '0'")
    write(database, "UPDATE audit SET at = 'x' WHERE subject = 'wait0'")
    write(
        database,
        "INSERT INTO api_keys VALUES ('k', x'00', 'bogus', 'default', 1.0, 'x', NULL, NULL, NULL),"
        " ('l', 'text', 'admin', 'default', 1.0, 'x', NULL, NULL, NULL)",
    )
    write(
        database,
        "INSERT INTO costs VALUES ('', 'default', '2025-06-15', x'00', 'http', 'x', 1, 1, 1, 1, 1, 1)",
    )
    assert await store.signals("default", "key") == [1]
    assert [entry.entry.subject for entry in await store.find_audit(AuditFilter())] == ["wait1"]
    assert await store.api_keys() == []
    await store.find_costs(CostFilter("default", "2025-01-01", "kind", 10))
    assert store.unreadable_counts() == {"signals": 1, "audit": 1, "api_keys": 2}


async def test_bad_numbers_of_events_do_not_keep_the_store_from_opening(database: Path) -> None:
    async with opened(database) as store:
        bad, _ = await ended(store), await ended(store)
    damage(database, bad, finished_seq="x")
    write(database, "INSERT INTO watermarks VALUES ('finished_seq', 'x'), ('pruned_seq', 'x')")
    async with opened(database) as store:
        assert store.finished_seq == 2
        await ended(store)
        assert [event.seq for event in await store.events_after(1, None, 10)][:2] == [2, 3]


def test_every_column_is_tried() -> None:
    tried: Mapping[str, Any] = dict(BAD_VALUES)
    assert set(tried) >= {"id", "namespace", "spec", "state", "created_at", "deadline", "progress", "event"}
