"""The modes that wake or end a parked task: `resume` and `set_state`. `clear` is another module.

Airflow's endpoints do not check the task instance's id, and they answer 200 to requests without
effect. So each attempt looks at the task first, and every request carries the event's id. An
attempt searches for that id whenever the task is no longer as it was registered, or Airflow
answers 409.
"""

import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from waitd.core.airflow.callback import (
    EVENT_ID_KEY,
    HOLD_OFF_MARGIN,
    RESPONSE_OPTION,
    EventOutcome,
    TaskTry,
    TryStatus,
    is_from_event,
    not_parked_pause,
    parked_seconds,
    response_was_too_late,
    try_status,
)
from waitd.core.bounded_dict import BoundedDict
from waitd.core.http.headers import parse_date
from waitd.core.waits.delivery import (
    Delivered,
    DeliveryFailed,
    DeliveryPostponed,
    DeliveryRejected,
    Receipt,
)
from waitd.outgoing import JsonResponse
from waitd.sinks.airflow.api import INVALID_REQUEST, AirflowApi, task_path
from waitd.sinks.airflow.params import AirflowTarget

#: The receipt where the task went on without this event.
SUPERSEDED = DeliveryRejected("superseded: the task was woken, cleared or retried without this event")
#: The most tasks whose hold-off is remembered; the oldest is dropped first.
_MAX_HELD_OFF = 100_000


class ResumeHoldOff:
    """Delays the resumption of tasks until Airflow has recorded that they parked."""

    def __init__(self, seconds: float | None, now: Callable[[], float]) -> None:
        """Configure the hold-off.

        Args:
            seconds: how long after parking a task may be resumed; None: the task's
                `min_heartbeat_interval` and HOLD_OFF_MARGIN.
            now: a monotonic clock in seconds.
        """
        self._seconds = seconds
        self._now = now
        self._ends: BoundedDict[tuple[str, TaskTry], float] = BoundedDict(_MAX_HELD_OFF)

    def remaining(self, conn_id: str, task: TaskTry) -> float | None:
        """Seconds until the task may be resumed; None if that was not determined yet."""
        end = self._ends.get((conn_id, task))
        return None if end is None else end - self._now()

    def start(self, target: AirflowTarget, task: TaskTry, parked_for: float | None) -> float:
        """Determines when a task may be resumed, and returns the seconds until then.

        `parked_for` is the time since it parked, in seconds. None: it may have parked just now.
        """
        seconds = self._seconds
        if seconds is None:
            seconds = target.min_heartbeat_interval + HOLD_OFF_MARGIN
        remaining = seconds - max(0.0, parked_for or 0.0)  # Airflow's clocks may disagree
        self._ends[target.conn_id, task] = self._now() + remaining
        return remaining

    def forget(self, conn_id: str, task: TaskTry) -> None:
        """Drops a task whose delivery is over."""
        self._ends.pop((conn_id, task), None)


class TaskDelivery(ABC):
    """One attempt to deliver an outcome to a parked task; each mode is a subclass.

    Attributes:
        by_response: whether the task waits for a human-in-the-loop response.
    """

    by_response = False

    def __init__(
        self,
        api: AirflowApi,
        target: AirflowTarget,
        task: TaskTry,
        outcome: EventOutcome,
        *,
        hold_off: ResumeHoldOff,
        created_at: float,
        now: float,
    ) -> None:
        """`created_at` is when the delivery was created; it and `now` are in Unix seconds."""
        self._api = api
        self._target = target
        self._task = task
        self._outcome = outcome
        self._hold_off = hold_off
        self._created_at = created_at
        self._now = now
        self._task_path = task_path(task)
        self._instance_path = (*self._task_path, str(task.map_index))
        self._map_index = {"map_index": str(task.map_index)}

    async def deliver(self) -> Receipt:
        """Makes the attempt. Raises AirflowRequestFailed."""
        instance = await self._get_instance()
        if instance is None:
            return self._not_parked("Airflow has no such task instance")
        match try_status(instance, self._task, by_response=self.by_response):
            case TryStatus.PARKED:
                return await self._send()
            case TryStatus.ACTIVE if not await self._has_event():
                state = str(instance.get("state") or "not scheduled")[:32]
                return self._not_parked(f"the task is not parked yet but {state}")
            case TryStatus.OVER if not await self._has_event():
                return self._over(instance)
        return Delivered()

    @abstractmethod
    async def _send(self) -> Receipt:
        """Wakes or ends the task, which is parked."""

    async def _get_instance(self) -> Mapping[str, Any] | None:
        response = await self._api.request("GET", *self._instance_path)
        return response.fields if response.status == 200 else None

    async def _has_event(self) -> bool:
        """Whether Airflow already has this event.

        An earlier attempt may have succeeded unnoticed, or the task itself may have seen the
        outcome.
        """
        return is_stored(await self._pull_xcom(EVENT_ID_KEY), self._outcome.event_id)

    async def _pull_xcom(self, key: str) -> Any:
        response = await self._api.request("GET", *self._task_path, "xcomEntries", key, query=self._map_index)
        return response.fields.get("value")

    async def _push_xcom(self, key: str, value: Any) -> JsonResponse:
        body = {"key": key, "value": value, "map_index": self._task.map_index}
        return await self._api.request("POST", *self._task_path, "xcomEntries", body=body)

    def _over(self, instance: Mapping[str, Any]) -> Receipt:
        """The receipt where the try is over without this event.

        A task that was marked by hand has no use for it; that is no error.
        """
        if instance.get("id") != self._task.ti_id:
            return SUPERSEDED
        return Delivered(f"not needed: the task in Airflow is already {instance.get('state')}")

    def _not_parked(self, why: str) -> Receipt:
        pause = not_parked_pause(self._now - self._created_at)
        return DeliveryFailed(why) if pause is None else DeliveryPostponed(why, pause)


def unexpected(response: JsonResponse) -> Receipt:
    """The receipt for a response that the mode does not handle."""
    if response.status == 422:
        return INVALID_REQUEST
    return DeliveryFailed(f"Airflow answered {response.status}")


def is_stored(value: object, pushed: object) -> bool:
    """Whether an XCom has the value that was pushed. Below 3.2, Airflow stores JSON text of it."""
    return value == pushed or (isinstance(value, str) and decode_xcom(value) == pushed)


def decode_xcom(value: object) -> object:
    """The value of an XCom that is JSON text. Other text, or what is nested too deeply, stays."""
    try:
        return json.loads(value) if isinstance(value, str) else value
    except (ValueError, RecursionError):
        return value


class ResumeDelivery(TaskDelivery):
    """The mode `resume`: answers the parked task's human-in-the-loop request."""

    by_response = True

    async def _send(self) -> Receipt:
        if (held_off := await self._held_off()) is not None:
            return held_off
        body = {"chosen_options": [RESPONSE_OPTION], "params_input": self._outcome.for_try(self._task)}
        response = await self._api.request("PATCH", *self._instance_path, "hitlDetails", body=body)
        match response.status:
            case 200:
                return await self._after_response(response.fields.get("responded_at"))
            case 409:
                return Delivered() if await self._has_event() else SUPERSEDED
            case 404:
                return self._not_parked("the task does not wait for a response yet")
            case 400:
                return DeliveryRejected(
                    f"Airflow answered 400: the task has no option {RESPONSE_OPTION}, so it is not parked for waitd"
                )
        return unexpected(response)

    async def _after_response(self, responded_at: object) -> Receipt:
        instance = await self._get_instance()
        if instance is None or response_was_too_late(instance, self._task, responded_at):
            return self._over(instance or {})
        return Delivered()

    async def _held_off(self) -> Receipt | None:
        """The receipt of an attempt that is too early; None: it is not."""
        remaining = self._hold_off.remaining(self._target.conn_id, self._task)
        if remaining is None:
            detail = await self._api.request("GET", *self._instance_path, "hitlDetails")
            if detail.status != 200:
                return self._not_parked("the task does not wait for a response yet")
            now = parse_date(detail.headers.get("Date", ""))
            parked_for = None if now is None else parked_seconds(detail.fields, now)
            remaining = self._hold_off.start(self._target, self._task, parked_for)
        if remaining <= 0:
            return None
        return DeliveryPostponed(
            "held off: Airflow may not have recorded yet that the task left its slot", remaining
        )

    async def _has_event(self) -> bool:
        tries = (*self._instance_path, "hitlDetails", "tries", str(self._task.try_number))
        response = await self._api.request("GET", *tries)
        if is_from_event(response.fields.get("params_input"), self._outcome.event_id):
            return True
        return await super()._has_event()


class SetStateDelivery(TaskDelivery):
    """The mode `set_state`: stores the payload as an XCom and sets the task's state."""

    async def _send(self) -> Receipt:
        event_id = await self._push_xcom(EVENT_ID_KEY, self._outcome.event_id)
        if event_id.status == 409 and not await self._has_event():
            return SUPERSEDED
        if event_id.status not in {201, 409}:
            return unexpected(event_id)
        if self._outcome.state == "success" and self._outcome.payload is not None:
            payload = await self._push_xcom(self._target.key, self._outcome.payload)
            if payload.status == 409 and not is_stored(
                await self._pull_xcom(self._target.key), self._outcome.payload
            ):
                return DeliveryRejected(
                    f"Airflow answered 409: the task already has another XCom {self._target.key}"
                )
            if payload.status not in {201, 409}:
                return unexpected(payload)
        body = {"new_state": self._outcome.new_state}
        response = await self._api.request("PATCH", *self._instance_path, body=body)
        # 409: the task already has that state, and the event id XCom says that this event set it
        return Delivered() if response.status in {200, 409} else unexpected(response)
