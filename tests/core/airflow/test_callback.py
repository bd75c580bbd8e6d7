"""What a wait's end means to Airflow, without any Airflow."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from waitd.core.airflow.callback import (
    CLEAR_SECONDS,
    NOT_YET_PAUSES,
    NOT_YET_SECONDS,
    STATE_STORE_BYTES,
    Cleared,
    Ending,
    Position,
    TaskPlace,
    clear_mark,
    cleared,
    hears,
    is_ours,
    not_yet_pause,
    position,
    sent_at_in,
    was_too_late,
)

PLACE = TaskPlace("etl", "r1", "wait", -1, "ti-1", 1)
ENDING = Ending("w1", "success", {"rows": 3}, "HTTP 200 OK", "success", soft_fail=False)
NOW = 1_800_000_000.0


@pytest.mark.parametrize(
    ("state", "by_response", "otherwise"),
    [
        ("awaiting_input", Position.PARKED, Position.PARKED),
        ("deferred", Position.PARKED, Position.PARKED),
        ("up_for_reschedule", Position.MOVING, Position.PARKED),
        (None, Position.MOVING, Position.MOVING),
        ("scheduled", Position.MOVING, Position.MOVING),
        ("queued", Position.MOVING, Position.MOVING),
        ("running", Position.MOVING, Position.MOVING),
        ("restarting", Position.MOVING, Position.MOVING),
        ("success", Position.PAST, Position.PAST),
        ("failed", Position.PAST, Position.PAST),
        ("skipped", Position.PAST, Position.PAST),
        ("up_for_retry", Position.PAST, Position.PAST),
        ("upstream_failed", Position.PAST, Position.PAST),
        ("removed", Position.PAST, Position.PAST),
    ],
)
def test_every_state_of_a_task_instance_has_a_position(
    state: str | None, by_response: Position, otherwise: Position
) -> None:
    instance = {"id": "ti-1", "state": state}
    assert position(instance, PLACE, by_response=True) is by_response
    assert position(instance, PLACE, by_response=False) is otherwise
    assert position({**instance, "id": "ti-2"}, PLACE, by_response=True) is Position.PAST


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
def test_a_response_that_woke_nobody_is_told_from_one_that_did(instance: dict[str, Any], late: bool) -> None:
    assert was_too_late(instance, PLACE, "2026-11-21T15:55:04.316593Z") is late


def test_a_response_at_an_unreadable_time_is_taken_for_good() -> None:
    instance = {"id": "ti-1", "state": "failed", "end_date": "2026-11-21T15:55:03Z"}
    assert was_too_late(instance, PLACE, None) is False


@pytest.mark.parametrize("state", ["success", "failed", "timeout"])
def test_whom_an_end_concerns(state: str) -> None:
    for mode in ("resume", "set_state", "clear", "dag_run", None):
        assert hears(mode, state)
        assert not hears(mode, "cancelled")
    assert hears("asset_event", state) is (state == "success")
    assert not hears("asset_event", "cancelled")


@given(st.text(max_size=30_000) | st.lists(st.integers(), max_size=9000))
def test_what_is_left_in_the_state_store_fits_and_is_known_again(payload: Any) -> None:
    left = Ending("w1", "success", payload, "m", "success", soft_fail=False).left_for(PLACE, NOW)
    assert len(json.dumps(left)) <= STATE_STORE_BYTES
    assert is_ours(left, "w1")
    assert left["payload"] == payload or left["reason"] == "result_omitted"


@pytest.mark.parametrize("told", [None, "w1", [], {}, {"event_id": "w2"}, {"id": "w1"}])
def test_whatever_else_is_stored_is_not_ours(told: object) -> None:
    assert not is_ours(told, "w1")


def test_a_clear_is_on_its_way_for_a_minute_and_in_doubt_after_it() -> None:
    left = ENDING.left_for(PLACE, NOW)

    def after(seconds: float, ordered_at: float = NOW) -> Cleared:
        return cleared(left, "w1", now=NOW + seconds, ordered_at=ordered_at)

    assert after(0) is after(CLEAR_SECONDS - 1) is Cleared.JUST_NOW
    assert after(CLEAR_SECONDS) is after(1e6) is Cleared.BEFORE
    assert after(-3600) is Cleared.BEFORE  # the clock was set back: it waits no hour
    assert after(70, ordered_at=NOW + 59) is Cleared.BEFORE  # replicas' clocks differ
    assert after(70, ordered_at=NOW + 60) is Cleared.NEVER  # a redelivery
    assert cleared(left, "w2", now=NOW, ordered_at=NOW) is Cleared.NEVER
    assert cleared(None, "w1", now=NOW, ordered_at=NOW) is Cleared.NEVER


def test_a_clear_is_known_again_by_what_it_left() -> None:
    left = json.loads(json.dumps(ENDING.left_for(PLACE, NOW + 0.123456)))
    assert clear_mark("w1", sent_at_in(left)) == clear_mark("w1", NOW + 0.123456) == "w1@1800000000.123"
    assert sent_at_in({**left, "sent_at": "now"}) == sent_at_in(None) == 0


@given(st.floats(-1e6, 1e9))
def test_a_task_that_is_not_parked_yet_is_looked_at_ever_more_rarely_for_an_hour(age: float) -> None:
    pause = not_yet_pause(age)
    assert (pause is None) is (age >= NOT_YET_SECONDS)
    assert pause is None or NOT_YET_PAUSES[0] <= pause <= NOT_YET_PAUSES[1]
