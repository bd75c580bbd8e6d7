"""What the engine needs to submit, find and cancel a wait's job."""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Protocol

from waitd.core.waits.job_cancel import CancelAnswer, JobCancel
from waitd.core.waits.submission import JobHandle, Submission, SubmitAnswer, SubmitRules
from waitd.core.waits.wait import WaitId
from waitd.ports.store import StoredWait


class SubmitPlan(Protocol):
    """A validated `submit`: what to call, and where the job's handle goes."""

    @property
    def rules(self) -> SubmitRules: ...
    @property
    def request_timeout(self) -> float:
        """How many seconds the submit call may take."""

    @property
    def conn_ids(self) -> Collection[str]:
        """The connections that its calls use."""

    def params_with(self, params: Mapping[str, Any], handle: JobHandle, wait_id: WaitId) -> Mapping[str, Any]:
        """The wait's parameters with the handle.

        Raises ValueError: the handle cannot be used in them.
        """


class Jobs(Protocol):
    """Makes the calls of a plan.

    Every error is an answer, never an exception; each call has a timeout.
    """

    def origin(self, plan: Any) -> str:
        """The origin of the submit call when known, else its connection."""

    async def submit(self, plan: Any, wait_id: WaitId) -> SubmitAnswer:
        """Submits once. After a conflict it looks for the running job, if the plan says so."""

    async def cancel(self, plan: Any, wait_id: WaitId, handle: JobHandle) -> CancelAnswer:
        """Requests the cancelling of the job."""


class JobStore(Protocol):
    """What submitting and cancelling jobs needs of the store."""

    async def save_submission(
        self, wait_id: WaitId, submission: Submission, *, only_waiting: bool = False
    ) -> bool:
        """Saves the state of a wait's job; with `only_waiting` not once the wait has ended.

        Returns whether it was saved. Raises StoreUnavailable.
        """

    async def save_job_cancel(self, wait_id: WaitId, job_cancel: JobCancel) -> None:
        """Saves the state of cancelling an ended wait's job. Raises StoreUnavailable."""

    async def jobs_to_cancel(self, after: WaitId | None, limit: int) -> Sequence[StoredWait]:
        """A page of ended waits whose jobs have yet to be cancelled, in the order of their ids."""

    async def get(self, wait_id: str, namespace: str | None = None) -> StoredWait:
        """One wait. Raises NotFound."""
