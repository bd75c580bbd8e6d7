"""How much each namespace and each principal keeps, and the limits of that."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from store_values import OTHER_WEBHOOK, START, WEBHOOK, ended, finish, new_wait, opened, settle

from waitd.core.auth.principal import Principal, Role
from waitd.core.auth.quotas import Kept, KeptLimits, Share
from waitd.core.errors import LimitReached
from waitd.core.waits.audit import Caller
from waitd.core.waits.delivery import DeliveryState
from waitd.core.waits.step import cancelled_outcome
from waitd.ports import DeliveryFilter, Inserted, StoredWait
from waitd.stores import Store
from waitd.stores.usage import Usage, count_redeliveries, count_usage

TEAM = "team_a"


def caller(name: str, namespace: str = TEAM) -> Caller:
    return Caller(Principal(f"key:{name}", Role.OPERATOR, namespace), "127.0.0.1")


ANN, BOB = caller("ann"), caller("bob")


def limits(**most: int) -> KeptLimits:
    """Limits of team_a, such as `waits_held_per_principal=2`."""
    shares = {
        kept: Share(
            most.get(f"{kept}_per_namespace", float("inf")), most.get(f"{kept}_per_principal", float("inf"))
        )
        for kept in Kept
    }
    return KeptLimits(namespaces={TEAM: shares})


async def submit(store: Store, by: Caller, count: int = 1, **wait: Any) -> list[StoredWait]:
    """Submits waits in one batch; returns those that were taken."""
    batch = [new_wait(namespace=by.principal.namespace, **wait) for _ in range(count)]
    return [one.wait for one in await store.insert(batch, by) if isinstance(one, Inserted)]


def used(usage: Usage) -> Mapping[object, int]:
    return {key: count for key, count in usage.items() if count}


async def test_what_is_kept_is_counted_through_every_change_and_again_at_start(database: Path) -> None:
    async with opened(database) as store:
        first, second = await submit(store, ANN, 2)
        await submit(store, BOB, 3, supersede_key="only the last is held")
        await submit(store, BOB, supersede_key="only the last is held")
        await submit(store, caller("ann", "team_b"), 2)
        await finish(store, first, at=START)
        await store.cancel(second.id, cancelled_outcome())
        await settle(store, first)
        for number in range(3):
            await store.save_signal(TEAM, "approved", {"number": number % 2}, ANN)
        get = store.usage.get
        assert get(Kept.WAITS, TEAM) == get(Kept.WAITS, TEAM, "key:bob") == 1
        assert get(Kept.WAITS, "team_b", "key:ann") == 2
        assert (get(Kept.ENDED_WAITS, TEAM, "key:ann"), get(Kept.ENDED_WAITS, TEAM, "key:bob")) == (2, 3)
        assert get(Kept.SIGNALS, TEAM) == 2
        assert get(Kept.SIGNAL_BYTES, TEAM) == 2 * len('approved{"number":0}')
        event_and_spec = len((await store.events_after(0, TEAM, 10))[3].event or b"") + first.spec_size
        assert get(Kept.ENDED_BYTES, TEAM, "key:ann") > event_and_spec > 400
        async with store._database.reading() as connection:
            assert used(await count_usage(connection)) == used(store.usage)
        assert await store.prune(START + 1, 100) == 4  # one has a delivery that is open
        assert await store.prune_signals(START + 1, 100)
        kept = used(store.usage)
        assert get(Kept.ENDED_WAITS, TEAM, "key:ann") == 1
        assert get(Kept.SIGNALS, TEAM) == get(Kept.SIGNAL_BYTES, TEAM) == 0
    async with opened(database) as store:
        assert used(store.usage) == kept


@pytest.mark.parametrize("scope", ["namespace", "principal"])
async def test_held_waits_meet_their_limit_by_line(scope: str) -> None:
    name = f"waits_held_per_{scope}"
    async with opened(None, limits=limits(**{name: 3})) as store:
        first, *_ = await submit(store, ANN, key="1")
        batch = [new_wait(namespace=TEAM, key=str(number)) for number in range(1, 6)]
        answers = await store.insert(batch, ANN)
        created = [one.created for one in answers if isinstance(one, Inserted)]
        assert created == [False, True, True]  # the lines that were taken come first
        refused = [one for one in answers if isinstance(one, LimitReached)]
        assert [one.limit for one in refused] == [name, name]
        assert len(await submit(store, BOB)) == (scope == "principal")
        assert len(await submit(store, caller("ann", "team_b"), 9)) == 9
        await finish(store, first)
        assert len(await submit(store, ANN, 2)) == 1


@pytest.mark.parametrize("name", ["ended_waits_per_namespace", "ended_waits_per_principal"])
async def test_a_supersede_storm_meets_the_limit_of_ended_waits(name: str) -> None:
    async with opened(None, limits=limits(**{name: 5})) as store:
        taken = [len(await submit(store, ANN, 2, supersede_key="one")) for _ in range(9)]
        assert sum(taken) == 6
        assert store.usage.get(Kept.ENDED_WAITS, TEAM) == 5
        assert await store.prune(START + 1, 1) == 1
        assert len(await submit(store, ANN)) == 1


@pytest.mark.parametrize("scope", ["namespace", "principal"])
async def test_ended_waits_meet_the_limit_of_their_bytes(scope: str) -> None:
    name = f"ended_bytes_per_{scope}"
    async with opened(None, limits=limits(**{name: 2000})) as store:
        while taken := await submit(store, ANN, labels={"text": "x" * 200}):
            await finish(store, taken[0])
        assert 2000 <= store.usage.get(Kept.ENDED_BYTES, TEAM) < 4000
        [refused] = await store.insert([new_wait(namespace=TEAM)], ANN)
        assert isinstance(refused, LimitReached)
        assert refused.limit == name
        assert refused.retry_after > 0


@pytest.mark.parametrize(
    "name",
    [f"{kept}_per_{scope}" for kept in ("signals", "signal_bytes") for scope in ("namespace", "principal")],
)
async def test_signals_meet_their_limits(name: str) -> None:
    size = len('approved"0"')
    async with opened(None, limits=limits(**{name: 2 * size if "bytes" in name else 2})) as store:
        for number in ("0", "1", "0"):
            await store.save_signal(TEAM, "approved", number, ANN)
        with pytest.raises(LimitReached, match=name):
            await store.save_signal(TEAM, "approved", "2", ANN)
        await store.save_signal(TEAM, "approved", "1", ANN)  # is kept already
        await store.save_signal("team_b", "approved", "2", caller("ann", "team_b"))
        await store.prune_signals(START + 1, 100)
        await store.save_signal(TEAM, "approved", "2", ANN)


@pytest.mark.parametrize("name", ["redeliveries_per_namespace", "redeliveries_per_principal"])
async def test_redeliveries_meet_their_limit_and_a_restart_changes_nothing(database: Path, name: str) -> None:
    async with opened(database, limits=limits(**{name: 4})) as store:
        waits = [await ended(store, namespace=TEAM, sinks=[WEBHOOK, OTHER_WEBHOOK]) for _ in range(3)]
        dead = [one.id for wait in waits for one in await settle(store, wait, DeliveryState.DEAD)]
        await store.redeliver(waits[0].id, TEAM, ANN)
        assert (await store.redeliver_each(dead[2:4], TEAM, ANN)).deliveries == 2
    async with opened(database, limits=limits(**{name: 4})) as store:
        with pytest.raises(LimitReached, match=name):
            await store.redeliver(waits[0].id, TEAM, ANN)
        with pytest.raises(LimitReached, match=name):
            await store.redeliver_each(dead[4:], TEAM, ANN)
        with pytest.raises(LimitReached, match=name):
            await store.redeliver_dead(DeliveryFilter(TEAM), ANN)
        assert len((await store.get(waits[2].id)).deliveries) == 2
        await settle(store, waits[0])
        assert (await store.redeliver_dead(DeliveryFilter(TEAM), ANN)).deliveries == 2
        async with store._database.reading() as connection:
            counted = await count_redeliveries(connection, [TEAM])
        assert counted.get(Kept.REDELIVERIES, TEAM, "key:ann") == 4
