"""The airflow sink: a wait's end goes back into Airflow by one of five modes.

What the modes ask of Airflow stands in `airflow_tasks` and `airflow_runs`, what the answers mean in `waitd.core.airflow.callback`. Here is
what outlives an attempt: the login, one sender for each task, and since when a task has been seen parked. The last two are held in memory:
after a restart a task is only held off longer.
"""

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from typing import Any, Self, assert_never

import orjson

from waitd.core.airflow.callback import EventOutcome, TaskTry, mode_delivers, parse_outcome
from waitd.core.errors import WaitdError
from waitd.core.waits.delivery import (
    Delivered,
    DeliveryFailed,
    DeliveryPostponed,
    DeliveryRejected,
    Receipt,
)
from waitd.outgoing import Outgoing
from waitd.ports import HttpConnections, OutboxItem
from waitd.sinks.airflow.api import AirflowApi, AirflowApis, AirflowRequestFailed
from waitd.sinks.airflow.params import (
    AirflowParams,
    AirflowTarget,
    AssetRef,
    DagRunRequest,
    parse_airflow_target,
)
from waitd.sinks.airflow.runs import create_asset_event, trigger_dag_run
from waitd.sinks.airflow.tasks import TaskDelivery

#: Seconds after which it is tried again when another delivery to the same task is on its way.
_TURN_PAUSE = 1.0
#: How many tasks are remembered to be parked; the one that was seen first gives way.
_REMEMBERED = 100_000


class ParkedSince:
    """When tasks were first seen parked. `hold_off` is in seconds, `now` a monotonic clock."""

    def __init__(self, hold_off: float, now: Callable[[], float]) -> None:
        self._hold_off = hold_off
        self._now = now
        self._seen: OrderedDict[tuple[str, TaskTry], float] = OrderedDict()

    def left(self, conn_id: str, place: TaskTry) -> float:
        """Seconds until the task may be resumed, counted from the first time that this was asked."""
        first = self._seen.setdefault((conn_id, place), self._now())
        if len(self._seen) > _REMEMBERED:
            self._seen.popitem(last=False)
        return first + self._hold_off - self._now()

    def forget(self, conn_id: str, place: TaskTry) -> None:
        """The task needs no holding off any more."""
        self._seen.pop((conn_id, place), None)


class AirflowSink:
    """Tells Airflow how waits ended. An asynchronous context, in which it holds an HTTP session.

    The connection is of conn_type `airflow`: its URL is that of the API server (`[api] base_url`, path included), login and password get a
    token; a password alone is one.
    """

    #: What the API's document shows of its parameters.
    params_model = AirflowParams

    def __init__(
        self,
        connections: HttpConnections,
        *,
        hold_off: float,
        outgoing: Outgoing | None = None,
        now: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`hold_off`: seconds between seeing a task parked and resuming it; `outgoing` holds the egress rules, default: those that
        always hold; `now` gives Unix seconds.
        """
        self._apis = AirflowApis(connections, outgoing or Outgoing(), now)
        self._parked = ParkedSince(hold_off, monotonic)
        self._now = now
        self._sending: set[Hashable] = set()

    async def __aenter__(self) -> Self:
        """Opens the session."""
        await self._apis.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        """Closes it."""
        await self._apis.__aexit__(*error)

    def parse(self, params: Mapping[str, Any]) -> AirflowTarget:
        """The target that these parameters (without `kind`) name.

        Raises:
            InvalidInput: with pointers relative to `params`.
        """
        return parse_airflow_target(params)

    def signed(self, target: AirflowTarget) -> bool | None:  # noqa: ARG002 - the port's shape
        """None: Airflow knows no signatures."""
        return None

    async def deliver(self, target: AirflowTarget, parcel: OutboxItem) -> Receipt:
        """One attempt. The caller bounds it in time; every trouble is a receipt, never an exception."""
        place = target.place
        whom = place._replace(ti_id="", try_number=0) if isinstance(place, TaskTry) else parcel.wait_id
        turn = (target.conn_id, whom)
        if turn in self._sending:  # of ten answers at once, Airflow takes four
            return DeliveryPostponed("another delivery to the same task is on its way", _TURN_PAUSE)
        self._sending.add(turn)
        try:
            receipt = await self._deliver(target, parcel)
        finally:
            self._sending.discard(turn)
        if isinstance(receipt, Delivered | DeliveryRejected) and isinstance(place, TaskTry):
            self._parked.forget(target.conn_id, place)
        return receipt

    async def _deliver(self, target: AirflowTarget, parcel: OutboxItem) -> Receipt:
        ending = parse_outcome(orjson.loads(parcel.event))
        if not mode_delivers(target.mode, ending.state):
            return DeliveryRejected(f"mode {target.mode} tells nobody of a wait that ended as {ending.state}")
        try:
            return await self._told(await self._apis.connect(target.conn_id), target, parcel, ending)
        except AirflowRequestFailed as stopped:
            return stopped.receipt
        except (WaitdError, ValueError) as error:  # mended by the operator, at best before the ladder ends
            return DeliveryFailed(str(error))

    async def _told(
        self, api: AirflowApi, target: AirflowTarget, parcel: OutboxItem, ending: EventOutcome
    ) -> Receipt:
        match target.place:
            case DagRunRequest() as place:
                return await trigger_dag_run(api, place, ending)
            case AssetRef() as place:
                return await create_asset_event(api, place, ending, parcel.created_at)
            case TaskTry() as place:
                age = self._now() - parcel.created_at
                attempt = TaskDelivery(
                    api, target, place, ending, hold_off=self._parked, age=age, now=self._now()
                )
                return await attempt.deliver()
            case _:  # pragma: no cover - mypy proves it
                assert_never(target.place)
