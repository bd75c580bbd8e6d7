"""How an outcome is delivered to Airflow, as pure decisions."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.airflow.callback import (
    CLEAR_SECONDS,
    NOT_PARKED_GRACE,
    NOT_PARKED_PAUSES,
    STATE_STORE_BYTES,
    EventOutcome,
    PriorClear,
    TaskTry,
    TryStatus,
    clear_id,
    clear_sent_at,
    is_from_event,
    mode_delivers,
    not_parked_pause,
    prior_clear,
    response_was_too_late,
    try_status,
)

TASK = TaskTry("etl", "r1", "wait", -1, "ti-1", 1)
OUTCOME = EventOutcome(
    "w1", "success", {"rows": 3}, "HTTP 200 OK", "success", soft_fail=False, pokes=3, seconds=12.5
)
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("state", "by_response", "otherwise"),
    [
        ("awaiting_input", TryStatus.PARKED, TryStatus.PARKED),
        ("deferred", TryStatus.PARKED, TryStatus.PARKED),
        ("up_for_reschedule", TryStatus.ACTIVE, TryStatus.PARKED),
        (None, TryStatus.ACTIVE, TryStatus.ACTIVE),
        ("scheduled", TryStatus.ACTIVE, TryStatus.ACTIVE),
        ("queued", TryStatus.ACTIVE, TryStatus.ACTIVE),
        ("running", TryStatus.ACTIVE, TryStatus.ACTIVE),
        ("restarting", TryStatus.ACTIVE, TryStatus.ACTIVE),
        ("success", TryStatus.OVER, TryStatus.OVER),
        ("failed", TryStatus.OVER, TryStatus.OVER),
        ("skipped", TryStatus.OVER, TryStatus.OVER),
        ("up_for_retry", TryStatus.OVER, TryStatus.OVER),
        ("upstream_failed", TryStatus.OVER, TryStatus.OVER),
        ("removed", TryStatus.OVER, TryStatus.OVER),
    ],
)
def test_every_state_of_a_task_instance_has_a_status(
    state: str | None, by_response: TryStatus, otherwise: TryStatus
) -> None:
    instance = {"id": "ti-1", "state": state}
    assert try_status(instance, TASK, by_response=True) is by_response
    assert try_status(instance, TASK, by_response=False) is otherwise
    assert try_status({**instance, "id": "ti-2"}, TASK, by_response=True) is TryStatus.OVER


@pytest.mark.parametrize(
    ("instance", "late"),
    [
        ({"id": "ti-1", "state": "scheduled", "end_date": None}, False),
        ({"id": "ti-1", "state": "failed", "end_date": "2026-11-21T15:55:03Z"}, True),
        ({"id": "ti-1", "state": "failed", "end_date": "2026-11-21T15:55:05Z"}, False),
        ({"id": "ti-1", "state": "running", "end_date": "2026-11-21T15:55:03Z"}, False),
        ({"id": "ti-1", "state": "failed", "end_date": None}, False),
        ({"id": "ti-1", "state": "failed", "end_date": "soon"}, False),
        ({"id": "ti-2", "state": "running", "end_date": None}, True),
    ],
)
def test_a_response_that_resumed_nothing_was_too_late(instance: dict[str, Any], late: bool) -> None:
    assert response_was_too_late(instance, TASK, "2026-11-21T15:55:04.316593Z") is late


def test_a_response_without_a_readable_time_was_not_too_late() -> None:
    instance = {"id": "ti-1", "state": "failed", "end_date": "2026-11-21T15:55:03Z"}
    assert response_was_too_late(instance, TASK, None) is False


@pytest.mark.parametrize("state", ["success", "failed", "timeout"])
def test_a_mode_delivers_outcomes_but_no_cancelled_one(state: str) -> None:
    for mode in ("resume", "set_state", "clear", "dag_run", None):
        assert mode_delivers(mode, state)
        assert not mode_delivers(mode, "cancelled")
    assert mode_delivers("asset_event", state) is (state == "success")
    assert not mode_delivers("asset_event", "cancelled")


@given(st.text(max_size=30_000) | st.lists(st.integers(), max_size=9000))
def test_the_state_store_value_fits_and_is_recognized(payload: Any) -> None:
    value = EventOutcome(
        "w1", "success", payload, "m", "success", soft_fail=False, pokes=3, seconds=12.5
    ).for_state_store(TASK, NOW)
    assert len(json.dumps(value)) <= STATE_STORE_BYTES
    assert is_from_event(value, "w1")
    assert value["payload"] == payload or value["reason"] == "result_omitted"


@pytest.mark.parametrize("stored", [None, "w1", [], {}, {"event_id": "w2"}, {"id": "w1"}])
def test_other_stored_values_are_not_from_this_event(stored: object) -> None:
    assert not is_from_event(stored, "w1")


def test_a_prior_clear_is_recent_for_a_minute_and_earlier_after_it() -> None:
    value = OUTCOME.for_state_store(TASK, NOW)

    def after(seconds: float, created_at: float = NOW) -> PriorClear:
        return prior_clear(value, "w1", now=NOW + seconds, created_at=created_at)

    assert after(0) is after(CLEAR_SECONDS - 1) is PriorClear.RECENT
    assert after(CLEAR_SECONDS) is after(1e6) is PriorClear.EARLIER
    assert after(-3600) is PriorClear.EARLIER  # the clock was set back an hour
    assert after(70, created_at=NOW + 59) is PriorClear.EARLIER  # replicas' clocks differ
    assert after(70, created_at=NOW + 60) is PriorClear.NONE  # a redelivery
    assert prior_clear(value, "w2", now=NOW, created_at=NOW) is PriorClear.NONE
    assert prior_clear(None, "w1", now=NOW, created_at=NOW) is PriorClear.NONE


def test_a_clear_id_follows_from_the_stored_value() -> None:
    value = json.loads(json.dumps(OUTCOME.for_state_store(TASK, NOW + 0.123456)))
    assert clear_id("w1", clear_sent_at(value)) == clear_id("w1", NOW + 0.123456) == "w1@1800000000.123"
    assert clear_sent_at({**value, "sent_at": "now"}) == clear_sent_at(None) == 0


@given(st.floats(-1e6, 1e9))
def test_the_pause_between_reads_of_an_unparked_task_is_bounded_for_an_hour(age: float) -> None:
    pause = not_parked_pause(age)
    assert (pause is None) is (age >= NOT_PARKED_GRACE)
    assert pause is None or NOT_PARKED_PAUSES[0] <= pause <= NOT_PARKED_PAUSES[1]
