"""The modes that wake or end a parked task: `resume`, `set_state`, `clear`. One `TaskDelivery` is one attempt.

Airflow's endpoints do not ask for the task instance's id, and say 200 to what has no effect. So each attempt looks first, and what is sent
carries the event's id: it is looked for wherever the task is no longer as it was registered, and where Airflow says 409.

A `clear` runs the task again, and a second one would stop or repeat that run. So it is never sent twice for one delivery, unless it is
proved that the first had no effect:

- Airflow refused it; or
- the task stands parked under the id that it had (a clear gives it another), the minute has passed in which a request may still be on its
  way, and Airflow's audit log, which it writes before it acts, does not know the request, by a mark that is in its URL.

Where that cannot be proved, because the log has the mark or cannot be read, the delivery is dead, and its reason says what to do: whoever
clears the task by hand has it find its outcome in the state store; whoever redelivers, decides that it is sent once more.
"""

from collections.abc import Mapping
from typing import Any, Protocol

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
from waitd.core.waits.delivery import (
    Delivered,
    DeliveryFailed,
    DeliveryPostponed,
    DeliveryRejected,
    Receipt,
)
from waitd.core.waits.event import rfc3339
from waitd.outgoing import JsonResponse
from waitd.sinks.airflow.api import MAX_CLOCK_SKEW, MAX_LISTED, AirflowApi, AirflowRequestFailed
from waitd.sinks.airflow.params import AirflowTarget

SUPERSEDED = DeliveryRejected(
    "superseded: the task has ended, or was woken, cleared or retried, without this event"
)
#: Seconds until it is asked again whether a clear has arrived.
_CLEAR_PAUSE = 5.0
#: What a clear is called in Airflow's audit log.
_CLEAR_EVENT = "post_clear_task_instances"


class HoldOff(Protocol):
    """Who remembers when tasks were first seen parked."""

    def left(self, conn_id: str, place: TaskTry) -> float:
        """Seconds until the task may be resumed; asked whenever it is seen parked."""


class TaskDelivery:
    """One attempt to tell a parked task how its wait ended."""

    def __init__(
        self,
        api: AirflowApi,
        target: AirflowTarget,
        place: TaskTry,
        ending: EventOutcome,
        *,
        hold_off: HoldOff,
        age: float,
        now: float,
    ) -> None:
        """`age` counts seconds since the delivery was made, `now` is in Unix seconds."""
        self._api = api
        self._target = target
        self._place = place
        self._ending = ending
        self._hold_off = hold_off
        self._age = age
        self._now = now
        run = ("dags", place.dag_id, "dagRuns", place.run_id)
        self._task = (*run, "taskInstances", place.task_id)
        self._instance_path = (*self._task, str(place.map_index))
        self._store = (*self._task, "state-store", target.key)
        self._map_index = {"map_index": str(place.map_index)}

    async def deliver(self) -> Receipt:
        """What came of it. Raises Stopped."""
        instance = await self._instance()
        if instance is None:
            return self._not_yet("Airflow knows no such task instance")
        match try_status(instance, self._place, by_response=self._target.mode == "resume"):
            case TryStatus.PARKED:
                return await self._tell()
            case TryStatus.MOVING if not await self._is_known():
                return self._not_yet(f"the task is not parked yet but {_state(instance)}")
            case TryStatus.PAST if not await self._is_known():
                return SUPERSEDED
        return Delivered()

    async def _tell(self) -> Receipt:
        match self._target.mode:
            case "set_state":
                return await self._set_state()
            case "clear":
                return await self._clear()
            case _:
                return await self._resume()

    # ---------------------------------------------------------------- resume

    async def _resume(self) -> Receipt:
        left = self._hold_off.left(self._target.conn_id, self._place)
        if left > 0:
            return DeliveryPostponed(
                "held off: Airflow may not yet have noted that the task left its slot", left
            )
        body = {"chosen_options": [RESPONSE_OPTION], "params_input": self._ending.told_to(self._place)}
        answer = await self._api.request("PATCH", *self._instance_path, "hitlDetails", body=body)
        match answer.status:
            case 200:
                instance = await self._instance()
                responded_at = answer.fields.get("responded_at")
                late = instance is None or response_was_too_late(instance, self._place, responded_at)
                return SUPERSEDED if late else Delivered()
            case 409:
                return Delivered() if await self._is_known() else SUPERSEDED
            case 404:
                return self._not_yet("the task does not wait for a response yet")
            case 400:
                return DeliveryRejected(
                    f"Airflow answered 400: the task offers no option {RESPONSE_OPTION}, so it is none of waitd's"
                )
        return _refused(answer)

    # ---------------------------------------------------------------- set_state

    async def _set_state(self) -> Receipt:
        marked = await self._push(EVENT_ID_KEY, self._ending.event_id)
        if marked.status == 409 and not await self._is_marked():
            return SUPERSEDED
        if marked.status not in {201, 409}:
            return _refused(marked)
        if self._ending.state == "success" and self._ending.payload is not None:
            pushed = await self._push(self._target.key, self._ending.payload)
            if pushed.status == 409 and await self._pulled(self._target.key) != self._ending.payload:
                return DeliveryRejected(f"Airflow answered 409: the task has another XCom {self._target.key}")
            if pushed.status not in {201, 409}:
                return _refused(pushed)
        body = {"new_state": self._ending.new_state}
        answer = await self._api.request("PATCH", *self._instance_path, body=body)
        # 409: it is in that state already, and the mark says by whom
        return Delivered() if answer.status in {200, 409} else _refused(answer)

    async def _push(self, key: str, value: Any) -> JsonResponse:
        body = {"key": key, "value": value, "map_index": self._place.map_index}
        return await self._api.request("POST", *self._task, "xcomEntries", body=body)

    async def _pulled(self, key: str) -> Any:
        answer = await self._api.request("GET", *self._task, "xcomEntries", key, query=self._map_index)
        return answer.fields.get("value")

    async def _is_marked(self) -> bool:
        return bool(await self._pulled(EVENT_ID_KEY) == self._ending.event_id)

    # ---------------------------------------------------------------- clear

    async def _clear(self) -> Receipt:
        left = await self._left()
        match prior_clear(left, self._ending.event_id, now=self._now, ordered_at=self._now - self._age):
            case PriorClear.JUST_NOW:
                return DeliveryPostponed(
                    f"cleared, and nothing heard: for {CLEAR_SECONDS:g} s it may be on its way", _CLEAR_PAUSE
                )
            case PriorClear.BEFORE if doubt := await self._doubt(clear_sent_at(left)):
                return DeliveryRejected(
                    f"a clear was sent, {doubt}, and a second one could hit the running task. Clear the task in Airflow, its outcome is "
                    "there; or redeliver, if it stands still"
                )
        value = {"value": self._ending.left_for(self._place, self._now)}
        stored = await self._api.request("PUT", *self._store, query=self._map_index, body=value)
        if stored.status != 204:
            return _refused(stored)
        answer = await self._send_clear()
        if answer.status == 200:
            return Delivered()
        # It says that it did nothing. If this is not taken back, the audit log will have the next attempt doubt it.
        await self._api.request("DELETE", *self._store, query=self._map_index)
        return _refused(answer)

    async def _send_clear(self) -> JsonResponse:
        body = {
            "dry_run": False,
            "dag_run_id": self._place.run_id,
            "task_ids": [[self._place.task_id, self._place.map_index]],
            "only_failed": False,
            "reset_dag_runs": False,
            "prevent_running_task": True,
        }
        mark = {CLEAR_PARAMETER: clear_id(self._ending.event_id, self._now)}
        path = ("dags", self._place.dag_id, "clearTaskInstances")
        return await self._api.request("POST", *path, query=mark, body=body)

    async def _doubt(self, sent_at: float) -> str | None:
        """Why the clear that was sent then may have had an effect or have one yet; None: Airflow never saw it. Raises Stopped."""
        query = {"dag_id": self._place.dag_id, "run_id": self._place.run_id, "event": _CLEAR_EVENT}
        query |= {"order_by": "-event_log_id", "after": rfc3339(sent_at - MAX_CLOCK_SKEW)}
        mark = clear_id(self._ending.event_id, sent_at)
        seen = 0
        try:
            async for entry in self._api.list("event_logs", "eventLogs", query=query):
                if mark in str(entry.get("extra")):
                    return "Airflow's audit log has it, the task stands as before"
                seen += 1
        except AirflowRequestFailed as stopped:
            if isinstance(stopped.receipt, DeliveryRejected):
                return f"Airflow's audit log does not tell whether it arrived ({stopped.why})"
            raise
        return "among too many others to tell whether it arrived" if seen >= MAX_LISTED else None

    async def _left(self) -> Any:
        """What is in the state store; None: nothing, and that is certain, because a clear may be sent for it. Raises Stopped."""
        answer = await self._api.request("GET", *self._store, query=self._map_index)
        if answer.status != 200 and not (answer.status == 404 and "detail" in answer.fields):
            raise AirflowRequestFailed(
                DeliveryFailed(f"Airflow answered {answer.status} to the question what is in the state store")
            )
        return answer.fields.get("value")

    # ---------------------------------------------------------------- of all

    async def _instance(self) -> Mapping[str, Any] | None:
        answer = await self._api.request("GET", *self._instance_path)
        return answer.fields if answer.status == 200 else None

    async def _is_known(self) -> bool:
        """Whether Airflow has this event already: from an attempt whose receipt was lost, or because the task saw the end itself."""
        place, event_id = self._place, self._ending.event_id
        if self._target.mode == "resume":
            tries = (*self._instance_path, "hitlDetails", "tries", str(place.try_number))
            answer = await self._api.request("GET", *tries)
            if is_from_event(answer.fields.get("params_input"), event_id):
                return True
        if self._target.mode == "clear" and is_from_event(await self._left(), event_id):
            return True
        return await self._is_marked()

    def _not_yet(self, why: str) -> Receipt:
        pause = not_parked_pause(self._age)
        return DeliveryFailed(why) if pause is None else DeliveryPostponed(why, pause)


def _state(instance: Mapping[str, Any]) -> str:
    return str(instance.get("state") or "not scheduled")[:32]


def _refused(answer: JsonResponse) -> Receipt:
    """What an answer means that no mode expects. What it quotes of the question is not passed on."""
    if answer.status == 422:
        return DeliveryRejected("Airflow answered 422: it does not take what was sent")
    return DeliveryFailed(f"Airflow answered {answer.status}")
