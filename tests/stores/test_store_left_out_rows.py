"""Writes that SQLite leaves out without an error, as the trigger action RAISE(IGNORE) makes it."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path

import pytest
from store_values import SEEN, START, add_one, all_waiting, ended, ending, new_wait, settle

from waitd.core.auth.api_key import ApiKey
from waitd.core.auth.principal import Principal, Role
from waitd.core.errors import StoreUnavailable
from waitd.core.waits.audit import Caller
from waitd.core.waits.delivery import AfterAttempt, DeliveryState
from waitd.core.waits.submission import PENDING_SUBMISSION
from waitd.ports import StoredWait
from waitd.stores import Store

ANNA = Caller(Principal("key:anna", Role.OPERATOR, "team_a"), "10.0.0.7")
KEY = ApiKey("anna", b"d" * 32, Role.OPERATOR, "team_a", START, "loopback")


async def insert(store: Store, _: StoredWait) -> object:
    return await store.insert([new_wait(), new_wait(key="k")], by=ANNA)


async def finish(store: Store, wait: StoredWait) -> object:
    return await store.finish(ending(wait))


async def supersede(store: Store, _: StoredWait) -> object:
    return await store.insert([new_wait(supersede_key="s")])


async def save_attempt(store: Store, _: StoredWait) -> None:
    (delivery,) = (await ended(store)).deliveries
    await store.save_attempt(delivery.id, AfterAttempt(DeliveryState.DEAD, 1, None, None), START)


async def save_progress(store: Store, wait: StoredWait) -> None:
    await store.save_progress([(wait.id, SEEN)])


async def save_submission(store: Store, wait: StoredWait) -> None:
    await store.save_submission(wait.id, PENDING_SUBMISSION)


async def prune(store: Store, _: StoredWait) -> object:
    await settle(store, await ended(store))
    return await store.prune(START + 100, 10)


async def save_signal(store: Store, _: StoredWait) -> None:
    await store.save_signal("default", "key", {})


async def save_api_keys(store: Store, _: StoredWait) -> None:
    await store.save_api_keys([KEY])


async def check_writable(store: Store, _: StoredWait) -> None:
    await store.check_writable()


@pytest.mark.parametrize(
    ("event", "write"),
    [
        ("INSERT ON waits", insert),
        ("INSERT ON audit", insert),
        ("UPDATE ON waits", finish),
        ("INSERT ON deliveries", finish),
        ("UPDATE ON waits", supersede),
        ("UPDATE ON deliveries", save_attempt),
        ("UPDATE ON waits", save_progress),
        ("UPDATE ON waits", save_submission),
        ("DELETE ON waits", prune),
        ("INSERT ON signals", save_signal),
        ("INSERT ON api_keys", save_api_keys),
        ("INSERT ON watermarks", check_writable),
    ],
)
async def test_a_write_that_is_left_out_fails_as_a_whole(
    store: Store, database: Path, event: str, write: Callable[[Store, StoredWait], Awaitable[object]]
) -> None:
    wait = await add_one(store, supersede_key="s")
    with closing(sqlite3.connect(database, isolation_level=None)) as other:
        other.execute(f"CREATE TRIGGER no BEFORE {event} BEGIN SELECT RAISE(IGNORE); END")
        with pytest.raises(StoreUnavailable, match="left out"):
            await write(store, wait)
        assert "trigger" in store.failure
        other.execute("DROP TRIGGER no")
    assert wait.id in await all_waiting(store)
    await write(store, wait)
    await store.check_writable()
    assert not store.failure


async def test_what_has_ended_meanwhile_may_be_left_out(store: Store) -> None:
    waiting, done = await add_one(store), await ended(store)
    (delivery,) = await settle(store, done)
    await asyncio.gather(
        store.save_progress([(done.id, SEEN), (waiting.id, SEEN)]),
        store.save_attempt(delivery.id, AfterAttempt(DeliveryState.DEAD, 9, None, None), START),
    )
    assert (await store.get(waiting.id)).progress == SEEN
    (after,) = (await store.get(done.id)).deliveries
    assert (after.state, store.failure) == ("delivered", "")
