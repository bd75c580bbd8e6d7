"""What the poker says of a wait in hand: where it stands, and who throttles it."""

import asyncio

import pytest
from fakes import hang
from test_poker import Bench, running
from virtual_time import in_virtual_time

from waitd.core.waits.verdict import Pending, Success, Unreachable
from waitd.ports import WaitingOn


def on(bench: Bench, name: str) -> WaitingOn:
    live = bench.poker.live(name)
    assert live is not None
    assert live.waiting_on is not None
    return live.waiting_on


@in_virtual_time
async def test_a_wait_between_two_pokes_is_scheduled_and_nothing_throttles_it() -> None:
    async with running(lambda *_: Pending()) as bench:
        bench.add("w", host="there")
        await asyncio.sleep(1)
        assert on(bench, "w") == WaitingOn("scheduled", None, None, "there", 2, 0, False, None)


@in_virtual_time
async def test_a_wait_behind_others_at_its_origin_says_so_and_since_when() -> None:
    async with running(lambda *_: hang()) as bench:
        began = bench.clock.now()
        for name in ("first", "second"):
            bench.add(name, host="there")
        await asyncio.sleep(2)
        assert (on(bench, "first").stage, on(bench, "first").held_up_by) == ("poking", None)
        second = on(bench, "second")
        assert (second.stage, second.held_up_by) == ("queued", "origin_limit")
        assert (second.origin, second.origin_limit, second.origin_running) == ("there", 1, 1)
        assert second.since == pytest.approx(began, abs=0.05)
        live = bench.poker.live("second")
        assert live is not None
        assert live.next_poke_at == bench.clock.now()


@in_virtual_time
async def test_an_origin_that_timed_out_three_times_in_a_row_is_said_to_be_held_down() -> None:
    async with running(lambda *_: hang()) as bench:
        bench.add("w", host="there", interval=1, request_timeout=1)
        await asyncio.sleep(1.5)
        assert not on(bench, "w").origin_held_down
        await asyncio.sleep(30)
        assert on(bench, "w").origin_held_down


@in_virtual_time
async def test_where_every_place_is_taken_that_is_the_reason() -> None:
    limits = {"poke_concurrency": 2, "per_host_concurrency": 1}
    async with running(lambda name, n: Pending() if n == 1 else hang(), **limits) as bench:
        for name in ("a", "b", "c"):
            bench.add(name, host=name, request_timeout=1000)
        await asyncio.sleep(40)
        assert sorted(on(bench, name).held_up_by or "" for name in ("a", "b", "c")) == [
            "",
            "",
            "poke_concurrency",
        ]


@in_virtual_time
async def test_where_too_many_origins_have_not_answered_a_new_one_waits_for_them() -> None:
    async with running(lambda *_: hang(), poke_concurrency=2) as bench:
        bench.add("a", host="a")
        bench.add("b", host="b")
        await asyncio.sleep(1)
        assert on(bench, "b").held_up_by == "unproven_origins"


@in_virtual_time
async def test_a_retry_after_is_shown_until_the_next_answer() -> None:
    async with running(
        lambda _, n: Unreachable("http_429", retry_after=100) if n == 1 else Pending()
    ) as bench:
        bench.add("w", interval=10)
        began = bench.clock.now()
        await asyncio.sleep(1)
        live = bench.poker.live("w")
        assert live is not None
        assert on(bench, "w").quiet_until == pytest.approx(began + 100, abs=0.05)
        assert live.next_poke_at >= began + 100
        await asyncio.sleep(110)
        assert on(bench, "w").quiet_until is None


@in_virtual_time
async def test_an_outcome_that_the_disk_does_not_take_is_shown_as_ending() -> None:
    async with running(lambda *_: Success()) as bench:
        bench.store.refusing = True
        bench.add("w")
        await asyncio.sleep(1)
        assert on(bench, "w").stage == "ending"


@in_virtual_time
async def test_the_poke_at_the_deadline_is_held_up_by_nothing() -> None:
    async with running(lambda *_: hang()) as bench:
        bench.add("blocker", host="there", request_timeout=1000)
        bench.add("w", host="there", timeout=10)
        await asyncio.sleep(10.5)
        assert on(bench, "w").stage == "poking"
        assert on(bench, "w").held_up_by is None
