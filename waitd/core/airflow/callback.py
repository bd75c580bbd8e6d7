"""Decides how an outcome is delivered to Airflow, and what Airflow's responses mean.

A task instance that waits for waitd without a slot is *parked*. Its id (`ti_id`) changes with each
retry and each clear, and no endpoint of Airflow takes it. So every delivery attempt reads the task
instance first. Everything that is sent contains the event's id, by which a later attempt recognizes
what an earlier one achieved.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

#: The only option of a parked human-in-the-loop task.
RESPONSE_OPTION = "done"
#: The XCom with the id of the event that ended or resumed a task.
EVENT_ID_KEY = "waitd_event_id"
#: The XCom with a task's result.
RETURN_KEY = "return_value"
#: The key in the task's state store under which a cleared task finds its outcome.
OUTCOME_KEY = "waitd_outcome"
#: The field with the outcome in a DAG run's conf and in an asset event's extra.
CONF_KEY = "waitd"
#: The largest value in Airflow's state store, as JSON, in bytes (`[state_store]
#: max_value_storage_bytes`).
STATE_STORE_BYTES = 65_535

#: The state of a task that waits for a human-in-the-loop response. Airflow has it since 3.3.
AWAITING_INPUT = "awaiting_input"
#: States in which a task instance holds no slot and waits for an external event.
PARKED_STATES = frozenset({AWAITING_INPUT, "deferred", "up_for_reschedule"})
#: The parked states that a human-in-the-loop response ends.
_AWAITS_RESPONSE = frozenset({AWAITING_INPUT, "deferred"})
_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed", "up_for_retry"})

#: For this many seconds a task may be unparked without using up delivery attempts: a worker may be
#: slow.
NOT_PARKED_GRACE = 3600.0
#: The shortest and the longest pause between two reads of a task that is not parked yet, in
#: seconds.
NOT_PARKED_PAUSES = (2.0, 60.0)
#: The default of `[workers] min_heartbeat_interval`, in seconds: how late at most a task's
#: supervisor notices that it has parked.
MIN_HEARTBEAT_INTERVAL = 5.0
#: How long after that interval Airflow has recorded it: a task that is resumed earlier may fail.
HOLD_OFF_MARGIN = 5.0
#: A clear whose response was lost may still take effect for this many seconds.
CLEAR_SECONDS = 60.0
#: The parameter that identifies a clear in Airflow's audit log. Airflow itself ignores it.
CLEAR_PARAMETER = "waitd_clear"


class TaskTry(NamedTuple):
    """One try of a task instance, as it was registered. `map_index` is -1 for an unmapped task."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    ti_id: str
    try_number: int


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """The outcome of a wait, as its event states it."""

    event_id: str
    state: str
    payload: Any
    message: str
    reason: str
    soft_fail: bool
    pokes: int
    seconds: float

    @classmethod
    def from_event(cls, event: Mapping[str, Any]) -> "EventOutcome":
        """Reads a wait's CloudEvent (decoded JSON)."""
        data = event["data"]
        return cls(
            event["id"], data["state"], data["payload"], data["message"], data["reason"], data["soft_fail"],
            data["pokes"], _seconds_between(data["created_at"], data["finished_at"]),
        )  # fmt: skip

    @property
    def new_state(self) -> str:
        """The state to which the task instance is set."""
        if self.state == "success":
            return "success"
        return "skipped" if self.soft_fail else "failed"

    def to_json(self) -> dict[str, Any]:
        """The outcome as Airflow receives it."""
        return {
            "event_id": self.event_id,
            "state": self.state,
            "payload": self.payload,
            "message": self.message,
            "reason": self.reason,
            "soft_fail": self.soft_fail,
        }

    def for_try(self, task: TaskTry) -> dict[str, Any]:
        """The outcome and the try that it is for: the fields of `waitd.models.TaskOutcome`."""
        measured = {"pokes": self.pokes, "seconds": self.seconds}
        return {**self.to_json(), **measured, "ti_id": task.ti_id, "try_number": task.try_number}

    def for_state_store(self, task: TaskTry, now: float) -> dict[str, Any]:
        """The outcome for a task's state store; a payload that does not fit is omitted.

        `now` is when it is sent, in Unix seconds.
        """
        value = {**self.for_try(task), "sent_at": now}
        if len(json.dumps(value)) > STATE_STORE_BYTES:  # as Airflow writes it: ASCII, one byte a character
            value |= {"payload": None, "reason": "result_omitted"}
        return value


def mode_delivers(mode: object, state: str) -> bool:
    """Whether a callback mode delivers an outcome in `state`.

    A cancelled wait is never delivered: that would resume or fail its task for nothing. An asset
    event is delivered for a success only, because it states that the data exist.
    """
    return state == "success" if mode == "asset_event" else state != "cancelled"


class TryStatus(Enum):
    """What became of the registered try of a task instance."""

    #: It waits for waitd.
    PARKED = "parked"
    #: It is neither parked nor ended: it is about to park, or it was resumed already.
    ACTIVE = "active"
    #: It has ended, or the task instance is at another try.
    OVER = "over"


def try_status(instance: Mapping[str, Any], task: TaskTry, *, by_response: bool) -> TryStatus:
    """The status of a registered try.

    Args:
        instance: Airflow's JSON of the task instance.
        task: the registered try.
        by_response: whether only states that a human-in-the-loop response ends count as parked.
    """
    state = instance.get("state")
    if instance.get("id") != task.ti_id or state in _ENDED:
        return TryStatus.OVER
    parked = state in (_AWAITS_RESPONSE if by_response else PARKED_STATES)
    return TryStatus.PARKED if parked else TryStatus.ACTIVE


def response_was_too_late(instance: Mapping[str, Any], task: TaskTry, responded_at: object) -> bool:
    """Whether a response resumed nothing although Airflow answered it with 200.

    That is so if the task instance is at another try, or if it ended before `responded_at`, the
    time of the response by Airflow's clock (ISO 8601).
    """
    if instance.get("id") != task.ti_id:
        return True
    ended, responded = _parse_time(instance.get("end_date")), _parse_time(responded_at)
    return instance.get("state") in _ENDED and None not in {ended, responded} and ended < responded  # type: ignore[operator] # neither is None here


def _seconds_between(start: str, end: str) -> float:
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def parked_seconds(detail: Mapping[str, Any], now: float) -> float | None:
    """For how long a task has been parked, by Airflow's clock; None if that is not known.

    A later try keeps the human-in-the-loop detail of the first one, and so does a try that parks
    again. They are recognized by having been queued after the detail was created.

    Args:
        detail: Airflow's JSON of the human-in-the-loop detail, with its task instance.
        now: Unix seconds by Airflow's clock.
    """
    instance = detail.get("task_instance")
    created = _parse_time(detail.get("created_at"))
    queued = _parse_time(instance.get("queued_when")) if isinstance(instance, Mapping) else None
    if created is None or queued is None or queued >= created:
        return None
    return now - created.timestamp()


def _parse_time(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def is_from_event(value: object, event_id: str) -> bool:
    """Whether a value stored in Airflow came from this event."""
    return isinstance(value, Mapping) and value.get("event_id") == event_id


class PriorClear(Enum):
    """Whether an earlier attempt already cleared the task, by what it left in the state store."""

    #: None did, or only one for an earlier delivery: a redelivery may clear again.
    NONE = "none"
    #: One did so recently that the clear may not have taken effect yet.
    RECENT = "recent"
    #: One did longer ago: Airflow's audit log says whether it took effect.
    EARLIER = "earlier"


def prior_clear(stored: object, event_id: str, *, now: float, created_at: float) -> PriorClear:
    """Whether an earlier attempt of this delivery cleared the task.

    A delivery ends later than CLEAR_SECONDS after its clear, so anything older than that was sent
    for an earlier delivery.

    Args:
        stored: the value in the task's state store.
        event_id: the id of the event.
        now: Unix seconds.
        created_at: when the delivery was created, in Unix seconds.
    """
    if not is_from_event(stored, event_id):
        return PriorClear.NONE
    sent_at = clear_sent_at(stored)
    if created_at - sent_at >= CLEAR_SECONDS:
        return PriorClear.NONE
    return PriorClear.RECENT if abs(now - sent_at) < CLEAR_SECONDS else PriorClear.EARLIER


def clear_sent_at(stored: object) -> float:
    """When the clear that left `stored` was sent, in Unix seconds; 0 if it cannot be read."""
    sent_at = stored.get("sent_at") if isinstance(stored, Mapping) else None
    return float(sent_at) if isinstance(sent_at, int | float) else 0.0


def clear_id(event_id: str, sent_at: float) -> str:
    """The value of CLEAR_PARAMETER, which is different for each clear."""
    return f"{event_id}@{sent_at:.3f}"


def not_parked_pause(age: float) -> float | None:
    """Seconds until a task that is not parked yet is read again: a quarter of the delivery's age.

    `age` is the time since the delivery was created, in seconds. None after NOT_PARKED_GRACE: from
    then on, each read is a regular delivery attempt.
    """
    if age >= NOT_PARKED_GRACE:
        return None
    shortest, longest = NOT_PARKED_PAUSES
    return min(max(age / 4, shortest), longest)
