"""Submits in virtual time: schedule, deadline, a store that refuses, restarts, limits."""

import asyncio
from collections.abc import Mapping
from itertools import pairwise
from typing import Any
from unittest.mock import patch

import pytest
from fakes import after, defect, waiting
from submit_harness import Plan, SubmitHarness
from virtual_time import in_virtual_time

from waitd.core.errors import InvalidInput
from waitd.core.waits.job_cancel import CancelState, JobCancel
from waitd.core.waits.submission import (
    PENDING_SUBMISSION,
    JobHandle,
    Submission,
    SubmitAccepted,
    SubmitAnswer,
    SubmitConflict,
    SubmitRejected,
    SubmitState,
    SubmitUnavailable,
    SubmitUncertain,
)
from waitd.core.waits.verdict import LOCAL_ERROR
from waitd.core.waits.wait import WaitId, WaitState
from waitd.engine.submitter import plan_of

LOST = SubmitUncertain("disconnected", "The server closed the connection without an answer.")


@in_virtual_time
async def test_the_first_poke_submits_the_job_and_the_next_ones_poke_it() -> None:
    harness = SubmitHarness()
    async with harness.running():
        harness.submit("a")
        await asyncio.sleep(1)
        assert harness.wait("a").submission == Submission(SubmitState.SUBMITTED, 1, 1)
        assert harness.probe.poked_at == {}
        await asyncio.sleep(40)
    assert list(harness.probe.poked_at) == ["a job 1"]
    assert harness.outcome("a") == ("success", "success")
    assert len(harness.jobs.calls["a"]) == 1


@in_virtual_time
async def test_a_submit_without_an_answer_is_repeated_like_an_unreachable_poke() -> None:
    answers: list[SubmitAnswer] = [
        SubmitUnavailable("http_429", "HTTP 429", 60.0),
        LOST,
        LOST,
        SubmitAccepted(1),
    ]
    harness = SubmitHarness(lambda _, n: answers[n - 1])
    async with harness.running():
        harness.submit("a")
        await asyncio.sleep(300)
    times = harness.jobs.calls["a"]
    assert len(times) == 4
    assert times[1] - times[0] >= 60, "Retry-After"
    assert harness.outcome("a") == ("success", "success")


@in_virtual_time
async def test_a_conflict_is_retried_at_the_poke_interval() -> None:
    harness = SubmitHarness(lambda _, n: SubmitConflict("a sync is running") if n < 5 else SubmitAccepted(1))
    async with harness.running():
        harness.submit("a", on_conflict="wait")
        await asyncio.sleep(200)
    gaps = [later - earlier for earlier, later in pairwise(harness.jobs.calls["a"][1:])]
    assert gaps == pytest.approx([10] * 3, abs=0.1)
    assert harness.outcome("a") == ("success", "success")


@in_virtual_time
async def test_a_refusal_and_a_lost_call_that_must_not_be_repeated_end_the_wait() -> None:
    harness = SubmitHarness(lambda name, _: SubmitRejected("HTTP 403") if name == "a" else LOST)
    async with harness.running():
        harness.submit("a")
        harness.submit("b", idempotent=False)
        await asyncio.sleep(1)
    assert harness.outcome("a") == ("failed", "submit_refused")
    assert harness.outcome("b") == ("failed", "submit_unknown")


@in_virtual_time
async def test_nothing_is_submitted_after_the_deadline() -> None:
    harness = SubmitHarness(lambda *_: SubmitUnavailable("connection_refused", "The connection was refused."))
    async with harness.running():
        harness.submit("a", timeout=25.0)
        harness.submit("late", timeout=-5.0)
        await asyncio.sleep(60)
    assert harness.outcome("a") == harness.outcome("late") == ("timeout", "deadline")
    assert max(harness.jobs.calls["a"]) < harness.wait("a").deadline
    assert "late" not in harness.jobs.calls
    assert "refused" in harness.message("a")


@in_virtual_time
async def test_a_job_that_is_submitted_as_the_deadline_passes_is_poked_once() -> None:
    harness = SubmitHarness(lambda *_: after(5.5, SubmitAccepted(1)), done=1)
    async with harness.running():
        harness.submit("a", timeout=5.0)
        await asyncio.sleep(30)
    assert harness.outcome("a") == ("success", "success")
    assert harness.pokes("a job 1") == 1


@in_virtual_time
async def test_the_handle_of_an_answer_after_the_end_is_saved_and_its_job_cancelled() -> None:
    harness = SubmitHarness(lambda *_: after(8.0, SubmitAccepted(1)))
    async with harness.running():
        harness.submit("a", timeout=2.0, cancel_job_on=("timeout",))
        harness.submit("b", cancel_job_on=("cancelled",), host="other")
        await asyncio.sleep(3.5)
        harness.cancel("b")
        assert harness.outcome("a") == ("timeout", "deadline")
        assert harness.jobs.cancelled == []
        harness.cancels.add(harness.wait("a"))
        await asyncio.sleep(30)
    assert sorted(harness.jobs.cancelled) == [("a", 1), ("b", 1)]
    assert len(harness.jobs.calls["a"]) == len(harness.jobs.calls["b"]) == 1
    for name in "ab":
        assert harness.wait(name).submission == Submission(SubmitState.SUBMITTED, 1, 1)
        assert harness.job_cancel(name) == JobCancel(CancelState.CANCELLED, 1)


@in_virtual_time
async def test_no_call_is_made_before_its_mark_is_on_disk() -> None:
    harness = SubmitHarness()
    async with harness.running():
        harness.store.refusing = True
        harness.submit("a")
        await asyncio.sleep(100)
        assert harness.jobs.calls == {}
        harness.store.refusing = False
        await asyncio.sleep(300)
    assert harness.outcome("a") == ("success", "success")


@in_virtual_time
async def test_no_poke_is_made_before_the_handle_is_on_disk() -> None:
    harness = SubmitHarness()

    async def accepted() -> SubmitAnswer:
        harness.store.refusing = True
        return SubmitAccepted(1)

    harness.jobs.script = lambda *_: accepted()
    async with harness.running():
        harness.submit("a", idempotent=False)
        await asyncio.sleep(100)
        assert harness.probe.poked_at == {}
        assert harness.wait("a").submission == Submission(SubmitState.SUBMITTING, attempts=1)
        harness.store.refusing = False
        await asyncio.sleep(100)
    assert len(harness.jobs.calls["a"]) == 1
    assert harness.outcome("a") == ("success", "success")


@in_virtual_time
async def test_a_wait_that_is_cancelled_before_its_call_makes_none() -> None:
    harness = SubmitHarness()
    async with harness.running():
        harness.submit("a", cancel_job_on=("cancelled",))
        harness.cancel("a")
        await asyncio.sleep(30)
    assert harness.jobs.calls == {}
    assert harness.wait("a").submission == PENDING_SUBMISSION


@in_virtual_time
async def test_a_call_that_a_crash_interrupted_is_repeated_only_if_it_is_idempotent() -> None:
    harness = SubmitHarness()
    interrupted = Submission(SubmitState.SUBMITTING, attempts=1)
    async with harness.running():
        harness.submit("a", submission=interrupted)
        harness.submit("b", submission=interrupted, idempotent=False)
        harness.submit("c", submission=Submission(SubmitState.SUBMITTED, 9, 1))
        await asyncio.sleep(60)
    assert (harness.outcome("a"), len(harness.jobs.calls["a"])) == (("success", "success"), 1)
    assert harness.outcome("b") == ("failed", "submit_unknown")
    assert harness.outcome("c") == ("success", "success")
    assert set(harness.jobs.calls) == {"a"}


@in_virtual_time
async def test_submits_at_one_origin_stay_within_its_limit() -> None:
    harness = SubmitHarness(lambda *_: after(0.1, SubmitAccepted(1)))
    async with harness.running():
        for n in range(200):
            harness.submit(f"w{n}")
        await asyncio.sleep(120)
    assert harness.jobs.max_running == 4, "per_host_concurrency"
    assert all(wait.state is WaitState.SUCCESS for wait in harness.store.waits.values())


@in_virtual_time
async def test_a_submit_with_a_defect_is_repeated() -> None:
    harness = SubmitHarness(lambda _, n: defect() if n == 1 else SubmitAccepted(3))
    async with harness.running():
        harness.submit("a")
        await asyncio.sleep(120)
    assert harness.outcome("a") == ("success", "success")


@in_virtual_time
async def test_a_handle_that_does_not_fit_fails_the_wait_and_says_why() -> None:
    harness = SubmitHarness()

    def refuse(
        self: Plan, params: Mapping[str, Any], handle: JobHandle, wait_id: WaitId
    ) -> Mapping[str, Any]:
        raise ValueError("it is no id")

    with patch.object(Plan, "params_with", refuse):
        async with harness.running():
            harness.submit("a")
            await asyncio.sleep(120)
    assert harness.outcome("a") == ("failed", "submit_no_handle")
    assert harness.message("a").endswith("/submit/handle: it is no id")


@in_virtual_time
async def test_the_submitter_parses_nothing_and_a_wait_without_submit_has_no_plan() -> None:
    harness = SubmitHarness()
    with pytest.raises(InvalidInput, match="own kind"):
        harness.submitter.parse({}, namespace="default")
    with pytest.raises(InvalidInput, match="scripted submits no job"):
        plan_of(waiting("a", harness.clock.now()), harness.probe)


@in_virtual_time
async def test_a_submitter_that_does_not_run_submits_nothing() -> None:
    harness = SubmitHarness()
    poking = asyncio.create_task(harness.poker.run())
    harness.submit("a")
    await asyncio.sleep(60)
    assert harness.jobs.calls == {}
    assert harness.state("a") is WaitState.WAITING
    poking.cancel()
    await asyncio.gather(poking, return_exceptions=True)


@in_virtual_time
async def test_an_adopted_job_is_stored_as_such_and_poked() -> None:
    harness = SubmitHarness(lambda *_: SubmitAccepted(4, adopted=True))
    async with harness.running():
        harness.submit("a")
        await asyncio.sleep(60)
    assert harness.outcome("a") == ("success", "success")
    assert harness.wait("a").submission == Submission(SubmitState.SUBMITTED, 4, 1, adopted=True)


@in_virtual_time
async def test_a_deadline_that_passes_while_the_mark_is_stored_submits_nothing() -> None:
    harness = SubmitHarness()
    save = harness.store.save_submission

    async def save_slowly(*arguments: Any, **options: Any) -> bool:
        await asyncio.sleep(5)
        return await save(*arguments, **options)

    with patch.object(harness.store, "save_submission", save_slowly):
        async with harness.running():
            harness.submit("a", timeout=3)
            await asyncio.sleep(60)
    assert harness.jobs.calls == {}
    assert harness.outcome("a") == ("timeout", "deadline")
    assert harness.wait("a").submission == PENDING_SUBMISSION


@in_virtual_time
async def test_a_timeout_says_so_if_it_is_unknown_whether_the_job_was_submitted() -> None:
    harness = SubmitHarness(lambda *_: LOST)
    async with harness.running():
        harness.submit("a", timeout=45)
        await asyncio.sleep(120)
    assert harness.outcome("a") == ("timeout", "deadline")
    assert f"It is not known whether the job was submitted: {LOST.message}" in harness.message("a")


@in_virtual_time
@pytest.mark.parametrize("trouble", ["descriptor", "memory", "store"])
async def test_a_submit_that_own_trouble_held_up_until_its_deadline_says_so(trouble: str) -> None:
    def answer(*_: object) -> SubmitAnswer:
        if trouble == "memory":
            raise MemoryError
        return SubmitUnavailable(LOCAL_ERROR, "waitd could not poke: no free file descriptor.")

    harness = SubmitHarness(answer)
    async with harness.running():
        harness.submit("a", timeout=60)
        harness.store.refusing = trouble == "store"
        await asyncio.sleep(58)
        assert harness.state("a") is WaitState.WAITING
        await asyncio.sleep(1.99)
        harness.store.refusing = False
        await asyncio.sleep(60)
    assert harness.outcome("a") == ("timeout", "deadline")
    said = {"memory": "memory is short", "store": "The store could not be written"}
    assert said.get(trouble, "no free file descriptor") in harness.message("a")
