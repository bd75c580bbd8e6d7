"""A poker in virtual time whose waits submit jobs, with a scripted job system and its store."""

import asyncio
from collections.abc import Awaitable, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field, replace
from typing import Any

from engine_harness import PokerHarness, running
from fakes import MemoryStore, ScriptedProbe, done_at, waiting
from msgspec import structs
from virtual_time import VirtualClock

from waitd.core.errors import NotFound
from waitd.core.waits.job_cancel import CancelAnswer, JobCancel, JobCancelled, job_cancel_at_end
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.submission import (
    JobHandle,
    Submission,
    SubmitAccepted,
    SubmitAnswer,
    SubmitRules,
    initial_submission,
)
from waitd.core.waits.wait import Outcome, WaitId, WaitState
from waitd.engine.job_cancels import JobCancels
from waitd.engine.submitter import Submitter
from waitd.metrics import Instruments
from waitd.ports import StoredOutcome, StoredWait, UnstoredOutcome


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
    cancelled: list[tuple[str, JobHandle]] = field(default_factory=list)
    running: int = 0
    max_running: int = 0

    def origin(self, plan: Any) -> str:
        return str(plan.submit.get("host", "host"))

    async def submit(self, plan: Any, wait_id: WaitId) -> SubmitAnswer:
        calls = self.calls.setdefault(wait_id, [])
        calls.append(self.now())
        self.running += 1
        self.max_running = max(self.max_running, self.running)
        answer = self.script(wait_id, len(calls))
        answer = answer if not isinstance(answer, Awaitable) else await answer
        self.running -= 1
        return answer

    async def cancel(self, plan: Any, wait_id: WaitId, handle: JobHandle) -> CancelAnswer:
        self.cancelled.append((wait_id, handle))
        return self.cancels(len(self.cancelled))


class JobMemoryStore(MemoryStore):
    """A store in memory that keeps the jobs of waits as the real one does."""

    async def save_submission(
        self, wait_id: WaitId, submission: Submission, *, only_waiting: bool = False
    ) -> bool:
        await asyncio.sleep(0)
        self._check()
        if only_waiting and self.waits[wait_id].state is not WaitState.WAITING:
            return False
        self.update(wait_id, submission=submission)
        return True

    async def save_job_cancel(self, wait_id: WaitId, job_cancel: JobCancel) -> None:
        self._check()
        self.update(wait_id, job_cancel=job_cancel)

    async def jobs_to_cancel(self, after: WaitId | None, limit: int) -> list[StoredWait]:
        return [
            wait
            for wait_id, wait in sorted(self.waits.items())
            if wait_id > (after or "") and wait.job_cancel and wait.job_cancel.next_attempt_at is not None
        ][:limit]

    async def get(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        if wait_id not in self.waits:
            raise NotFound
        return self.waits[WaitId(wait_id)]

    async def finish(self, ending: UnstoredOutcome) -> StoredOutcome | None:
        ended = await super().finish(ending)
        return None if ended is None else replace(ended, wait=self.end(ending.id, ending.outcome))

    def end(self, wait_id: WaitId, outcome: Outcome) -> StoredWait:
        """Ends a wait and requests the cancelling of its job, in one transaction."""
        wait = self.waits[wait_id]
        assert wait.submission is not None
        assert wait.spec.submit is not None
        cancel_on = wait.spec.submit.get("cancel_job_on", ())
        job_cancel = job_cancel_at_end(wait.submission, outcome.state, cancel_on, 0.0)
        return self.update(wait_id, state=outcome.state, outcome=outcome, job_cancel=job_cancel)

    def update(self, wait_id: WaitId, **fields: Any) -> StoredWait:
        self.waits[wait_id] = structs.replace(self.waits[wait_id], **fields)
        return self.waits[wait_id]


class SubmitHarness(PokerHarness):
    """A poker whose waits submit jobs; each job is done at the `done`-th poke."""

    store: JobMemoryStore

    def __init__(
        self,
        script: Callable[[str, int], SubmitAnswer | Awaitable[SubmitAnswer]] = lambda *_: SubmitAccepted(1),
        *,
        cancels: Callable[[int], CancelAnswer] = lambda _: JobCancelled(),
        done: int = 2,
    ) -> None:
        store, clock, instruments = JobMemoryStore(), VirtualClock(), Instruments(version="test")
        self.jobs = ScriptedJobs(clock.now, script, cancels)
        self.submitter = Submitter(
            store,
            self.jobs,
            clock,
            instruments,
            wake=lambda wait_id: self.poker.poke_now(wait_id),  # noqa: PLW0108 - the poker is built below
        )
        super().__init__(
            done_at(done),
            probe=SubmittingProbe,
            store=store,
            per_host_concurrency=4,
            submitter=self.submitter,
        )
        self.cancels = JobCancels(
            store, {"scripted": self.probe}, self.jobs, self.submitter, clock, instruments
        )

    def running(self) -> AbstractAsyncContextManager[None]:
        return running(self.submitter.run, self.cancels.run, self.poker.run)

    def submit(
        self, name: str, *, timeout: float = 3600.0, submission: Submission | None = None, **submit: Any
    ) -> None:
        wait = waiting(name, self.clock.now(), timeout=timeout)
        wait = structs.replace(
            wait,
            spec=structs.replace(wait.spec, submit=submit),
            submission=submission or initial_submission(submit),
        )
        self.poker.adopt(self.store.put(wait))

    def put_ended(self, name: str, submission: Submission, **submit: Any) -> None:
        """Stores an ended wait whose job must be cancelled now."""
        wait = waiting(name, self.clock.now())
        wait = structs.replace(
            wait,
            spec=structs.replace(wait.spec, submit=submit),
            submission=submission,
            state=WaitState.CANCELLED,
            job_cancel=JobCancel(next_attempt_at=self.clock.now()),
        )
        self.store.put(wait)

    def cancel(self, name: str) -> None:
        wait = self.store.end(WaitId(name), cancelled_outcome())
        self.poker.drop(wait.id)
        self.cancels.add(wait)

    def outcome(self, name: str) -> tuple[str, str]:
        """The state and the reason of an ended wait."""
        outcome = self.wait(name).outcome
        assert outcome is not None
        return outcome.state.value, outcome.reason

    def message(self, name: str) -> str:
        """The message of an ended wait."""
        outcome = self.wait(name).outcome
        assert outcome is not None
        return outcome.message

    def job_cancel(self, name: str) -> JobCancel:
        job_cancel = self.wait(name).job_cancel
        assert job_cancel is not None
        return job_cancel
