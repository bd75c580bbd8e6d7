"""The modes that wake or end a parked task: `resume`, `set_state`, `clear`.

Airflow's endpoints do not check the task instance's id, and they answer 200 to requests without
effect. So each attempt looks at the task first, and every request carries the event's id. An
attempt searches for that id whenever the task is no longer as it was registered, or Airflow
answers 409.

A `clear` runs the task again, and a second one would stop or repeat that run. So it is sent twice
for one delivery only if the first one provably had no effect:

- Airflow refused it; or
- the task is still parked under the same id (a clear changes the id), the minute in which the
  request may still be in flight has passed, and Airflow's audit log, which is written before the
  clear takes effect, has no entry with the id that is in the request's URL.

Where that cannot be proved, because the log has such an entry or cannot be read, the delivery is
dead, and its error says what to do: clear the task by hand, which then finds its outcome in the
state store, or redeliver, which sends the clear again.
"""

from collections.abc import Callable, Mapping
from typing import Any

from waitd.core.airflow.callback import (
    CLEAR_PARAMETER,
    CLEAR_SECONDS,
    EVENT_ID_KEY,
    RESPONSE_OPTION,
    EventOutcome,
    PriorClear,
    TaskTry,
    TryStatus,
    clear_id,
    clear_sent_at,
    is_from_event,
    not_parked_pause,
    prior_clear,
    response_was_too_late,
    try_status,
)
from waitd.core.bounded_dict import BoundedDict
from waitd.core.waits.delivery import (
    Delivered,
    DeliveryFailed,
    DeliveryPostponed,
    DeliveryRejected,
    Receipt,
)
from waitd.core.waits.event import rfc3339
from waitd.outgoing import JsonResponse
from waitd.sinks.airflow.api import (
    INVALID_REQUEST,
    MAX_CLOCK_SKEW,
    MAX_LISTED,
    AirflowApi,
    AirflowRequestFailed,
    task_path,
)
from waitd.sinks.airflow.params import AirflowTarget

#: The receipt where the task went on without this event.
SUPERSEDED = DeliveryRejected(
    "superseded: the task has ended, or was woken, cleared or retried, without this event"
)
#: Seconds until the next check whether a clear has arrived.
_CLEAR_PAUSE = 5.0
#: The event of a clear in Airflow's audit log.
_CLEAR_EVENT = "post_clear_task_instances"
#: The most tasks whose hold-off is remembered; the oldest is dropped first.
_MAX_HELD_OFF = 100_000


class ResumeHoldOff:
    """Delays the resumption of tasks by a fixed time from when they were first seen parked."""

    def __init__(self, seconds: float, now: Callable[[], float]) -> None:
        """`now` is a monotonic clock in seconds."""
        self._seconds = seconds
        self._now = now
        self._first_seen: BoundedDict[tuple[str, TaskTry], float] = BoundedDict(_MAX_HELD_OFF)

    def remaining(self, conn_id: str, task: TaskTry) -> float:
        """Seconds until the task may be resumed; the first call starts the hold-off."""
        first_seen = self._first_seen.setdefault((conn_id, task), self._now())
        return first_seen + self._seconds - self._now()

    def forget(self, conn_id: str, task: TaskTry) -> None:
        """Drops a task whose delivery is over."""
        self._first_seen.pop((conn_id, task), None)


class TaskDelivery:
    """One attempt to deliver an outcome to a parked task."""

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
        self._store_path = (*self._task_path, "state-store", target.key)
        self._map_index = {"map_index": str(task.map_index)}

    async def deliver(self) -> Receipt:
        """Makes the attempt. Raises AirflowRequestFailed."""
        instance = await self._get_instance()
        if instance is None:
            return self._not_parked("Airflow has no such task instance")
        match try_status(instance, self._task, by_response=self._target.mode == "resume"):
            case TryStatus.PARKED:
                return await self._send()
            case TryStatus.ACTIVE if not await self._has_event():
                state = str(instance.get("state") or "not scheduled")[:32]
                return self._not_parked(f"the task is not parked yet but {state}")
            case TryStatus.OVER if not await self._has_event():
                return SUPERSEDED
        return Delivered()

    async def _send(self) -> Receipt:
        match self._target.mode:
            case "set_state":
                return await self._set_state()
            case "clear":
                return await self._clear()
            case _:
                return await self._resume()

    # ---------------------------------------------------------------- resume

    async def _resume(self) -> Receipt:
        remaining = self._hold_off.remaining(self._target.conn_id, self._task)
        if remaining > 0:
            return DeliveryPostponed(
                "held off: Airflow may not have recorded yet that the task left its slot", remaining
            )
        body = {"chosen_options": [RESPONSE_OPTION], "params_input": self._outcome.for_try(self._task)}
        response = await self._api.request("PATCH", *self._instance_path, "hitlDetails", body=body)
        match response.status:
            case 200:
                instance = await self._get_instance()
                responded_at = response.fields.get("responded_at")
                too_late = instance is None or response_was_too_late(instance, self._task, responded_at)
                return SUPERSEDED if too_late else Delivered()
            case 409:
                return Delivered() if await self._has_event() else SUPERSEDED
            case 404:
                return self._not_parked("the task does not wait for a response yet")
            case 400:
                return DeliveryRejected(
                    f"Airflow answered 400: the task has no option {RESPONSE_OPTION}, so it is not parked for waitd"
                )
        return _unexpected(response)

    # ---------------------------------------------------------------- set_state

    async def _set_state(self) -> Receipt:
        event_id = await self._push_xcom(EVENT_ID_KEY, self._outcome.event_id)
        if event_id.status == 409 and not await self._has_event_id_xcom():
            return SUPERSEDED
        if event_id.status not in {201, 409}:
            return _unexpected(event_id)
        if self._outcome.state == "success" and self._outcome.payload is not None:
            payload = await self._push_xcom(self._target.key, self._outcome.payload)
            if payload.status == 409 and await self._pull_xcom(self._target.key) != self._outcome.payload:
                return DeliveryRejected(
                    f"Airflow answered 409: the task already has another XCom {self._target.key}"
                )
            if payload.status not in {201, 409}:
                return _unexpected(payload)
        body = {"new_state": self._outcome.new_state}
        response = await self._api.request("PATCH", *self._instance_path, body=body)
        # 409: the task already has that state, and the event id XCom says that this event set it
        return Delivered() if response.status in {200, 409} else _unexpected(response)

    async def _push_xcom(self, key: str, value: Any) -> JsonResponse:
        body = {"key": key, "value": value, "map_index": self._task.map_index}
        return await self._api.request("POST", *self._task_path, "xcomEntries", body=body)

    async def _pull_xcom(self, key: str) -> Any:
        response = await self._api.request("GET", *self._task_path, "xcomEntries", key, query=self._map_index)
        return response.fields.get("value")

    async def _has_event_id_xcom(self) -> bool:
        return bool(await self._pull_xcom(EVENT_ID_KEY) == self._outcome.event_id)

    # ---------------------------------------------------------------- clear

    async def _clear(self) -> Receipt:
        stored = await self._get_stored_outcome()
        match prior_clear(stored, self._outcome.event_id, now=self._now, created_at=self._created_at):
            case PriorClear.RECENT:
                return DeliveryPostponed(
                    f"a clear was sent without a response and may be in flight for {CLEAR_SECONDS:g} s",
                    _CLEAR_PAUSE,
                )
            case PriorClear.EARLIER if uncertainty := await self._why_clear_is_uncertain(
                clear_sent_at(stored)
            ):
                return DeliveryRejected(
                    f"a clear was sent, and {uncertainty}; a second one could stop the running task. Clear the task in "
                    "Airflow: its outcome is in the state store. Or redeliver if the task is still parked"
                )
        value = {"value": self._outcome.for_state_store(self._task, self._now)}
        put = await self._api.request("PUT", *self._store_path, query=self._map_index, body=value)
        if put.status != 204:
            return _unexpected(put)
        response = await self._send_clear()
        if response.status == 200:
            return Delivered()
        # Airflow refused the clear. Without this deletion, the next attempt would find it in the
        # audit log.
        await self._api.request("DELETE", *self._store_path, query=self._map_index)
        return _unexpected(response)

    async def _send_clear(self) -> JsonResponse:
        body = {
            "dry_run": False,
            "dag_run_id": self._task.run_id,
            "task_ids": [[self._task.task_id, self._task.map_index]],
            "only_failed": False,
            "reset_dag_runs": False,
            "prevent_running_task": True,
        }
        clear = {CLEAR_PARAMETER: clear_id(self._outcome.event_id, self._now)}
        path = ("dags", self._task.dag_id, "clearTaskInstances")
        return await self._api.request("POST", *path, query=clear, body=body)

    async def _why_clear_is_uncertain(self, sent_at: float) -> str | None:
        """Why the clear sent at this time may have an effect; None: Airflow never received it.

        Raises AirflowRequestFailed.
        """
        query = {"dag_id": self._task.dag_id, "run_id": self._task.run_id, "event": _CLEAR_EVENT}
        query |= {"order_by": "-event_log_id", "after": rfc3339(sent_at - MAX_CLOCK_SKEW)}
        request_id = clear_id(self._outcome.event_id, sent_at)
        count = 0
        try:
            async for entry in self._api.list("event_logs", "eventLogs", query=query):
                if request_id in str(entry.get("extra")):
                    return "Airflow's audit log has it"
                count += 1
        except AirflowRequestFailed as failed:
            if isinstance(failed.receipt, DeliveryRejected):
                return f"Airflow's audit log cannot be read ({failed})"
            raise
        return "Airflow's audit log is too long to look for it" if count >= MAX_LISTED else None

    async def _get_stored_outcome(self) -> Any:
        """The value in the state store, or None if there certainly is none.

        Any doubt raises AirflowRequestFailed, because a clear may follow.
        """
        response = await self._api.request("GET", *self._store_path, query=self._map_index)
        if response.status != 200 and not (response.status == 404 and "detail" in response.fields):
            raise AirflowRequestFailed(
                DeliveryFailed(f"Airflow answered {response.status} to the request for the state store")
            )
        return response.fields.get("value")

    # ---------------------------------------------------------------- all modes

    async def _get_instance(self) -> Mapping[str, Any] | None:
        response = await self._api.request("GET", *self._instance_path)
        return response.fields if response.status == 200 else None

    async def _has_event(self) -> bool:
        """Whether Airflow already has this event.

        An earlier attempt may have succeeded unnoticed, or the task itself may have seen the
        outcome.
        """
        event_id = self._outcome.event_id
        if self._target.mode == "resume":
            tries = (*self._instance_path, "hitlDetails", "tries", str(self._task.try_number))
            response = await self._api.request("GET", *tries)
            if is_from_event(response.fields.get("params_input"), event_id):
                return True
        if self._target.mode == "clear" and is_from_event(await self._get_stored_outcome(), event_id):
            return True
        return await self._has_event_id_xcom()

    def _not_parked(self, why: str) -> Receipt:
        pause = not_parked_pause(self._now - self._created_at)
        return DeliveryFailed(why) if pause is None else DeliveryPostponed(why, pause)


def _unexpected(response: JsonResponse) -> Receipt:
    """The receipt for a response that the mode does not handle."""
    if response.status == 422:
        return INVALID_REQUEST
    return DeliveryFailed(f"Airflow answered {response.status}")
