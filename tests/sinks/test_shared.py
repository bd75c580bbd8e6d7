"""Clients made once and shared."""

import asyncio

import pytest

from waitd.sinks.client_pool import ClientPool


class Thing:
    def __init__(self, name: str) -> None:
        self.name = name
        self.usable = True
        self.closed = False

    async def close(self) -> None:
        self.closed = True


class Bench:
    def __init__(self, *, kept: int = 2, make_seconds: float = 5.0) -> None:
        self.shared: ClientPool[Thing] = ClientPool(
            Thing.close, lambda t: t.usable, kept=kept, make_seconds=make_seconds
        )
        self.made: list[Thing] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.broken = False

    async def make(self) -> Thing:
        await self.gate.wait()
        if self.broken:
            raise ConnectionError
        self.made.append(Thing(f"thing {len(self.made)}"))
        return self.made[-1]

    async def use(self, key: str = "k", version: object = 1) -> Thing:
        async with self.shared.lent(key, version, self.make) as thing:
            await asyncio.sleep(0)
            return thing


async def test_it_is_made_once_for_all_who_ask_at_a_time() -> None:
    bench = Bench()
    assert len({id(thing) for thing in await asyncio.gather(*(bench.use() for _ in range(20)))}) == 1


async def test_a_caller_that_is_cancelled_takes_nothing_from_the_others() -> None:
    bench = Bench()
    bench.gate.clear()
    first, second = asyncio.create_task(bench.use()), asyncio.create_task(bench.use())
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.wait([first])
    bench.gate.set()
    assert await second is bench.made[0]
    assert len(bench.made) == 1


async def test_a_failure_reaches_all_who_wait_and_the_next_one_tries_again() -> None:
    bench = Bench()
    bench.broken = True
    answers = await asyncio.gather(*(bench.use() for _ in range(3)), return_exceptions=True)
    assert [type(answer) for answer in answers] == [ConnectionError] * 3
    bench.broken = False
    assert await bench.use() is bench.made[0]


async def test_another_version_is_made_anew_and_the_old_one_closed_when_its_last_user_is_done() -> None:
    bench = Bench()
    async with bench.shared.lent("k", 1, bench.make) as old:
        new = await bench.use(version=2)
        await asyncio.sleep(0.01)
        assert new is not old
        assert [old.closed] == [False]
    await asyncio.sleep(0.01)
    assert old.closed
    assert not new.closed


async def test_one_that_is_dropped_or_unusable_is_lent_to_nobody_else() -> None:
    bench = Bench()
    first = await bench.use()
    bench.shared.drop("k", first)
    second = await bench.use()
    bench.shared.drop("k", first)  # again, by another who had it: the second is not meant
    assert await bench.use() is second
    second.usable = False
    third = await bench.use()
    await asyncio.sleep(0.01)
    assert [thing.closed for thing in (first, second, third)] == [True, True, False]


async def test_the_one_that_was_used_longest_ago_gives_way() -> None:
    bench = Bench(kept=2)
    a, b = await bench.use("a"), await bench.use("b")
    await bench.use("a")
    await bench.use("c")
    await asyncio.sleep(0.01)
    assert (a.closed, b.closed) == (False, True)


async def test_making_has_a_limit() -> None:
    bench = Bench(make_seconds=0.01)
    bench.gate.clear()
    with pytest.raises(TimeoutError):
        await bench.use()


async def test_closing_ends_what_is_in_use_and_what_is_being_made() -> None:
    bench = Bench()
    async with bench.shared.lent("a", 1, bench.make) as used:
        bench.gate.clear()
        waiting = asyncio.create_task(bench.use("b"))
        await asyncio.sleep(0)
        await bench.shared.aclose()
        assert used.closed
    with pytest.raises(asyncio.CancelledError):
        await waiting
