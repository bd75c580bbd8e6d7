"""The trigger that marks a parked task as deferred. It needs no Triggerer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from waitd.core.airflow.registration import TRIGGER_CLASS


class WaitdTrigger(BaseTrigger):
    """A trigger that never fires: waitd resumes the task through Airflow's API.

    The deferral's own timeout applies if waitd never does. If a Triggerer runs, the trigger just
    waits in it.

    Args:
        wait_id: the id of the task's wait.
    """

    def __init__(self, wait_id: str) -> None:
        super().__init__()
        self.wait_id = wait_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Serialize the trigger's class and arguments."""
        return TRIGGER_CLASS, {"wait_id": self.wait_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Wait until the trigger is cancelled."""
        await asyncio.Event().wait()
        yield TriggerEvent(None)  # unreachable; it makes this function an iterator
