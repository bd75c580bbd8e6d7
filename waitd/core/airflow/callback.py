"""What a wait's end means to Airflow, and what Airflow's answers mean to the delivery; pure.

A task instance that gave up its slot is *parked*. Its id (`ti_id`) changes with each retry and each clear, and no endpoint of Airflow's
asks for it: so every attempt looks at the task instance first, and whatever is sent carries the event's id, so that a later attempt can
tell whether it went through before.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Any, NamedTuple

#: The one option that a parked operator offers.
RESPONSE_OPTION = "done"
#: The XCom that says which event ended a task, or went on with it.
EVENT_ID_KEY = "waitd_event_id"
#: The XCom that holds a task's result.
RETURN_KEY = "return_value"
#: The key in the task's state store under which a cleared task finds its outcome.
OUTCOME_KEY = "waitd_outcome"
#: The field of a DAG run's conf, and of an asset event's extra, that tells of the wait.
CONF_KEY = "waitd"
#: The largest value in Airflow's state store, as JSON, in bytes (`[state_store] max_value_storage_bytes`).
STATE_STORE_BYTES = 65_535

#: Task instance states in which it holds no slot and waits for somebody outside.
PARKED_STATES = frozenset({"awaiting_input", "deferred", "up_for_reschedule"})
#: Those that a response wakes.
_AWAITS_RESPONSE = frozenset({"awaiting_input", "deferred"})
_ENDED = frozenset({"success", "failed", "skipped", "upstream_failed", "removed", "up_for_retry"})

#: For so long, in seconds, a task that is not parked yet does not count as an attempt: a worker may be slow.
NOT_PARKED_GRACE = 3600.0
#: The shortest and the longest pause between two looks at a task that is not parked yet, in seconds.
NOT_PARKED_PAUSES = (2.0, 60.0)
#: A clear of which nothing was heard may still be on its way for so long, in seconds.
CLEAR_SECONDS = 60.0
#: The parameter by which a clear is known again in Airflow's audit log; Airflow itself does not look at it.
CLEAR_PARAMETER = "waitd_clear"


class TaskTry(NamedTuple):
    """One try of a task instance, as it was registered. `map_index` is -1 where the task is not mapped."""

    dag_id: str
    run_id: str
    task_id: str
    map_index: int
    ti_id: str
    try_number: int


@dataclass(frozen=True, slots=True)
class EventOutcome:
    """How a wait ended, in the words of its event."""

    event_id: str
    state: str
    payload: Any
    message: str
    reason: str
    soft_fail: bool

    @property
    def new_state(self) -> str:
        """The state that its task instance is set to."""
        if self.state == "success":
            return "success"
        return "skipped" if self.soft_fail else "failed"

    def told(self) -> dict[str, Any]:
        """What Airflow is told of it, as JSON; by `event_id` it is known again."""
        return {
            "event_id": self.event_id,
            "state": self.state,
            "payload": self.payload,
            "message": self.message,
            "reason": self.reason,
            "soft_fail": self.soft_fail,
        }

    def told_to(self, place: TaskTry) -> dict[str, Any]:
        """The same with the try that it is for: the fields of `waitd.models.TaskOutcome`."""
        return {**self.told(), "ti_id": place.ti_id, "try_number": place.try_number}

    def left_for(self, place: TaskTry, now: float) -> dict[str, Any]:
        """The same as it fits into the state store, without the payload where it does not; `now` (Unix seconds) is when it is sent."""
        value = {**self.told_to(place), "sent_at": now}
        if len(json.dumps(value)) > STATE_STORE_BYTES:  # as Airflow writes it: ASCII, so characters are bytes
            value |= {"payload": None, "reason": "result_omitted"}
        return value


def parse_outcome(event: Mapping[str, Any]) -> EventOutcome:
    """The end that a wait's CloudEvent tells of."""
    data = event["data"]
    return EventOutcome(
        event["id"], data["state"], data["payload"], data["message"], data["reason"], data["soft_fail"]
    )


def mode_delivers(mode: object, state: str) -> bool:
    """Whether Airflow is told of an end in `state` by this mode: nobody waits any more for what was cancelled (its task would be woken or
    failed for nothing), and an asset event means that the data are there.
    """
    return state == "success" if mode == "asset_event" else state != "cancelled"


class TryStatus(Enum):
    """Where a task instance stands, as seen from the try that was registered."""

    #: It waits for us.
    PARKED = "parked"
    #: It is the same try, neither parked nor ended: about to park, or woken already.
    MOVING = "moving"
    #: It has ended, or is another try.
    PAST = "past"


def try_status(instance: Mapping[str, Any], place: TaskTry, *, by_response: bool) -> TryStatus:
    """Where `instance`, Airflow's JSON of a task instance, stands; `by_response` asks whether a response would wake it."""
    state = instance.get("state")
    if instance.get("id") != place.ti_id or state in _ENDED:
        return TryStatus.PAST
    return (
        TryStatus.PARKED
        if state in (_AWAITS_RESPONSE if by_response else PARKED_STATES)
        else TryStatus.MOVING
    )


def response_was_too_late(instance: Mapping[str, Any], place: TaskTry, responded_at: object) -> bool:
    """Whether a response that Airflow took, at `responded_at` of its own clock, woke nobody: another try stands there now, or the task had
    ended before. Airflow says 200 to both.
    """
    if instance.get("id") != place.ti_id:
        return True
    ended, responded = _moment(instance.get("end_date")), _moment(responded_at)
    return instance.get("state") in _ENDED and None not in {ended, responded} and ended < responded  # type: ignore[operator]


def _moment(text: object) -> datetime | None:
    try:
        return datetime.fromisoformat(text) if isinstance(text, str) else None
    except ValueError:
        return None


def is_from_event(told: object, event_id: str) -> bool:
    """Whether what is stored in Airflow came from this event."""
    return isinstance(told, Mapping) and told.get("event_id") == event_id


class PriorClear(Enum):
    """Whether a clear was sent for an event before, judged by what it left in the state store."""

    #: No: it may be sent. Or only for a delivery before this one, and whoever redelivered has decided.
    NEVER = "never"
    #: So lately that it may still be on its way.
    JUST_NOW = "just now"
    #: Before that: only Airflow's own record can tell what became of it.
    BEFORE = "before"


def prior_clear(left: object, event_id: str, *, now: float, ordered_at: float) -> PriorClear:
    """What `left` in the state store says of an earlier clear for this event. `ordered_at` is when the delivery was made; both in Unix
    seconds. A delivery ends later than CLEAR_SECONDS after its clear, so whatever is older than that was sent for another one.
    """
    if not is_from_event(left, event_id):
        return PriorClear.NEVER
    sent_at = clear_sent_at(left)
    if ordered_at - sent_at >= CLEAR_SECONDS:
        return PriorClear.NEVER
    return PriorClear.JUST_NOW if abs(now - sent_at) < CLEAR_SECONDS else PriorClear.BEFORE


def clear_sent_at(left: object) -> float:
    """When the clear was sent that goes with what is left in the state store, in Unix seconds; 0 where that cannot be read."""
    sent_at = left.get("sent_at") if isinstance(left, Mapping) else None
    return float(sent_at) if isinstance(sent_at, int | float) else 0.0


def clear_id(event_id: str, sent_at: float) -> str:
    """The value of CLEAR_PARAMETER: another one for each clear."""
    return f"{event_id}@{sent_at:.3f}"


def not_parked_pause(age: float) -> float | None:
    """Seconds until a task that is not parked yet is looked at again, `age` seconds after the delivery was made: a quarter of its age.
    None: it has had its time, and each further look counts as an attempt.
    """
    if age >= NOT_PARKED_GRACE:
        return None
    shortest, longest = NOT_PARKED_PAUSES
    return min(max(age / 4, shortest), longest)
