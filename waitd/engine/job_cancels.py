"""Cancels the jobs of ended waits that request it (`cancel_job_on`), at least once.

The request to cancel is stored in the transaction that ends the wait. If it is unknown whether the
job was submitted, the submit is repeated with the same idempotency key: it returns the handle of
the existing job, or creates the job that is cancelled next. Without idempotency keys the state of
the job is `unknown`, which the wait shows.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from heapq import heappop, heappush
from math import inf

import anyio
import structlog
from anyio.abc import TaskGroup

from waitd.core.errors import InvalidInput, NotFound, StoreUnavailable, Unreadable
from waitd.core.recovery import Paces
from waitd.core.waits.delivery import LOCAL_RETRY
from waitd.core.waits.job_cancel import (
    CancelState,
    CancelUnavailable,
    JobCancel,
    after_cancel,
    next_cancel_at,
    retry_cancel,
)
from waitd.core.waits.submission import (
    JobHandle,
    Submission,
    SubmitAccepted,
    SubmitConflict,
    SubmitState,
    SubmitUnavailable,
    SubmitUncertain,
    after_submit,
)
from waitd.core.waits.verdict import Unreachable
from waitd.core.waits.wait import WaitId
from waitd.engine.clock import Clock
from waitd.engine.submitter import Submitter, plan_of
from waitd.engine.trouble_log import TroubleLog
from waitd.metrics import Instruments
from waitd.ports import Jobs, JobStore, Probe, StoredOutcome, StoredWait, StoreListener, SubmitPlan

log = structlog.get_logger(__name__)

#: How many cancel requests are in flight at one origin.
PER_ORIGIN = 8
#: How many cancels a second an origin gets at least, once it answers again after a fault.
MIN_RATE = 10.0
#: How many rows one read takes.
PAGE_ROWS = 1000
#: Pause before a call that the store refused is retried, in seconds.
RETRY_PAUSE = 1.0


class Prevented(Exception):  # noqa: N818 - no error of the job system
    """The daemon's own trouble prevented an attempt, which does not count."""


class OriginCancels:
    """The cancels that are due at one origin."""

    def __init__(self) -> None:
        self.waiting: deque[WaitId] = deque()
        self.workers = 0


class JobCancels(StoreListener):
    """Cancels jobs; `run` is its loop."""

    def __init__(  # noqa: PLR0917 - the parts that it works with
        self,
        store: JobStore,
        probes: Mapping[str, Probe],
        jobs: Jobs,
        submitter: Submitter,
        clock: Clock,
        instruments: Instruments,
        *,
        troubles: TroubleLog | None = None,
    ) -> None:
        self._store = store
        self._probes = probes
        self._jobs = jobs
        self._submitter = submitter
        self._clock = clock
        self._instruments = instruments
        self._troubles = troubles or TroubleLog(clock, instruments)
        self._scheduled: list[tuple[float, WaitId, str]] = []
        self._known: set[WaitId] = set()
        self._queues: dict[str, OriginCancels] = {}
        self._paces = Paces(MIN_RATE)
        self._wakeup = asyncio.Event()

    def on_finished(self, outcomes: Sequence[StoredOutcome]) -> None:
        """See `StoreListener`: schedules the cancelling of jobs."""
        for outcome in outcomes:
            self.add(outcome.wait)

    def add(self, wait: StoredWait) -> None:
        """Schedules the cancelling of an ended wait's job, if it is requested."""
        due = None if wait.job_cancel is None else next_cancel_at(wait.job_cancel, self._clock.now())
        if due is None or wait.id in self._known:
            return
        self._known.add(wait.id)
        self._schedule(wait.id, self._origin(wait), due)

    def _schedule(self, wait_id: WaitId, origin: str, due: float) -> None:
        """Schedules an attempt at `due`, Unix seconds."""
        heappush(self._scheduled, (self._clock.monotonic() + due - self._clock.now(), wait_id, origin))
        self._wakeup.set()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._load, name="load of jobs to cancel")
            while True:
                now = self._clock.monotonic()
                while self._scheduled and self._scheduled[0][0] <= now:
                    _, wait_id, origin = heappop(self._scheduled)
                    self._queue(tasks, wait_id, origin)
                await self._clock.sleep_until(self._scheduled[0][0] if self._scheduled else inf, self._wakeup)

    async def _load(self) -> None:
        """Schedules the cancels that an earlier process left."""
        after: WaitId | None = None
        while True:
            try:
                page = await self._store.jobs_to_cancel(after, PAGE_ROWS)
            except StoreUnavailable:
                await self._clock.sleep(RETRY_PAUSE)
                continue
            if not page:
                return
            for wait in page:
                self.add(wait)
            after = page[-1].id

    def _origin(self, wait: StoredWait) -> str:
        try:
            return self._jobs.origin(plan_of(wait, self._probes.get(wait.spec.kind)))
        except InvalidInput:
            return "not understood"

    def _queue(self, tasks: TaskGroup, wait_id: WaitId, origin: str) -> None:
        queue = self._queues.setdefault(origin, OriginCancels())
        queue.waiting.append(wait_id)
        if queue.workers < PER_ORIGIN:
            queue.workers += 1
            tasks.start_soon(self._work, origin, queue, name="cancel of jobs")

    async def _work(self, origin: str, queue: OriginCancels) -> None:
        pace = self._paces.get(origin)
        while queue.waiting:
            now = self._clock.monotonic()
            if (resume := pace.next_start(now)) > now:
                await self._clock.sleep(resume - now)
                continue
            pace.on_start(now)
            wait_id = queue.waiting.popleft()
            try:
                due = await self._attempt(wait_id)
                if due is None:
                    pace.on_answer(self._clock.monotonic())
                else:
                    pace.on_failure(self._clock.monotonic())
            except StoreUnavailable:
                due = self._clock.now() + RETRY_PAUSE
            except Prevented:
                due = self._clock.now() + LOCAL_RETRY
            except Exception:  # a defect; the cancel stays requested on disk, for the next start
                log.exception("job_cancel_failed", wait_id=wait_id)
                due = None
            if due is None:
                self._known.discard(wait_id)
            else:
                self._schedule(wait_id, origin, due)
        pace.on_drained(self._clock.monotonic())
        queue.workers -= 1
        if not queue.workers:
            del self._queues[origin]

    # ------------------------------------------------------------ one job

    async def _attempt(self, wait_id: WaitId) -> float | None:
        """Tries once.

        Returns when to try again (Unix seconds), or None if it is over. Raises StoreUnavailable,
        Prevented.
        """
        await self._submitter.wait_for_call(wait_id)
        try:
            wait = await self._store.get(wait_id)
        except (NotFound, Unreadable):
            return None
        before, submission = wait.job_cancel, wait.submission
        if before is None or before.next_attempt_at is None or submission is None:
            return None
        after = await self._next_state(wait, before, submission)
        await self._store.save_job_cancel(wait_id, after)
        self._report(wait, after)
        return after.next_attempt_at

    async def _next_state(self, wait: StoredWait, before: JobCancel, submission: Submission) -> JobCancel:
        try:
            plan = plan_of(wait, self._probes.get(wait.spec.kind))
        except InvalidInput as error:
            return JobCancel(
                CancelState.FAILED, before.attempts, f"This waitd cannot cancel the job: {error}"
            )
        match submission.state:
            case SubmitState.SUBMITTED if submission.handle is not None:
                return await self._cancel(wait, plan, submission.handle, before)
            case SubmitState.SUBMITTING if plan.rules.idempotent:
                return await self._cancel_uncertain(wait, plan, submission, before)
            case SubmitState.SUBMITTING | SubmitState.UNKNOWN:
                return JobCancel(CancelState.UNKNOWN, before.attempts, submission.last_error)
        return JobCancel(CancelState.UNNEEDED, before.attempts)

    async def _cancel(
        self, wait: StoredWait, plan: SubmitPlan, handle: JobHandle, before: JobCancel
    ) -> JobCancel:
        answer = await self._jobs.cancel(plan, wait.id, handle)
        if isinstance(answer, CancelUnavailable):
            self._check_own(plan, answer.reason, answer.message)
        return after_cancel(before, answer, self._clock.now())

    def _check_own(self, plan: SubmitPlan, reason: str, message: str) -> None:
        """Raises Prevented if it was the daemon's own trouble that prevented a call."""
        if self._troubles.own_trouble(Unreachable(reason, message), self._jobs.origin(plan), "job cancels"):
            raise Prevented

    async def _cancel_uncertain(
        self, wait: StoredWait, plan: SubmitPlan, submission: Submission, before: JobCancel
    ) -> JobCancel:
        """Repeats the submit to get the handle of a job that may be running."""
        answer = await self._jobs.submit(plan, wait.id)
        submitted = after_submit(submission, answer, plan.rules).submission
        await self._store.save_submission(wait.id, submitted)
        match answer:
            case SubmitAccepted(handle=handle, adopted=False):
                return await self._cancel(wait, plan, handle, before)
            case SubmitAccepted():
                return JobCancel(CancelState.UNNEEDED, before.attempts)
            case SubmitUnavailable() | SubmitUncertain() | SubmitConflict():
                if not isinstance(answer, SubmitConflict):
                    self._check_own(plan, answer.reason, answer.message)
                return retry_cancel(before, answer.message, self._clock.now(), answer.retry_after)
        return JobCancel(CancelState.UNKNOWN, before.attempts, submitted.last_error)

    def _report(self, wait: StoredWait, after: JobCancel) -> None:
        self._instruments.job_cancels.labels(wait.spec.kind, after.state.value).inc()
        log.info(
            "job_cancel_attempt",
            wait_id=wait.id,
            namespace=wait.namespace,
            kind=wait.spec.kind,
            attempt=after.attempts,
            state=after.state.value,
            error=after.last_error,
        )
