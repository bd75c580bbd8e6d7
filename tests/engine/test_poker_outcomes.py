"""How waits end or go on: verdicts, defects, a full disk, cancellations, unknown kinds."""

import asyncio
from typing import Any

import pytest
from engine_harness import RunPoker, running_poker
from fakes import ScriptedProbe, ScriptedTarget, after, defect, done_at, waiting
from msgspec.structs import replace
from virtual_time import in_virtual_time

from waitd.core.errors import StoreUnavailable
from waitd.core.waits.verdict import Failure, Pending, Success
from waitd.core.waits.wait import Outcome, WaitState
from waitd.engine.held_wait_factory import MAX_PACINGS
from waitd.ports import StoredOutcome, UnstoredOutcome


@in_virtual_time
async def test_a_success_is_stored_once_and_its_wait_is_dropped(run_poker: RunPoker) -> None:
    async with run_poker(done_at(3)) as harness:
        harness.add("w")
        await asyncio.sleep(60)
        assert harness.state("w") is WaitState.SUCCESS
        assert harness.pokes("w") == 3
        assert harness.poker.held == 0
        assert harness.sample("waitd_detection_delay_seconds_count") == 1


@in_virtual_time
async def test_silent_fail_pokes_a_refusal_again(run_poker: RunPoker) -> None:
    async with run_poker(
        lambda _, n: Failure("http_403", silenceable=True) if n < 3 else Success()
    ) as harness:
        harness.add("loud")
        harness.add("silent", silent_fail=True)
        await asyncio.sleep(120)
        assert harness.wait("loud").outcome == Outcome(WaitState.FAILED, reason="http_403")
        assert harness.state("silent") is WaitState.SUCCESS


@in_virtual_time
async def test_a_defect_in_a_probe_ends_no_wait(run_poker: RunPoker) -> None:
    async with run_poker(lambda _, n: defect() if n < 3 else Success()) as harness:
        harness.add("w")
        await asyncio.sleep(120)
        assert harness.state("w") is WaitState.SUCCESS


@in_virtual_time
async def test_an_outcome_that_the_store_refuses_is_kept_and_retried_without_another_poke() -> None:
    async with running_poker(lambda *_: Success({"n": 1})) as harness:
        names = [f"w{n}" for n in range(10)]
        harness.store.refusing = True
        for name in names:
            harness.add(name)
        await asyncio.sleep(60)
        assert harness.poker.outcomes.pending == harness.poker.outcomes.refused == 10
        assert harness.store.refused > 20
        harness.store.refusing = False
        await asyncio.sleep(6)
        assert harness.poker.outcomes.pending == harness.poker.outcomes.refused == 0
        assert {harness.state(name) for name in names} == {WaitState.SUCCESS}
        assert {harness.pokes(name) for name in names} == {1}


@in_virtual_time
async def test_an_outcome_that_the_store_refuses_holds_up_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    async with running_poker(lambda *_: Success()) as harness:
        finish = harness.store.finish

        async def refuse_bad(outcome: UnstoredOutcome) -> StoredOutcome | None:
            if outcome.id == "bad":
                raise StoreUnavailable("not this one")
            return await finish(outcome)

        monkeypatch.setattr(harness.store, "finish", refuse_bad)
        harness.add("bad")
        await asyncio.sleep(60.5)  # by now it is retried every five seconds
        harness.add("good")
        await asyncio.sleep(0.1)
        assert harness.state("good") is WaitState.SUCCESS
        assert harness.poker.outcomes.pending == harness.poker.outcomes.refused == 1
        monkeypatch.undo()
        await asyncio.sleep(6)
        assert harness.state("bad") is WaitState.SUCCESS
        assert harness.poker.outcomes.refused == 0


@in_virtual_time
async def test_a_cancelled_wait_is_not_poked_again_and_its_late_answer_changes_nothing(
    run_poker: RunPoker,
) -> None:
    async with run_poker(lambda *_: after(5, Success())) as harness:
        harness.add("w")
        await asyncio.sleep(1)
        harness.store.cancel("w")
        harness.poker.drop("w")
        await asyncio.sleep(60)
        assert harness.state("w") is WaitState.CANCELLED
        assert harness.pokes("w") == 1


@in_virtual_time
async def test_a_held_wait_that_has_ended_in_the_store_is_dropped() -> None:
    async with running_poker(lambda *_: Success()) as harness:
        harness.store.put(waiting("w", harness.clock.now()))
        wait = harness.wait("w")
        harness.store.cancel("w")
        harness.poker.adopt([wait])
        await asyncio.sleep(5)
        assert harness.state("w") is WaitState.CANCELLED
        assert harness.poker.held == 0


@pytest.mark.parametrize("change", [{"kind": "unheard_of"}, {"submit": {"endpoint": "/jobs"}}])
@in_virtual_time
async def test_a_wait_that_this_waitd_does_not_understand_lives_until_its_deadline(
    change: dict[str, Any],
) -> None:
    async with running_poker(lambda *_: Pending()) as harness:
        wait = waiting("w", harness.clock.now(), timeout=60)
        harness.poker.adopt(harness.store.put(replace(wait, spec=replace(wait.spec, **change))))
        await asyncio.sleep(50)
        assert harness.live("w").progress.runs[-1].reason == "not_understood"
        assert harness.state("w") is WaitState.WAITING
        await asyncio.sleep(20)
        assert harness.state("w") is WaitState.TIMEOUT
        assert not harness.probe.poked_at


@in_virtual_time
async def test_an_unknown_id_is_neither_poked_nor_dropped() -> None:
    async with running_poker(lambda *_: Pending()) as harness:
        assert harness.poker.live("unknown") is None
        assert harness.poker.poke_now("unknown") is False
        harness.poker.drop("unknown")
        assert harness.poker.held == 0


@in_virtual_time
async def test_a_wait_that_is_adopted_twice_is_held_once() -> None:
    async with running_poker(lambda *_: Pending()) as harness:
        harness.add("w", interval=1000)
        harness.add("w", interval=1000)
        await asyncio.sleep(10)
        assert (harness.poker.held, harness.pokes("w")) == (1, 1)


@in_virtual_time
async def test_a_defect_while_one_wait_is_adopted_changes_no_other() -> None:
    class BrokenProbe(ScriptedProbe):
        def parse(self, params: Any, *, namespace: str) -> ScriptedTarget:
            return defect() if params["name"] == "bad" else super().parse(params, namespace=namespace)

    async with running_poker(lambda *_: Pending(), probe=BrokenProbe) as harness:
        for name in ("good", "bad", "other"):
            harness.add(name)
        await asyncio.sleep(1)
        assert harness.probe.poked_at.keys() == {"good", "other"}
        assert harness.live("bad").progress.runs[-1].reason == "not_understood"


@in_virtual_time
async def test_waits_share_equal_pacings_and_only_so_many_are_kept() -> None:
    async with running_poker(lambda *_: Pending(), capacity=2 * MAX_PACINGS) as harness:
        for n in range(MAX_PACINGS + 5):
            harness.add(f"w{n}", interval=10.0 + n)
            harness.add(f"v{n}", interval=10.0 + n)
        held = harness.poker._held
        assert held["w1"].pacing is held["v1"].pacing
        assert held[f"w{MAX_PACINGS + 1}"].pacing == held[f"v{MAX_PACINGS + 1}"].pacing
        assert harness.poker._factory.pacing.cache_info().currsize == MAX_PACINGS
