"""The audit, an entry for each change in the commit of that change; and API keys."""

import sqlite3
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from msgspec import structs
from store_values import DONE, START, WallClock, add_one, new_wait, opened

from waitd.core.auth.api_key import ApiKey
from waitd.core.auth.principal import Principal, Role
from waitd.core.errors import Conflict, NotFound, StoreUnavailable
from waitd.core.waits.audit import AuditEntry, Caller, build_audit_entry
from waitd.ports import AuditFilter, DeliveryFilter
from waitd.stores import Store
from waitd.stores.schema import audit as table

ANNA = Caller(Principal("key:anna", Role.OPERATOR, "team_a"), "10.0.0.7")
KEY = ApiKey("anna", b"d" * 32, Role.OPERATOR, "team_a", START, "loopback", expires_at=START + 9)


async def entries(store: Store, **filters: object) -> list[AuditEntry]:
    """The audit entries, oldest first."""
    return [stored.entry for stored in await store.find_audit(AuditFilter(**filters))][::-1]  # type: ignore[arg-type]


async def test_a_submit_has_an_audit_entry(store: Store, clock: WallClock) -> None:
    [added] = await store.insert([new_wait()], ANNA)
    assert not isinstance(added, Exception)
    assert await entries(store) == [
        AuditEntry(clock.at, "key:anna", "operator", "team_a", "10.0.0.7", "submit", added.wait.id, 1, "done")
    ]


async def test_a_batch_has_one_entry_with_the_number_of_new_waits(store: Store) -> None:
    keyed = structs.replace(new_wait(), idempotency_key="k", body_digest=b"1")
    await store.insert([keyed], ANNA)
    await store.insert([keyed], ANNA)
    await store.insert([keyed, new_wait(), new_wait()], ANNA)
    assert [(entry.subject is None, entry.subjects) for entry in await entries(store)] == [
        (False, 1),
        (True, 2),
    ]


async def test_a_change_without_a_caller_has_no_entry(store: Store) -> None:
    wait = await add_one(store)
    await store.cancel(wait.id, DONE)
    assert await entries(store) == []


async def test_entries_of_cancels_and_redeliveries_name_the_result(store: Store) -> None:
    wait = await add_one(store)
    with pytest.raises(Conflict):
        await store.redeliver(wait.id, by=ANNA)
    await store.cancel(wait.id, DONE, by=ANNA)
    with pytest.raises(NotFound):
        await store.cancel("unknown", DONE, by=ANNA)
    with pytest.raises(NotFound):
        await store.redeliver_each(["unknown"], by=ANNA)
    await store.redeliver_dead(DeliveryFilter(), ANNA)
    assert [
        (entry.action, entry.subject, entry.subjects, entry.result) for entry in await entries(store)
    ] == [
        ("redeliver", wait.id, 1, "conflict"),
        ("cancel", wait.id, 1, "done"),
        ("cancel", "unknown", 1, "not_found"),
        ("redeliver", None, 1, "not_found"),
        ("redeliver", None, 0, "done"),
    ]


async def test_a_change_that_is_not_stored_has_no_entry(store: Store, database: Path) -> None:
    with closing(sqlite3.connect(database)) as other:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StoreUnavailable):
            await store.insert([new_wait()], ANNA)
        with pytest.raises(StoreUnavailable):
            await store.save_audit_entry(build_audit_entry(ANNA, START, "poke", "x"))
        other.rollback()
    assert await entries(store) == []


async def test_a_change_whose_entry_cannot_be_stored_is_not_stored(store: Store, database: Path) -> None:
    with closing(sqlite3.connect(database)) as other, other:
        other.execute("ALTER TABLE audit RENAME TO gone")
    with pytest.raises(Exception, match="audit"):
        await store.insert([new_wait()], ANNA)
    assert await store.waiting_ids(None, 10) == []


async def test_only_old_entries_are_deleted(store: Store) -> None:
    for at in (START, START + 1, START + 100, START + 2):  # the clock was set back
        await store.save_audit_entry(build_audit_entry(ANNA, at, "poke", str(at - START)))
    assert await store.prune_audit(START + 1, 10, 100) == 1
    assert await store.prune_audit(START + 50, 1, 100) == 1
    assert await store.prune_audit(START + 50, 10, 100) == 1
    assert await store.prune_audit(START + 50, 10, 100) == 0
    assert [entry.subject for entry in await entries(store)] == ["100.0"]


async def test_beyond_their_number_the_oldest_entries_are_deleted(store: Store) -> None:
    assert await store.prune_audit(0.0, 10, 4) == 0, "there is none"
    for number in range(10):
        await store.save_audit_entry(build_audit_entry(ANNA, START, "poke", str(number)))
    assert [await store.prune_audit(0.0, 5, 4) for _ in range(3)] == [5, 1, 0]
    await store.save_audit_entry(build_audit_entry(ANNA, START, "poke", "10"))
    assert await store.prune_audit(0.0, 5, 4) == 1
    assert [entry.subject for entry in await entries(store)] == ["7", "8", "9", "10"]


async def test_entries_are_paged_and_filtered(store: Store) -> None:
    for n in range(5):
        await store.save_audit_entry(build_audit_entry(ANNA, START, "poke", str(n)))
    first = await store.find_audit(AuditFilter(limit=2))
    rest = await store.find_audit(AuditFilter(before=first[-1].number))
    assert [stored.entry.subject for stored in (*first, *rest)] == ["4", "3", "2", "1", "0"]
    assert await entries(store, subject="3", action="poke", principal="key:anna")
    assert await entries(store, subject="3", action="cancel") == []
    assert await entries(store, principal="\udc80") == []


def test_an_entry_has_the_columns_in_their_order() -> None:
    assert ("number", *AuditEntry._fields) == tuple(table.c.keys())


async def test_keys_are_stored_changed_and_deleted(database: Path) -> None:
    async with opened(database) as store:
        await store.save_api_keys([KEY, replace(KEY, id="ben", role=Role.ADMIN)])
        await store.save_api_keys([replace(KEY, revoked_at=START + 1, used_at=START)])
    async with opened(database) as store:
        keys = {key.id: key for key in await store.api_keys()}
        assert keys["anna"] == replace(KEY, revoked_at=START + 1, used_at=START)
        assert keys["ben"].role is Role.ADMIN
        await store.delete_api_keys(["anna", "unknown"])
        assert [key.id for key in await store.api_keys()] == ["ben"]


async def test_a_key_is_stored_with_its_audit_entry(store: Store) -> None:
    await store.save_api_keys([KEY], build_audit_entry(ANNA, START, "create_key", "anna"))
    assert [entry.action for entry in await entries(store)] == ["create_key"]
