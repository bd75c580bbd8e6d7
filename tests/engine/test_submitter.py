"""Submits in virtual time: schedule, deadline, cancels, a store that refuses, limits."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any
from unittest.mock import patch

import pytest
from fakes import MemoryStore, ScriptedProbe, done_at, waiting
from msgspec import structs
from virtual_time import VirtualClock, in_virtual_time

from waitd.core.errors import InvalidInput, NotFound, StoreUnavailable
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.submission import (
    PENDING_SUBMISSION,
    CancelAnswer,
    CancelState,
    CancelUnavailable,
    JobCancel,
    JobCancelled,
    JobHandle,
    Submission,
    SubmitAccepted,
    SubmitAnswer,
    SubmitConflict,
    SubmitRejected,
    SubmitRules,
    SubmitState,
    SubmitUnavailable,
    SubmitUncertain,
    initial_submission,
    job_cancel_at_end,
)
from waitd.core.waits.wait import Outcome, WaitId, WaitState
from waitd.engine.job_cancels import JobCancels
from waitd.engine.poker import Poker
from waitd.engine.submitter import Submitter, plan_of
from waitd.metrics import Instruments
from waitd.ports import StoredOutcome, StoredWait, UnstoredOutcome

LOST = SubmitUncertain("disconnected", "The server closed the connection without an answer.")


@dataclass(frozen=True)
class Plan:
    submit: Mapping[str, Any]
    request_timeout: float = 10.0
    conn_ids: Collection[str] = ()

    @property
    def rules(self) -> SubmitRules:
        return SubmitRules(self.submit.get("idempotent", True), self.submit.get("on_conflict", "fail"))

    def params_with(self, params: Mapping[str, Any], handle: JobHandle, wait_id: WaitId) -> Mapping[str, Any]:
        return {**params, "name": f"{params['name']} job {handle}"}


class SubmittingProbe(ScriptedProbe):
    def parse_submit(self, submit: Mapping[str, Any], params: Mapping[str, Any], *, namespace: str) -> Plan:
        return Plan(submit)


@dataclass
class ScriptedJobs:
    """Answers the n-th submit with `script(wait_id, n)`; records the calls and their times."""

    now: Callable[[], float]
    script: Callable[[str, int], SubmitAnswer | Awaitable[SubmitAnswer]] = lambda *_: SubmitAccepted(1)
    cancels: Callable[[int], CancelAnswer] = lambda _: JobCancelled()
    calls: dict[str, list[float]] = field(default_factory=dict)
    cancelled: list[tuple[str, JobHandle, float]] = field(default_factory=list)
    running: int = 0
    most: int = 0

    def origin(self, plan: Any) -> str:
        return str(plan.submit.get("host", "host"))

    async def submit(self, plan: Any, wait_id: WaitId) -> SubmitAnswer:
        calls = self.calls.setdefault(wait_id, [])
        calls.append(self.now())
        self.running += 1
        self.most = max(self.most, self.running)
        answer = self.script(wait_id, len(calls))
        answer = answer if not isinstance(answer, Awaitable) else await answer
        self.running -= 1
        return answer

    async def cancel(self, plan: Any, wait_id: WaitId, handle: JobHandle) -> CancelAnswer:
        self.cancelled.append((wait_id, handle, self.now()))
        return self.cancels(len(self.cancelled))


class JobMemoryStore(MemoryStore):
    """The store of fakes, with jobs as the real one keeps them."""

    async def save_submission(
        self, wait_id: WaitId, submission: Submission, *, only_waiting: bool = False
    ) -> bool:
        await asyncio.sleep(0)
        self._check()
        wait = self.waits[wait_id]
        if only_waiting and wait.state is not WaitState.WAITING:
            return False
        self.waits[wait_id] = structs.replace(wait, submission=submission)
        return True

    async def save_job_cancel(self, wait_id: WaitId, job_cancel: JobCancel) -> None:
        self._check()
        self.waits[wait_id] = structs.replace(self.waits[wait_id], job_cancel=job_cancel)

    async def jobs_to_cancel(self, after: WaitId | None, limit: int) -> list[StoredWait]:
        return [
            w
            for name, w in sorted(self.waits.items())
            if name > (after or "") and w.job_cancel and w.job_cancel.next_attempt_at is not None
        ][:limit]

    async def get(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        if wait_id not in self.waits:
            raise NotFound
        return self.waits[WaitId(wait_id)]

    async def finish(self, ending: UnstoredOutcome) -> StoredOutcome | None:
        ended = await super().finish(ending)
        return None if ended is None else replace(ended, wait=self.over(ending.id, ending.outcome))

    def over(self, wait_id: str, outcome: Outcome) -> StoredWait:
        """What the transaction that ends a wait does about its job."""
        wait = self.waits[WaitId(wait_id)]
        assert wait.submission is not None
        assert wait.spec.submit is not None
        on = wait.spec.submit.get("cancel_job_on", ())
        job_cancel = job_cancel_at_end(wait.submission, outcome.state, on, 0.0)
        self.waits[wait.id] = structs.replace(
            wait, state=outcome.state, outcome=outcome, job_cancel=job_cancel
        )
        return self.waits[wait.id]


class Scene:
    def __init__(self, done: int = 2) -> None:
        self.clock = VirtualClock()
        self.store = JobMemoryStore()
        self.jobs = ScriptedJobs(self.clock.now)
        self.probe = SubmittingProbe(done_at(done), self.clock.now)
        instruments = Instruments(version="test")
        self.submitter = Submitter(
            self.store,
            self.jobs,
            self.clock,
            instruments,
            wake=lambda wait_id: self.poker.poke_now(wait_id),  # noqa: PLW0108 - the poker is built below
        )
        self.cancels = JobCancels(
            self.store, {"scripted": self.probe}, self.jobs, self.submitter, self.clock, instruments
        )
        self.poker = Poker(
            self.store,
            {"scripted": self.probe},
            self.clock,
            instruments,
            capacity=1000,
            poke_concurrency=100,
            per_host_concurrency=4,
            jitter=lambda: 0.0,
            submitter=self.submitter,
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        loops = (self.submitter.run, self.cancels.run, self.poker.run)
        tasks = [asyncio.create_task(loop()) for loop in loops]
        await asyncio.sleep(0.001)
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def adopt(
        self, name: str, *, timeout: float = 3600.0, submission: Submission | None = None, **submit: Any
    ) -> None:
        wait = waiting(name, self.clock.now(), timeout=timeout)
        wait = structs.replace(wait, spec=structs.replace(wait.spec, submit=submit))
        wait = structs.replace(wait, submission=submission or initial_submission(submit))
        self.poker.adopt(self.store.put(wait))

    def cancel(self, name: str) -> None:
        wait = self.store.over(name, cancelled_outcome())
        self.poker.drop(wait.id)
        self.cancels.on_finished(wait)

    def wait(self, name: str) -> StoredWait:
        return self.store.waits[WaitId(name)]

    def outcome(self, name: str) -> tuple[str, str]:
        outcome = self.wait(name).outcome
        assert outcome is not None
        return outcome.state.value, outcome.reason


@in_virtual_time
async def test_the_first_poke_submits_and_the_next_ones_look_at_the_job() -> None:
    scene = Scene()
    async with scene.running():
        scene.adopt("a")
        await asyncio.sleep(1)
        assert scene.wait("a").submission == Submission(SubmitState.SUBMITTED, 1, 1)
        assert scene.probe.looks == {}
        await asyncio.sleep(40)
    assert list(scene.probe.looks) == ["a job 1"]
    assert scene.outcome("a") == ("success", "success")
    assert len(scene.jobs.calls["a"]) == 1


@in_virtual_time
async def test_it_is_asked_again_as_a_poke_that_nobody_answered_is() -> None:
    scene = Scene()
    answers: list[SubmitAnswer] = [
        SubmitUnavailable("http_429", "HTTP 429", 60.0),
        LOST,
        LOST,
        SubmitAccepted(1),
    ]
    scene.jobs.script = lambda _, n: answers[n - 1]
    async with scene.running():
        scene.adopt("a")
        await asyncio.sleep(300)
    at = scene.jobs.calls["a"]
    assert len(at) == 4
    assert at[1] - at[0] >= 60, "Retry-After"
    assert scene.outcome("a") == ("success", "success")


@in_virtual_time
async def test_a_conflict_is_tried_again_at_the_poke_interval() -> None:
    scene = Scene()

    def in_the_way(_: str, n: int) -> SubmitAnswer:
        return SubmitConflict("a sync is running") if n < 5 else SubmitAccepted(1)

    scene.jobs.script = in_the_way
    async with scene.running():
        scene.adopt("a", on_conflict="wait")
        await asyncio.sleep(200)
    gaps = [
        later - earlier
        for earlier, later in zip(scene.jobs.calls["a"][1:], scene.jobs.calls["a"][2:], strict=False)
    ]
    assert len(gaps) == 3
    assert all(abs(gap - 10) < 0.1 for gap in gaps)
    assert scene.outcome("a") == ("success", "success")


@in_virtual_time
async def test_a_refusal_and_a_call_that_must_not_be_repeated_end_the_wait() -> None:
    scene = Scene()
    scene.jobs.script = lambda name, _: SubmitRejected("HTTP 403") if name == "a" else LOST
    async with scene.running():
        scene.adopt("a")
        scene.adopt("b", idempotent=False)
        await asyncio.sleep(1)
    assert scene.outcome("a") == ("failed", "submit_refused")
    assert scene.outcome("b") == ("failed", "submit_unknown")


@in_virtual_time
async def test_nothing_is_submitted_after_the_deadline() -> None:
    scene = Scene()
    scene.jobs.script = lambda *_: SubmitUnavailable("connection_refused", "The connection was refused.")
    async with scene.running():
        scene.adopt("a", timeout=25.0)
        scene.adopt("late", timeout=-5.0)
        deadline = scene.wait("a").deadline
        await asyncio.sleep(60)
    assert scene.outcome("a") == scene.outcome("late") == ("timeout", "deadline")
    assert max(scene.jobs.calls["a"]) < deadline
    assert "late" not in scene.jobs.calls
    outcome = scene.wait("a").outcome
    assert outcome is not None
    assert "refused" in outcome.message


async def _slowly(clock: VirtualClock, seconds: float, answer: SubmitAnswer) -> SubmitAnswer:
    await asyncio.sleep(seconds)
    return answer


@in_virtual_time
async def test_a_job_that_is_submitted_as_the_deadline_passes_is_looked_at_once() -> None:
    scene = Scene(done=1)
    scene.jobs.script = lambda *_: _slowly(scene.clock, 5.5, SubmitAccepted(1))
    async with scene.running():
        scene.adopt("a", timeout=5.0)
        await asyncio.sleep(30)
    assert scene.outcome("a") == ("success", "success")
    assert len(scene.probe.looks["a job 1"]) == 1


@in_virtual_time
async def test_an_answer_after_the_end_is_kept_and_its_job_cancelled() -> None:
    scene = Scene()
    scene.jobs.script = lambda *_: _slowly(scene.clock, 8.0, SubmitAccepted(1))
    async with scene.running():
        scene.adopt("a", timeout=2.0, cancel_job_on=("timeout",))
        scene.adopt("b", cancel_job_on=("cancelled",), host="other")
        await asyncio.sleep(3.5)
        scene.cancel("b")
        assert scene.outcome("a") == ("timeout", "deadline")
        assert scene.jobs.cancelled == []
        scene.cancels.on_finished(scene.wait("a"))
        await asyncio.sleep(30)
    assert sorted((name, handle) for name, handle, _ in scene.jobs.cancelled) == [("a", 1), ("b", 1)]
    assert len(scene.jobs.calls["a"]) == len(scene.jobs.calls["b"]) == 1
    for name in "ab":
        assert scene.wait(name).submission == Submission(SubmitState.SUBMITTED, 1, 1)
        assert scene.wait(name).job_cancel == JobCancel(CancelState.CANCELLED, 1)


@in_virtual_time
async def test_no_call_goes_out_before_its_mark_is_on_disk() -> None:
    scene = Scene()
    async with scene.running():
        scene.store.refusing = True
        scene.adopt("a")
        await asyncio.sleep(100)
        assert scene.jobs.calls == {}
        scene.store.refusing = False
        await asyncio.sleep(300)
    assert scene.outcome("a") == ("success", "success")


@in_virtual_time
async def test_no_poke_goes_out_before_the_handle_is_on_disk() -> None:
    scene = Scene()

    async def accepted() -> SubmitAnswer:
        scene.store.refusing = True
        return SubmitAccepted(1)

    scene.jobs.script = lambda *_: accepted()
    async with scene.running():
        scene.adopt("a", idempotent=False)
        await asyncio.sleep(100)
        assert scene.probe.looks == {}
        assert scene.wait("a").submission == Submission(SubmitState.SUBMITTING, attempts=1)
        scene.store.refusing = False
        await asyncio.sleep(100)
    assert len(scene.jobs.calls["a"]) == 1
    assert scene.outcome("a") == ("success", "success")


@in_virtual_time
async def test_a_wait_that_was_cancelled_before_the_call_makes_none() -> None:
    scene = Scene()
    async with scene.running():
        scene.adopt("a", cancel_job_on=("cancelled",))
        scene.cancel("a")
        await asyncio.sleep(30)
    assert scene.jobs.calls == {}
    assert scene.wait("a").submission == PENDING_SUBMISSION


@in_virtual_time
async def test_one_that_is_found_after_a_crash_is_asked_for_once_more_or_given_up() -> None:
    scene = Scene()
    found = Submission(SubmitState.SUBMITTING, attempts=1)
    async with scene.running():
        scene.adopt("a", submission=found)
        scene.adopt("b", submission=found, idempotent=False)
        scene.adopt("c", submission=Submission(SubmitState.SUBMITTED, 9, 1))
        await asyncio.sleep(60)
    assert (scene.outcome("a"), len(scene.jobs.calls["a"])) == (("success", "success"), 1)
    assert scene.outcome("b") == ("failed", "submit_unknown")
    assert scene.outcome("c") == ("success", "success")
    assert set(scene.jobs.calls) == {"a"}


@in_virtual_time
async def test_many_waits_do_not_run_at_one_origin_together() -> None:
    scene = Scene()
    scene.jobs.script = lambda *_: _slowly(scene.clock, 0.1, SubmitAccepted(1))
    async with scene.running():
        for n in range(200):
            scene.adopt(f"w{n}")
        await asyncio.sleep(120)
    assert scene.jobs.most == 4, "per_host_concurrency"
    assert all(wait.state is WaitState.SUCCESS for wait in scene.store.waits.values())


# ---------------------------------------------------------------- jobs of ended waits


def ended_wait(scene: Scene, name: str, submission: Submission, **submit: Any) -> None:
    wait = waiting(name, scene.clock.now())
    wait = structs.replace(
        wait, spec=structs.replace(wait.spec, submit=submit), submission=submission, state=WaitState.CANCELLED
    )
    scene.store.put(structs.replace(wait, job_cancel=JobCancel(next_attempt_at=scene.clock.now())))


@in_virtual_time
async def test_what_was_left_by_a_crash_is_cancelled_until_it_is_or_given_up() -> None:
    scene = Scene()
    scene.jobs.cancels = lambda n: CancelUnavailable("HTTP 503") if n < 4 else JobCancelled()
    ended_wait(scene, "a", Submission(SubmitState.SUBMITTED, 5, 1))
    async with scene.running():
        await asyncio.sleep(120)
    assert scene.wait("a").job_cancel == JobCancel(CancelState.CANCELLED, 4)
    assert len(scene.jobs.cancelled) == 4


@in_virtual_time
async def test_a_job_that_may_exist_is_asked_for_by_its_key_and_cancelled() -> None:
    scene = Scene()
    scene.jobs.script = lambda _, n: LOST if n < 3 else SubmitAccepted(8)
    unclear = Submission(SubmitState.SUBMITTING, attempts=1)
    ended_wait(scene, "a", unclear)
    ended_wait(scene, "b", unclear, idempotent=False)
    ended_wait(scene, "c", PENDING_SUBMISSION)
    async with scene.running():
        await asyncio.sleep(120)
    assert [(name, handle) for name, handle, _ in scene.jobs.cancelled] == [("a", 8)]
    assert scene.wait("a").job_cancel == JobCancel(CancelState.CANCELLED, 3)
    states = {name: scene.wait(name).job_cancel for name in "bc"}
    assert states == {"b": JobCancel(CancelState.UNKNOWN), "c": JobCancel(CancelState.UNNEEDED)}
    assert set(scene.jobs.calls) == {"a"}


@in_virtual_time
async def test_a_store_that_refuses_loses_no_cancelling() -> None:
    scene = Scene()
    ended_wait(scene, "a", Submission(SubmitState.SUBMITTED, 5, 1))
    async with scene.running():
        scene.store.refusing = True
        await asyncio.sleep(10)
        scene.store.refusing = False
        await asyncio.sleep(10)
    assert scene.wait("a").job_cancel == JobCancel(CancelState.CANCELLED, 1)


@in_virtual_time
async def test_what_waitd_does_not_understand_or_need_is_not_cancelled_and_says_so() -> None:
    scene = Scene()
    submitted = Submission(SubmitState.SUBMITTED, 5, 1)
    ended_wait(scene, "a", submitted)
    scene.store.waits[WaitId("a")] = structs.replace(
        scene.wait("a"), spec=structs.replace(scene.wait("a").spec, kind="unknown")
    )
    ended_wait(scene, "b", Submission(SubmitState.UNKNOWN, attempts=2, last_error="no answer"))
    scene.jobs.script = lambda wait_id, _: (
        SubmitAccepted(9, adopted=True) if wait_id == "c" else SubmitRejected("no")
    )
    ended_wait(scene, "c", Submission(SubmitState.SUBMITTING, attempts=1))
    ended_wait(scene, "d", Submission(SubmitState.SUBMITTING, attempts=1))
    async with scene.running():
        await asyncio.sleep(60)
    told = {name: scene.wait(name).job_cancel for name in "abcd"}
    assert told["a"] is not None
    assert (told["a"].state, scene.jobs.cancelled) == (CancelState.FAILED, [])
    assert "unknown submits no job" in (told["a"].last_error or "")
    assert told["b"] == JobCancel(CancelState.UNKNOWN, 0, "no answer")
    assert told["c"] == JobCancel(CancelState.UNNEEDED)
    assert told["d"] is not None
    assert told["d"].state is CancelState.UNKNOWN


@in_virtual_time
async def test_a_wait_that_is_gone_or_dealt_with_is_not_cancelled_again() -> None:
    scene = Scene()
    ended_wait(scene, "a", Submission(SubmitState.SUBMITTED, 5, 1))
    ended_wait(scene, "b", Submission(SubmitState.SUBMITTED, 6, 1))
    gone, done = scene.wait("a"), scene.wait("b")
    del scene.store.waits[WaitId("a")]
    scene.store.waits[WaitId("b")] = structs.replace(done, job_cancel=JobCancel(CancelState.CANCELLED, 1))
    async with scene.running():
        scene.cancels.on_finished(gone)
        scene.cancels.on_finished(done)
        await asyncio.sleep(60)
    assert scene.jobs.cancelled == []


@in_virtual_time
async def test_a_defect_in_a_cancel_call_leaves_it_to_be_done_and_hurts_no_other() -> None:
    scene = Scene()

    def defect(n: int) -> CancelAnswer:
        if n == 1:
            raise RuntimeError("a defect")
        return JobCancelled()

    scene.jobs.cancels = defect
    ended_wait(scene, "a", Submission(SubmitState.SUBMITTED, 5, 1))
    ended_wait(scene, "b", Submission(SubmitState.SUBMITTED, 6, 1))
    async with scene.running():
        await asyncio.sleep(60)
    states = sorted(wait.job_cancel.state.value for wait in scene.store.waits.values() if wait.job_cancel)
    assert states == ["cancelled", "pending"]


@in_virtual_time
async def test_jobs_to_cancel_are_read_again_where_the_store_did_not_answer_at_start() -> None:
    scene = Scene()
    ended_wait(scene, "a", Submission(SubmitState.SUBMITTED, 5, 1))
    read, failures = scene.store.jobs_to_cancel, [1, 2]

    async def flaky(after: WaitId | None, limit: int) -> list[StoredWait]:
        if failures:
            failures.pop()
            raise StoreUnavailable("the disk is away")
        return await read(after, limit)

    scene.store.jobs_to_cancel = flaky  # type: ignore[method-assign]  # the disk of this test
    async with scene.running():
        await asyncio.sleep(60)
    assert scene.wait("a").job_cancel == JobCancel(CancelState.CANCELLED, 1)


@in_virtual_time
async def test_a_defect_in_a_submitting_call_ends_nothing_and_it_is_tried_again() -> None:
    scene = Scene()

    def defect(_: str, n: int) -> SubmitAnswer:
        if n == 1:
            raise RuntimeError("a defect")
        return SubmitAccepted(3)

    scene.jobs.script = defect
    async with scene.running():
        scene.adopt("a")
        await asyncio.sleep(120)
    assert scene.outcome("a") == ("success", "success")


@in_virtual_time
async def test_a_handle_that_does_not_fit_fails_the_wait_and_says_why() -> None:
    scene = Scene()

    def unfit(self: Plan, params: Mapping[str, Any], handle: JobHandle, wait_id: WaitId) -> Mapping[str, Any]:
        raise ValueError("it is no id")

    with patch.object(Plan, "params_with", unfit):
        async with scene.running():
            scene.adopt("a")
            await asyncio.sleep(120)
    assert scene.outcome("a") == ("failed", "submit_no_handle")
    outcome = scene.wait("a").outcome
    assert outcome is not None
    assert outcome.message.endswith("/submit/handle: it is no id")


@in_virtual_time
async def test_nothing_is_parsed_or_submitted_where_nothing_runs() -> None:
    scene = Scene()
    with pytest.raises(InvalidInput, match="own kind"):
        scene.submitter.parse({}, namespace="default")
    wait = waiting("a", scene.clock.now())
    with pytest.raises(InvalidInput, match="scripted submits no job"):
        plan_of(wait, scene.probe)


@in_virtual_time
async def test_without_its_loop_a_submitter_says_so() -> None:
    scene = Scene()
    poking = asyncio.create_task(scene.poker.run())
    scene.adopt("a")
    await asyncio.sleep(60)
    assert scene.jobs.calls == {}
    assert scene.wait("a").state is WaitState.WAITING
    poking.cancel()
    await asyncio.gather(poking, return_exceptions=True)


@in_virtual_time
async def test_an_adopted_job_is_counted_as_such_and_waited_for() -> None:
    scene = Scene()
    scene.jobs.script = lambda *_: SubmitAccepted(4, adopted=True)
    async with scene.running():
        scene.adopt("a")
        await asyncio.sleep(60)
    assert scene.outcome("a") == ("success", "success")
    assert scene.wait("a").submission == Submission(SubmitState.SUBMITTED, 4, 1, adopted=True)


@in_virtual_time
async def test_a_deadline_that_comes_before_the_store_takes_the_mark_submits_nothing() -> None:
    scene = Scene()
    save = scene.store.save_submission

    async def slowly(*arguments: Any, **options: Any) -> bool:
        await asyncio.sleep(5)
        return await save(*arguments, **options)

    scene.store.save_submission = slowly  # type: ignore[method-assign]  # the disk of this test
    async with scene.running():
        scene.adopt("a", timeout=3)
        await asyncio.sleep(60)
    assert scene.jobs.calls == {}
    assert scene.outcome("a") == ("timeout", "deadline")
    assert scene.wait("a").submission == PENDING_SUBMISSION


@in_virtual_time
async def test_a_wait_found_after_its_deadline_with_a_call_unanswered_says_that_nobody_knows() -> None:
    scene = Scene()
    scene.jobs.script = lambda *_: LOST
    async with scene.running():
        scene.adopt("a", timeout=45)
        await asyncio.sleep(120)
    outcome = scene.wait("a").outcome
    assert outcome is not None
    assert (outcome.state, outcome.reason) == (WaitState.TIMEOUT, "deadline")
    assert f"It is not known whether the job was submitted: {LOST.message}" in outcome.message
