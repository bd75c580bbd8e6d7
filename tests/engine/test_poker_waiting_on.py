"""What the poker says that a held wait waits for: its stage, and what holds it up."""

import asyncio

import pytest
from engine_harness import PokerHarness, RunPoker
from fakes import hang
from virtual_time import in_virtual_time

from waitd.core.waits.verdict import Pending, Success, Unreachable
from waitd.ports import WaitingOn


def waiting_on(harness: PokerHarness, name: str) -> WaitingOn:
    state = harness.live(name).waiting_on
    assert state is not None
    return state


@in_virtual_time
async def test_a_wait_between_two_pokes_is_scheduled_and_not_held_up(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: Pending()) as harness:
        harness.add("w", host="there")
        await asyncio.sleep(1)
        assert waiting_on(harness, "w") == WaitingOn("scheduled", None, None, "there", 2, 0, False, None)


@in_virtual_time
async def test_a_wait_behind_others_at_its_origin_is_queued_since_it_was_due(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: hang()) as harness:
        start = harness.clock.now()
        for name in ("first", "second"):
            harness.add(name, host="there")
        await asyncio.sleep(2)
        first, second = waiting_on(harness, "first"), waiting_on(harness, "second")
        assert (first.stage, first.held_up_by) == ("poking", None)
        assert (second.stage, second.held_up_by) == ("queued", "origin_limit")
        assert (second.origin, second.origin_limit, second.origin_running) == ("there", 1, 1)
        assert second.since == pytest.approx(start, abs=0.05)
        assert harness.live("second").next_poke_at == harness.clock.now()


@in_virtual_time
async def test_an_origin_is_held_down_after_three_timeouts_in_a_row(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: hang()) as harness:
        harness.add("w", host="there", interval=1, request_timeout=1)
        await asyncio.sleep(1.5)
        assert not waiting_on(harness, "w").origin_held_down
        await asyncio.sleep(30)
        assert waiting_on(harness, "w").origin_held_down


@in_virtual_time
async def test_a_wait_is_held_up_when_poke_concurrency_is_reached(run_poker: RunPoker) -> None:
    limits = {"poke_concurrency": 2, "per_host_concurrency": 1}
    async with run_poker(lambda _, n: Pending() if n == 1 else hang(), **limits) as harness:
        for name in ("a", "b", "c"):
            harness.add(name, host=name, request_timeout=1000)
        await asyncio.sleep(40)
        reasons = [waiting_on(harness, name).held_up_by or "" for name in ("a", "b", "c")]
        assert sorted(reasons) == ["", "", "poke_concurrency"]


@in_virtual_time
async def test_a_wait_at_a_new_origin_is_held_up_by_other_origins_that_have_not_answered(
    run_poker: RunPoker,
) -> None:
    async with run_poker(lambda *_: hang(), poke_concurrency=2) as harness:
        harness.add("a", host="a")
        harness.add("b", host="b")
        await asyncio.sleep(1)
        assert waiting_on(harness, "b").held_up_by == "unproven_origins"


@in_virtual_time
async def test_a_retry_after_is_shown_until_the_next_answer(run_poker: RunPoker) -> None:
    async with run_poker(
        lambda _, n: Unreachable("http_429", retry_after=100) if n == 1 else Pending()
    ) as harness:
        harness.add("w", interval=10)
        quiet_until = harness.clock.now() + 100
        await asyncio.sleep(1)
        assert waiting_on(harness, "w").quiet_until == pytest.approx(quiet_until, abs=0.05)
        assert harness.live("w").next_poke_at >= quiet_until
        await asyncio.sleep(110)
        assert waiting_on(harness, "w").quiet_until is None


@in_virtual_time
async def test_a_wait_whose_outcome_the_store_refuses_is_ending(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: Success()) as harness:
        harness.store.refusing = True
        harness.add("w")
        await asyncio.sleep(1)
        assert waiting_on(harness, "w").stage == "ending"


@in_virtual_time
async def test_the_poke_at_the_deadline_is_not_held_up(run_poker: RunPoker) -> None:
    async with run_poker(lambda *_: hang()) as harness:
        harness.add("blocker", host="there", request_timeout=1000)
        harness.add("w", host="there", timeout=10)
        await asyncio.sleep(10.5)
        assert waiting_on(harness, "w").stage == "poking"
        assert waiting_on(harness, "w").held_up_by is None
