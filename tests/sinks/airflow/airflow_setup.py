"""An open airflow sink, the fake of Airflow that it talks to, and the values of its tests."""

import asyncio
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from authorized import FakeResolver
from fake_airflow import TI_ID, FakeAirflow
from manual_clock import ManualClock

from waitd.core.waits.delivery import (
    DeliveryId,
    DeliveryRejected,
    Receipt,
)
from waitd.core.waits.event import build_event
from waitd.core.waits.wait import Outcome, WaitId, WaitSpec, WaitState
from waitd.ports import OutboxItem
from waitd.sinks.airflow.sink import AirflowSink

EVENT_ID = "01a1fee4-b07c-754a-a144-8ad0f984a38c"
OTHER_ID = "01a1fee4-0000-754a-a144-8ad0f984a38c"
TASK_PARAMS: Mapping[str, Any] = {
    "dag_id": "etl", "run_id": "r1", "task_id": "wait", "map_index": -1, "ti_id": TI_ID, "try_number": 1,
}  # fmt: skip
OUTCOME = {
    "event_id": EVENT_ID, "state": "success", "payload": {"rows": 3}, "message": "HTTP 200 OK", "reason": "success", "soft_fail": False,
}  # fmt: skip
TASK_OUTCOME = {**OUTCOME, "pokes": 1, "seconds": 1.0, "ti_id": TI_ID, "try_number": 1}
#: The parameters of a delivery by mode.
MODE_PARAMS: Mapping[str, Mapping[str, Any]] = {
    "resume": TASK_PARAMS, "set_state": TASK_PARAMS, "clear": TASK_PARAMS, "dag_run": {"dag_id": "etl"}, "asset_event": {"asset_id": 1},
}  # fmt: skip
#: How long after a task parked `resume` resumes it by default, in seconds.
HOLD_OFF = 10.0


class _AnyText(str):
    """Equals every text that is not empty."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str) and other != ""


ANY_TEXT = _AnyText()


@dataclass
class AirflowSetup:
    """A fake Airflow, an open sink, their clock, and the resolver of the sink's connection."""

    airflow: FakeAirflow
    sink: AirflowSink
    clock: ManualClock
    resolver: FakeResolver

    async def deliver(
        self, mode: str = "resume", *, state: str = "success", soft_fail: bool = False, age: float = 0.0, wait_id: str = EVENT_ID,
        payload: Any = OUTCOME["payload"], **params: Any,
    ) -> Receipt:  # fmt: skip
        defaults = {} if "asset_uri" in params else MODE_PARAMS[mode]
        target = self.sink.parse({"conn_id": "airflow", "mode": mode, **defaults, **params})
        spec = WaitSpec("http", {}, 60.0, 600.0, soft_fail=soft_fail)
        outcome = Outcome(WaitState(state), payload, "HTTP 200 OK", state)
        event = build_event(
            WaitId(wait_id), "default", spec, outcome, pokes=1, created_at=0.0, finished_at=1.0
        )
        item = OutboxItem(
            DeliveryId("d1"),
            WaitId(wait_id),
            "default",
            {"kind": "airflow"},
            json.dumps(event).encode(),
            0,
            self.clock() - age,
        )
        async with asyncio.timeout(60):
            return await self.sink.deliver(target, item)

    async def deliver_after_hold_off(self, **params: Any) -> Receipt:
        """Delivers to a task that parked as long ago as the hold-off lasts."""
        self.clock.at += HOLD_OFF
        return await self.deliver(**params)


def rejection(receipt: Receipt) -> str:
    """The error of a delivery that must have been rejected."""
    assert isinstance(receipt, DeliveryRejected)
    return receipt.error
