"""What waitd needs of those who submit, find and cancel jobs on a wait's behalf."""

from collections.abc import Collection, Mapping
from typing import Any, Protocol

from waitd.core.waits.submission import CancelAnswer, JobHandle, SubmitAnswer, SubmitRules
from waitd.core.waits.wait import WaitId


class SubmitPlan(Protocol):
    """A wait's `submit`, checked: what to call, and how its handle gets into the wait's parameters."""

    @property
    def rules(self) -> SubmitRules: ...
    @property
    def request_timeout(self) -> float:
        """Seconds that the submitting call may take."""

    @property
    def conn_ids(self) -> Collection[str]:
        """Every connection that its calls use."""

    def params_with(self, params: Mapping[str, Any], handle: JobHandle, wait_id: WaitId) -> Mapping[str, Any]:
        """The wait's parameters, complete with the handle. Raises ValueError where the handle does not fit into them."""


class Jobs(Protocol):
    """Makes the calls of a plan. Every trouble is an answer, never an exception; the calls bound themselves in time."""

    def origin(self, plan: Any) -> str:
        """Where the submitting call goes: its origin where that is known, else its connection."""

    async def submit(self, plan: Any, wait_id: WaitId) -> SubmitAnswer:
        """Makes the submitting call once; where that meets a conflict and the plan says so, looks for the job that runs."""

    async def cancel(self, plan: Any, wait_id: WaitId, handle: JobHandle) -> CancelAnswer:
        """Asks for the job to be cancelled."""
