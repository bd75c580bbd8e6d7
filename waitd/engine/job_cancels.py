"""Cancels the jobs of waits that ended and asked for that (`cancel_job_on`): at least once, for a bounded number of tries, over crashes.

What is to be done stands on disk since the transaction that ended the wait. A job of which it is not known whether it was submitted is
asked for once more under the same idempotency key, which names the job that there is, or makes the one that is cancelled next; where the
other side knows no such keys, nobody can say, and the wait shows so.
"""

import asyncio
from collections import deque
from collections.abc import Mapping
from heapq import heappop, heappush
from math import inf

import anyio
import structlog
from anyio.abc import TaskGroup

from waitd.core.errors import InvalidInput, NotFound, StoreUnavailable
from waitd.core.waits.submission import (
    CancelState,
    JobCancel,
    JobHandle,
    Submission,
    SubmitAccepted,
    SubmitConflict,
    SubmitState,
    SubmitUnavailable,
    SubmitUncertain,
    after_cancel,
    after_submit,
    retry_cancel,
)
from waitd.core.waits.wait import WaitId
from waitd.engine.clock import Clock
from waitd.engine.submitter import Submitter, plan_of
from waitd.metrics import Instruments
from waitd.ports import Jobs, JobStore, Probe, StoredWait, SubmitPlan

log = structlog.get_logger(__name__)

#: How many cancel requests are in flight at one origin.
PER_ORIGIN = 8
#: How many rows one read takes.
PAGE = 1000
#: Pause before the store is asked again that did not answer, in seconds.
RETRY_PAUSE = 1.0


class OriginCancels:
    """The cancels at one origin that are due."""

    def __init__(self) -> None:
        self.waiting: deque[WaitId] = deque()
        self.workers = 0


class JobCancels:
    """Cancels. One per daemon; `run` is its loop."""

    def __init__(  # noqa: PLR0917 - its parts
        self,
        store: JobStore,
        probes: Mapping[str, Probe],
        jobs: Jobs,
        submitter: Submitter,
        clock: Clock,
        instruments: Instruments,
    ) -> None:
        self._store = store
        self._probes = probes
        self._jobs = jobs
        self._submitter = submitter
        self._clock = clock
        self._instruments = instruments
        self._later: list[tuple[float, WaitId, str]] = []
        self._known: set[WaitId] = set()
        self._lanes: dict[str, OriginCancels] = {}
        self._wakeup = asyncio.Event()
        self._tasks: TaskGroup | None = None

    def on_finished(self, wait: StoredWait) -> None:
        """A wait has ended; if its job is to be cancelled, it will be."""
        due = None if wait.job_cancel is None else wait.job_cancel.next_attempt_at
        if due is None or wait.id in self._known:
            return
        self._known.add(wait.id)
        self._put(wait.id, self._origin(wait), due)

    def _put(self, wait_id: WaitId, origin: str, due: float) -> None:
        """`due`: Unix seconds."""
        heappush(self._later, (self._clock.monotonic() + due - self._clock.now(), wait_id, origin))
        self._wakeup.set()

    async def run(self) -> None:
        """Cancels until it is cancelled itself."""
        async with anyio.create_task_group() as tasks:
            self._tasks = tasks
            tasks.start_soon(self._load, name="load of jobs to cancel")
            while True:
                now = self._clock.monotonic()
                while self._later and self._later[0][0] <= now:
                    _, wait_id, origin = heappop(self._later)
                    self._queue(tasks, wait_id, origin)
                await self._clock.sleep_until(self._later[0][0] if self._later else inf, self._wakeup)

    async def _load(self) -> None:
        """What was left when the process ended before this one."""
        after: WaitId | None = None
        while True:
            try:
                page = await self._store.jobs_to_cancel(after, PAGE)
            except StoreUnavailable:
                await self._clock.sleep_until(self._clock.monotonic() + RETRY_PAUSE, asyncio.Event())
                continue
            if not page:
                return
            for wait in page:
                self.on_finished(wait)
            after = page[-1].id

    def _origin(self, wait: StoredWait) -> str:
        try:
            return self._jobs.origin(plan_of(wait, self._probes.get(wait.spec.kind)))
        except InvalidInput:
            return "not understood"

    def _queue(self, tasks: TaskGroup, wait_id: WaitId, origin: str) -> None:
        lane = self._lanes.setdefault(origin, OriginCancels())
        lane.waiting.append(wait_id)
        if lane.workers < PER_ORIGIN:
            lane.workers += 1
            tasks.start_soon(self._work, origin, lane, name="cancel of jobs")

    async def _work(self, origin: str, lane: OriginCancels) -> None:
        while lane.waiting:
            wait_id = lane.waiting.popleft()
            due: float | None
            try:
                due = await self._attempt(wait_id)
            except StoreUnavailable:
                due = self._clock.now() + RETRY_PAUSE
            except Exception:  # a defect; the row says that it is still to be done, and the next start tries
                log.exception("job_cancel_failed", wait_id=wait_id)
                due = None
            if due is None:
                self._known.discard(wait_id)
            else:
                self._put(wait_id, origin, due)
        lane.workers -= 1
        if not lane.workers and self._lanes.get(origin) is lane:
            del self._lanes[origin]

    # ------------------------------------------------------------ one job

    async def _attempt(self, wait_id: WaitId) -> float | None:
        """One try; when the next one is due (Unix seconds), None where it is over. Raises StoreUnavailable."""
        await self._submitter.landed(wait_id)
        try:
            wait = await self._store.get(wait_id)
        except NotFound:
            return None
        before, submission = wait.job_cancel, wait.submission
        if before is None or before.next_attempt_at is None or submission is None:
            return None
        after = await self._after(wait, before, submission)
        await self._store.save_job_cancel(wait_id, after)
        self._tell(wait, after)
        return after.next_attempt_at

    async def _after(self, wait: StoredWait, before: JobCancel, submission: Submission) -> JobCancel:
        try:
            plan = plan_of(wait, self._probes.get(wait.spec.kind))
        except InvalidInput as error:
            return JobCancel(
                CancelState.FAILED, before.attempts, f"This waitd does not understand it: {error}"
            )
        match submission.state:
            case SubmitState.SUBMITTED if submission.handle is not None:
                return await self._cancelled(wait, plan, submission.handle, before)
            case SubmitState.SUBMITTING if plan.rules.idempotent:
                return await self._asked_for(wait, plan, submission, before)
            case SubmitState.SUBMITTING | SubmitState.UNKNOWN:
                return JobCancel(CancelState.UNKNOWN, before.attempts, submission.last_error)
        return JobCancel(CancelState.UNNEEDED, before.attempts)

    async def _cancelled(
        self, wait: StoredWait, plan: SubmitPlan, handle: JobHandle, before: JobCancel
    ) -> JobCancel:
        answer = await self._jobs.cancel(plan, wait.id, handle)
        return after_cancel(before, answer, self._clock.now())

    async def _asked_for(
        self, wait: StoredWait, plan: SubmitPlan, submission: Submission, before: JobCancel
    ) -> JobCancel:
        """The submitting call once more, for the handle of what may be running."""
        answer = await self._jobs.submit(plan, wait.id)
        done = after_submit(submission, answer, plan.rules).submission
        await self._store.save_submission(wait.id, done)
        match answer:
            case SubmitAccepted(handle=handle, adopted=False):
                return await self._cancelled(wait, plan, handle, before)
            case SubmitAccepted():
                return JobCancel(CancelState.UNNEEDED, before.attempts)
            case SubmitUnavailable() | SubmitUncertain() | SubmitConflict():
                return retry_cancel(before, answer.message, self._clock.now())
        return JobCancel(CancelState.UNKNOWN, before.attempts, done.last_error)

    def _tell(self, wait: StoredWait, after: JobCancel) -> None:
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
