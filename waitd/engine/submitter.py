"""Submits the jobs of waits that ask for it: the first pokes of such a wait are its submitting calls.

Until the job is submitted, a stand-in takes the place of the wait's probe. So submitting has its places at the origin, its schedule, its
backing off and its deadline from the poker, and thousands of submits do not run at one origin together. A call goes on when its poke
has had its time: only its answer says whether there is a job. Around each call the store knows of it, see `waitd.core.waits.submission`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from waitd.core.errors import InvalidInput, StoreUnavailable
from waitd.core.waits.schedule import grid_phase
from waitd.core.waits.submission import (
    PENDING_SUBMISSION,
    SUBMIT_NO_HANDLE,
    JobHandle,
    Submission,
    SubmissionUpdate,
    SubmitState,
    after_submit,
    mark_submitting,
    resolve_interrupted,
)
from waitd.core.waits.verdict import Failure, Unreachable, Verdict
from waitd.core.waits.wait import WaitId
from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait, ProbeKind
from waitd.engine.recording import RETRY_PAUSES
from waitd.metrics import Instruments
from waitd.ports import Jobs, JobStore, Probe, StoredWait, SubmitPlan, Target

log = structlog.get_logger(__name__)

NOT_STORED = Unreachable("store_unavailable", "Not submitted yet: what is to happen cannot be put on disk.")
CALL_FAILED = Unreachable("internal_error", "The submitting call failed; the daemon's log has the traceback.")


class Unsubmitted:
    """The target of a wait whose job is not submitted yet."""

    __slots__ = ("kind", "namespace", "params", "plan", "submission", "verdict", "wait_id")

    key = ""
    conn_id = None

    def __init__(self, wait: StoredWait, kind: ProbeKind, plan: SubmitPlan) -> None:
        self.wait_id = wait.id
        self.namespace = wait.namespace
        self.params = wait.spec.params
        #: The wait's own kind, for when the job is submitted.
        self.kind = kind
        self.plan = plan
        self.submission: Submission = wait.submission or PENDING_SUBMISSION
        #: What ends the wait, where its poke did not live to hear it.
        self.verdict: Failure | None = None

    @property
    def request_timeout(self) -> float:
        """Seconds that the submitting call may take."""
        return self.plan.request_timeout


class Submitter(Probe):
    """The stand-in. One per daemon; `run` keeps its calls. `wake` makes a wait due at once."""

    def __init__(
        self,
        store: JobStore,
        jobs: Jobs,
        clock: Clock,
        instruments: Instruments,
        *,
        wake: Callable[[str], object],
    ) -> None:
        self._store = store
        self._jobs = jobs
        self._clock = clock
        self._instruments = instruments
        self._kinds: dict[str, ProbeKind] = {}
        self._calls: dict[str, asyncio.Future[Verdict]] = {}
        self._tasks: TaskGroup | None = None
        self._wake = wake

    async def run(self) -> None:
        """Holds the calls under way until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            await asyncio.Event().wait()

    def target_of(self, wait: StoredWait, kind: ProbeKind) -> tuple[ProbeKind, Target]:
        """What pokes a wait that submits, and its target: its own where the job is submitted, else the stand-in's.

        Raises:
            InvalidInput: its `submit`, or its handle, is not understood (any more).
        """
        spec = wait.spec
        plan = plan_of(wait, kind.probe)
        submission = wait.submission or PENDING_SUBMISSION
        if submission.state is SubmitState.SUBMITTED and submission.handle is not None:
            return kind, _target(kind, plan, spec.params, submission.handle, wait)
        own = self._kinds.get(kind.name)
        if own is None:
            own = self._kinds[kind.name] = ProbeKind(kind.name, self, self._instruments)
        return own, Unsubmitted(wait, kind, plan)

    async def landed(self, wait_id: WaitId) -> None:
        """Waits for a call that is under way for this wait."""
        call = self._calls.get(wait_id)
        if call is not None:
            await asyncio.shield(call)

    # ------------------------------------------------------------ as a probe

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> Target:  # noqa: ARG002 - the port's shape
        """Nothing is parsed here."""
        raise InvalidInput.at("", "a submit is parsed by the wait's own kind")

    def origin(self, target: Unsubmitted) -> str:
        """Where the submitting call goes."""
        return self._jobs.origin(target.plan)

    async def poke(self, group: Sequence[Any]) -> Sequence[Verdict]:
        """One submitting call, or what became of the one before."""
        return [await self._look(entry) for entry in group]

    async def _look(self, entry: HeldWait) -> Verdict:
        target, last = entry.target, entry.last
        if not isinstance(target, Unsubmitted):  # a call of before has landed meanwhile
            return (await entry.kind.probe.poke([entry]))[0]
        if target.verdict is not None:
            return target.verdict
        call = self._calls.get(entry.id)
        if call is None:
            if last or self._clock.now() >= entry.deadline:
                return _too_late(target.submission)
            call = self._begin(entry, target)
        verdict = await asyncio.shield(call)
        if last and entry.kind.probe is not self:  # there is a job, and this is the only look at it
            return (await entry.kind.probe.poke([entry]))[0]
        return verdict

    def _begin(self, entry: HeldWait, target: Unsubmitted) -> "asyncio.Future[Verdict]":
        if self._tasks is None:
            raise RuntimeError("the submitter does not run")
        call: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._calls[entry.id] = call
        self._tasks.start_soon(self._call, entry, target, call, name="submit")
        return call

    async def _call(self, entry: HeldWait, target: Unsubmitted, call: "asyncio.Future[Verdict]") -> None:
        verdict: Verdict = CALL_FAILED
        try:
            verdict = await self._submit(entry, target)
        except Exception:  # a defect is not the wait's end
            log.exception("submit_failed", wait_id=entry.id)
        finally:
            del self._calls[entry.id]
            call.set_result(verdict)
        if isinstance(verdict, Failure):
            target.verdict = verdict
            if not entry.flying:  # its poke has gone: the next one brings the end
                self._wake(entry.id)

    # ------------------------------------------------------------ one call

    async def _submit(self, entry: HeldWait, target: Unsubmitted) -> Verdict:
        before, rules = target.submission, target.plan.rules
        over = resolve_interrupted(before, rules)
        if over is not None:
            await self._keep(entry, target, over.submission)
            return over.verdict
        try:
            kept = await self._store.save_submission(entry.id, mark_submitting(before), only_waiting=True)
        except StoreUnavailable:
            return NOT_STORED
        if not kept or entry.ended or self._clock.now() >= entry.deadline:
            if kept:
                await self._keep(entry, target, before)
            return _too_late(before)
        answer = await self._jobs.submit(target.plan, entry.id)
        done = after_submit(before, answer, rules)
        self._tell(entry, done, type(answer).__name__)
        await self._keep(entry, target, done.submission)
        if done.submission.handle is None:
            return done.verdict
        return self._switch(entry, target, done)

    def _switch(self, entry: HeldWait, target: Unsubmitted, done: SubmissionUpdate) -> Verdict:
        """The wait's own kind takes over."""
        handle = done.submission.handle
        assert handle is not None  # noqa: S101 - the caller saw to it
        try:
            own = _target(target.kind, target.plan, target.params, handle, target)
        except InvalidInput as error:
            return Failure(SUBMIT_NO_HANDLE, f"The job was submitted, and its handle does not fit: {error}")
        entry.kind, entry.target = target.kind, own
        entry.phase = grid_phase(own.key or entry.id)
        return done.verdict

    async def _keep(self, entry: HeldWait, target: Unsubmitted, submission: Submission) -> None:
        """Puts what is known on disk, however long that takes."""
        failures = 0
        while True:
            try:
                await self._store.save_submission(entry.id, submission)
                break
            except StoreUnavailable:
                pause = RETRY_PAUSES[min(failures, len(RETRY_PAUSES) - 1)]
                failures += 1
                log.warning("submission_not_stored", wait_id=entry.id, next_try_in=pause)
                await self._clock.sleep_until(self._clock.monotonic() + pause, asyncio.Event())
        target.submission = submission

    def _tell(self, entry: HeldWait, done: SubmissionUpdate, answer: str) -> None:
        result = _RESULTS[answer]
        if result == "accepted" and done.submission.adopted:
            result = "adopted"
        self._instruments.submits.labels(entry.kind.name, result).inc()
        log.info(
            "submit_attempt",
            wait_id=entry.id,
            kind=entry.kind.name,
            attempt=done.submission.attempts,
            result=result,
            state=done.submission.state.value,
            error=done.submission.last_error,
        )


_RESULTS = {
    "SubmitAccepted": "accepted",
    "SubmitUnavailable": "not_submitted",
    "SubmitUncertain": "unclear",
    "SubmitConflict": "conflict",
    "SubmitRejected": "refused",
    "SubmitWithoutHandle": "no_handle",
}


def plan_of(wait: StoredWait, probe: Probe | None) -> SubmitPlan:
    """What a wait submits.

    Raises:
        InvalidInput: it is not understood, or its kind submits nothing.
    """
    if probe is None or wait.spec.submit is None:
        raise InvalidInput.at("/submit", f"this wait of kind {wait.spec.kind} submits nothing")
    return probe.parse_submit(wait.spec.submit, wait.spec.params, namespace=wait.namespace)


def _target(
    kind: ProbeKind,
    plan: SubmitPlan,
    params: Mapping[str, Any],
    handle: JobHandle,
    wait: StoredWait | Unsubmitted,
) -> Target:
    """The wait's own target, complete with its handle. Raises InvalidInput."""
    wait_id = wait.wait_id if isinstance(wait, Unsubmitted) else wait.id
    try:
        complete = plan.params_with(params, handle, wait_id)
    except ValueError as error:
        raise InvalidInput.at("/submit/handle", str(error)) from None
    target: Target = kind.probe.parse(complete, namespace=wait.namespace)
    return target


def _too_late(submission: Submission) -> Unreachable:
    """What is seen of a job that must not be submitted any more."""
    told = f": {submission.last_error}" if submission.last_error else "."
    if submission.state is SubmitState.SUBMITTING:
        return Unreachable("submit_unclear", f"It is not known whether the job was submitted{told}")
    return Unreachable("not_submitted", f"The job was not submitted in time{told}")
