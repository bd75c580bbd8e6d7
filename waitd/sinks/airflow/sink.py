"""The airflow sink: delivers a wait's outcome to Airflow in one of five modes.

`tasks`, `clear` and `runs` make the requests of the modes; `waitd.core.airflow.callback` decides
what the responses mean. This module keeps what outlives an attempt: the HTTP session, which tasks
have a delivery in progress, and when tasks that parked a short while ago may be resumed.
"""

import time
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Self, assert_never

from waitd import exact_json
from waitd.core.airflow.callback import EventOutcome, TaskTry, mode_delivers
from waitd.core.errors import WaitdError
from waitd.core.waits.delivery import (
    Delivered,
    DeliveryFailed,
    DeliveryPostponed,
    DeliveryRejected,
    Receipt,
)
from waitd.outgoing import EgressGuard
from waitd.ports import HttpConnections, OutboxItem
from waitd.sinks.airflow.api import AirflowApi, AirflowApis, AirflowRequestFailed
from waitd.sinks.airflow.clear import ClearDelivery
from waitd.sinks.airflow.params import (
    AirflowParams,
    AirflowTarget,
    AssetRef,
    DagRunRequest,
    parse_airflow_target,
)
from waitd.sinks.airflow.runs import create_asset_event, trigger_dag_run
from waitd.sinks.airflow.tasks import ResumeDelivery, ResumeHoldOff, SetStateDelivery, TaskDelivery
from waitd.sinks.own_trouble import receipt_unless_own

#: Seconds until the next attempt while another delivery to the same task is in progress.
_BUSY_PAUSE = 1.0
_TASK_MODES: Mapping[str, type[TaskDelivery]] = {
    "resume": ResumeDelivery,
    "set_state": SetStateDelivery,
    "clear": ClearDelivery,
}


class AirflowSink:
    """Delivers outcomes to Airflow.

    Used as an asynchronous context manager, which holds an HTTP session. The connection is of
    conn_type `airflow`: its URL is the API server's (`[api] base_url`, path included); login and
    password are exchanged for a token; a password alone is a token.
    """

    #: The parameters, as shown in the API document.
    params_model = AirflowParams

    def __init__(
        self,
        connections: HttpConnections,
        *,
        hold_off: float | None = None,
        egress: EgressGuard | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Configure the sink.

        Args:
            connections: looks up conn_ids.
            hold_off: seconds between parking and resuming a task. Default: the task's
                `min_heartbeat_interval` and HOLD_OFF_MARGIN.
            egress: enforces the egress rules; default: those that always hold.
            now: gives Unix seconds.
            monotonic: a monotonic clock in seconds.
        """
        self._apis = AirflowApis(connections, egress or EgressGuard(), now)
        self._hold_off = ResumeHoldOff(hold_off, monotonic)
        self._now = now
        self._in_progress: set[Hashable] = set()

    async def __aenter__(self) -> Self:
        """Opens the session."""
        await self._apis.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Closes the session."""
        await self._apis.__aexit__(*error)

    def parse(self, params: Mapping[str, Any]) -> AirflowTarget:
        """The destination that these parameters (without `kind`) name.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        return parse_airflow_target(params)

    def signed(self, target: AirflowTarget) -> bool | None:  # noqa: ARG002 - part of the interface
        """None: requests to Airflow are not signed."""
        return None

    async def deliver(self, target: AirflowTarget, item: OutboxItem) -> Receipt:
        """One attempt; the caller limits its time. Failures are receipts, never exceptions."""
        task = target.recipient if isinstance(target.recipient, TaskTry) else None
        recipient = item.wait_id if task is None else task._replace(ti_id="", try_number=0)
        key = (target.conn_id, recipient)
        if key in self._in_progress:  # of ten simultaneous responses, Airflow accepts four
            return DeliveryPostponed("another delivery to the same task is in progress", _BUSY_PAUSE)
        self._in_progress.add(key)
        try:
            receipt = await self._deliver(target, item)
        finally:
            self._in_progress.discard(key)
        if task is not None and isinstance(receipt, Delivered | DeliveryRejected):
            self._hold_off.forget(target.conn_id, task)
        return receipt

    async def _deliver(self, target: AirflowTarget, item: OutboxItem) -> Receipt:
        outcome = EventOutcome.from_event(exact_json.loads(item.event))
        if not mode_delivers(target.mode, outcome.state):
            return DeliveryRejected(f"mode {target.mode} does not deliver the outcome {outcome.state}")
        try:
            return await self._send(await self._apis.connect(target.conn_id), target, item, outcome)
        except AirflowRequestFailed as failed:
            return failed.receipt
        except (WaitdError, ValueError) as error:  # the operator may fix it before the last retry
            return receipt_unless_own(error, DeliveryFailed(str(error)))

    async def _send(
        self, api: AirflowApi, target: AirflowTarget, item: OutboxItem, outcome: EventOutcome
    ) -> Receipt:
        match target.recipient:
            case DagRunRequest() as run:
                return await trigger_dag_run(api, run, outcome)
            case AssetRef() as asset:
                return await create_asset_event(api, asset, outcome, item.created_at)
            case TaskTry() as task:
                delivery = _TASK_MODES[target.mode](
                    api,
                    target,
                    task,
                    outcome,
                    hold_off=self._hold_off,
                    created_at=item.created_at,
                    now=self._now(),
                )
                return await delivery.deliver()
            case _:  # pragma: no cover - mypy proves it
                assert_never(target.recipient)
