"""Submits the jobs of waits that ask for it: the first pokes of such a wait are its submit calls.

Until the job is submitted, the submitter is the wait's probe. So the poker schedules a submit like
a poke, with the same backoff, deadline and limits: thousands of submits do not run at one origin
together. A call continues when its poke times out, since only its answer says whether the job
exists. The store is updated before and after each call, see `waitd.core.waits.submission`.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import anyio
import structlog
from anyio.abc import TaskGroup

from waitd.core.errors import InvalidInput, StoreUnavailable
from waitd.core.local_trouble import local_trouble, local_verdict
from waitd.core.waits.schedule import grid_phase
from waitd.core.waits.submission import (
    PENDING_SUBMISSION,
    SUBMIT_NO_HANDLE,
    JobHandle,
    Submission,
    SubmissionUpdate,
    SubmitAccepted,
    SubmitAnswer,
    SubmitConflict,
    SubmitRejected,
    SubmitState,
    SubmitUnavailable,
    SubmitUncertain,
    SubmitWithoutHandle,
    after_submit,
    mark_submitting,
    resolve_interrupted,
)
from waitd.core.waits.verdict import Failure, Unreachable, Verdict
from waitd.core.waits.wait import WaitId
from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait, ProbeKind
from waitd.engine.verdicts import retry_pauses
from waitd.metrics import Instruments
from waitd.ports import Jobs, JobStore, Probe, StoredWait, SubmitPlan, Target

log = structlog.get_logger(__name__)

NOT_STORED = Unreachable("store_unavailable", "Not submitted yet: the store cannot be written.")
CALL_FAILED = Unreachable("internal_error", "The submit call failed; the daemon's log has the traceback.")


class Unsubmitted:
    """The target of a wait whose job is not submitted yet."""

    __slots__ = ("held_up", "id", "kind", "namespace", "params", "plan", "submission", "verdict")

    key = ""
    conn_id = None

    def __init__(self, wait: StoredWait, kind: ProbeKind, plan: SubmitPlan) -> None:
        self.id = wait.id
        self.namespace = wait.namespace
        self.params = wait.spec.params
        #: The wait's own kind, which takes over once the job is submitted.
        self.kind = kind
        self.plan = plan
        self.submission: Submission = wait.submission or PENDING_SUBMISSION
        #: The verdict that ends the wait, if the call outlived its poke.
        self.verdict: Failure | None = None
        #: The daemon's own trouble that prevented the last call; "" if none did.
        self.held_up = ""

    @property
    def request_timeout(self) -> float:
        """How many seconds the submit call may take."""
        return self.plan.request_timeout


class Submitter(Probe):
    """The probe of waits whose job is not submitted yet; `run` holds the calls in progress."""

    def __init__(
        self,
        store: JobStore,
        jobs: Jobs,
        clock: Clock,
        instruments: Instruments,
        *,
        wake: Callable[[str], object],
    ) -> None:
        """`wake` makes a wait due now."""
        self._store = store
        self._jobs = jobs
        self._clock = clock
        self._instruments = instruments
        self._kinds: dict[ProbeKind, ProbeKind] = {}
        self._calls: dict[str, asyncio.Future[Verdict]] = {}
        self._tasks: TaskGroup | None = None
        self._wake = wake

    async def run(self) -> None:
        """Holds the calls in progress until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            await asyncio.Event().wait()

    def target_of(self, wait: StoredWait, kind: ProbeKind) -> tuple[ProbeKind, Target]:
        """The probe and target of a wait that submits: its own once the job is submitted.

        Raises:
            InvalidInput: this waitd does not understand the wait's `submit` or the job's handle.
        """
        plan = plan_of(wait, kind.probe)
        submission = wait.submission or PENDING_SUBMISSION
        if submission.state is SubmitState.SUBMITTED and submission.handle is not None:
            return kind, _target(kind, plan, wait.spec.params, submission.handle, wait)
        if kind not in self._kinds:
            self._kinds[kind] = ProbeKind(kind.name, self, self._instruments, kind.namespace)
        return self._kinds[kind], Unsubmitted(wait, kind, plan)

    async def wait_for_call(self, wait_id: WaitId) -> None:
        """Waits until no call for this wait is in progress."""
        call = self._calls.get(wait_id)
        if call is not None:
            await asyncio.shield(call)

    # ------------------------------------------------------------ as a probe

    def parse(self, params: Mapping[str, Any], *, namespace: str) -> Target:  # noqa: ARG002 - the port's shape
        """Refused: the wait's own kind parses its `submit`."""
        raise InvalidInput.at("", "a submit is parsed by the wait's own kind")

    def origin(self, target: Unsubmitted) -> str:
        """The origin of the submit call."""
        return self._jobs.origin(target.plan)

    async def poke(self, group: Sequence[Any]) -> Sequence[Verdict]:
        """Makes one submit call, or waits for the call in progress."""
        return [await self._poke_one(held) for held in group]

    async def _poke_one(self, held: HeldWait) -> Verdict:
        target, final = held.target, held.final
        if not isinstance(target, Unsubmitted):  # an earlier call has submitted the job meanwhile
            return (await held.kind.probe.poke([held]))[0]
        if target.verdict is not None:
            return target.verdict
        call = self._calls.get(held.id)
        if call is None:
            if final or self._clock.now() >= held.deadline:
                return _too_late(target.submission, target.held_up)
            if self._tasks is None:
                raise RuntimeError("the submitter is not running")
            call = self._calls[held.id] = asyncio.get_running_loop().create_future()
            self._tasks.start_soon(self._call, held, target, call, name="submit")
        verdict = await asyncio.shield(call)
        if final and held.kind.probe is not self:  # the job exists, and this is its only poke
            return (await held.kind.probe.poke([held]))[0]
        return verdict

    async def _call(self, held: HeldWait, target: Unsubmitted, call: "asyncio.Future[Verdict]") -> None:
        verdict: Verdict = CALL_FAILED
        try:
            verdict = await self._submit(held, target)
        except Exception as error:  # a defect does not end the wait
            if trouble := local_trouble(error):
                verdict = local_verdict(trouble)
                target.held_up = verdict.message
            else:
                log.exception("submit_failed", wait_id=held.id)
        finally:
            del self._calls[held.id]
            call.set_result(verdict)
        if isinstance(verdict, Failure):
            target.verdict = verdict
            if not held.in_flight:  # its poke timed out; the next one ends the wait
                self._wake(held.id)

    # ------------------------------------------------------------ one call

    async def _submit(self, held: HeldWait, target: Unsubmitted) -> Verdict:
        before, rules = target.submission, target.plan.rules
        interrupted = resolve_interrupted(before, rules)
        if interrupted is not None:
            await self._save(held, target, interrupted.submission)
            return interrupted.verdict
        try:
            saved = await self._store.save_submission(held.id, mark_submitting(before), only_waiting=True)
        except StoreUnavailable:
            target.held_up = "The store could not be written."
            return NOT_STORED
        if not saved or held.ended or self._clock.now() >= held.deadline:
            if saved:
                await self._save(held, target, before)
            return _too_late(before, target.held_up)
        target.held_up = ""
        answer = await self._jobs.submit(target.plan, held.id)
        done = after_submit(before, answer, rules)
        self._report(held, done, _RESULTS[type(answer)])
        await self._save(held, target, done.submission)
        handle = done.submission.handle
        if handle is None:
            return done.verdict
        try:
            own = _target(target.kind, target.plan, target.params, handle, target)
        except InvalidInput as error:
            return Failure(SUBMIT_NO_HANDLE, f"The job was submitted, but its handle cannot be used: {error}")
        # From now on the wait's own kind is its probe.
        held.kind, held.target = target.kind, own
        held.phase = grid_phase(own.key or held.id, held.pacing.poke_interval)
        return done.verdict

    async def _save(self, held: HeldWait, target: Unsubmitted, submission: Submission) -> None:
        """Saves the state of the job, and retries until it is on disk."""
        for pause in retry_pauses():
            try:
                await self._store.save_submission(held.id, submission)
                break
            except StoreUnavailable:
                log.warning("submission_not_stored", wait_id=held.id, next_try_in=pause)
                await self._clock.sleep(pause)
        target.submission = submission

    def _report(self, held: HeldWait, done: SubmissionUpdate, result: str) -> None:
        if result == "accepted" and done.submission.adopted:
            result = "adopted"
        self._instruments.submits.labels(held.kind.name, result).inc()
        log.info(
            "submit_attempt",
            wait_id=held.id,
            kind=held.kind.name,
            attempt=done.submission.attempts,
            result=result,
            state=done.submission.state.value,
            error=done.submission.last_error,
        )


_RESULTS: Mapping[type[SubmitAnswer], str] = {
    SubmitAccepted: "accepted",
    SubmitUnavailable: "not_submitted",
    SubmitUncertain: "unclear",
    SubmitConflict: "conflict",
    SubmitRejected: "refused",
    SubmitWithoutHandle: "no_handle",
}


def plan_of(wait: StoredWait, probe: Probe | None) -> SubmitPlan:
    """The plan of a wait's `submit`.

    Raises:
        InvalidInput: `submit` is invalid, or the wait submits no job.
    """
    submit = wait.spec.submit
    plan = (
        None
        if probe is None or submit is None
        else probe.parse_submit(submit, wait.spec.params, namespace=wait.namespace)
    )
    if plan is None:
        raise InvalidInput.at("/submit", f"this wait of kind {wait.spec.kind} submits no job")
    return plan


def _target(
    kind: ProbeKind,
    plan: SubmitPlan,
    params: Mapping[str, Any],
    handle: JobHandle,
    wait: StoredWait | Unsubmitted,
) -> Target:
    """The wait's own target, with the job's handle in its parameters. Raises InvalidInput."""
    try:
        complete = plan.params_with(params, handle, wait.id)
    except ValueError as error:
        raise InvalidInput.at("/submit/handle", str(error)) from None
    target: Target = kind.probe.parse(complete, namespace=wait.namespace)
    return target


def _too_late(submission: Submission, held_up: str) -> Unreachable:
    """The verdict when the deadline has come before the job was submitted."""
    why = held_up or submission.last_error
    error = f": {why}" if why else "."
    if submission.state is SubmitState.SUBMITTING:
        return Unreachable("submit_unclear", f"It is not known whether the job was submitted{error}")
    return Unreachable("not_submitted", f"The job was not submitted in time{error}")
