"""What the engine needs to submit, find and cancel a wait's job."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from waitd.core.waits.submission import CancelAnswer, JobHandle, SubmitAnswer, SubmitRules
from waitd.core.waits.wait import WaitId


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
