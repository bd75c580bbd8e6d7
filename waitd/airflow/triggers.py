"""The placeholder under which a task is parked as deferred. Nothing needs to run it; where a Triggerer does, it waits for nothing."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from airflow.triggers.base import BaseTrigger, TriggerEvent

from waitd.core.airflow.registration import TRIGGER_CLASS


class WaitdTrigger(BaseTrigger):
    """Fires never: waitd ends the task from outside, and the deferral's own timeout bounds it."""

    def __init__(self, wait_id: str) -> None:
        super().__init__()
        self.wait_id = wait_id

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Its class and arguments, as Airflow stores them."""
        return TRIGGER_CLASS, {"wait_id": self.wait_id}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Waits until it is cancelled."""
        await asyncio.Event().wait()
        yield TriggerEvent(None)  # never: it makes this an iterator
