"""The CloudEvent of an outcome."""

from waitd.core.waits.event import build_event, rfc3339
from waitd.core.waits.wait import Outcome, WaitId, WaitSpec, WaitState


def test_times_are_rfc3339_in_utc_with_milliseconds() -> None:
    assert rfc3339(1_800_000_000.1234) == "2027-01-15T08:00:00.123Z"
    assert rfc3339(1e18) == "9999-12-31T23:59:59.000Z"


def test_an_event_is_a_cloudevent_with_the_waits_id() -> None:
    spec = WaitSpec("http", {}, 10, 60, soft_fail=True, labels={"dag_id": "d"})
    event = build_event(
        WaitId("0190"),
        "default",
        spec,
        Outcome(WaitState.FAILED, {"n": 1}, "it broke", "job_failed"),
        pokes=3,
        created_at=1_800_000_000.0,
        finished_at=1_800_000_060.0,
    )
    assert event == {
        "specversion": "1.0",
        "id": "0190",
        "source": "/waitd",
        "type": "waitd.wait.failed",
        "subject": "0190",
        "time": "2027-01-15T08:01:00.000Z",
        "datacontenttype": "application/json",
        "data": {
            "wait_id": "0190",
            "namespace": "default",
            "state": "failed",
            "payload": {"n": 1},
            "message": "it broke",
            "reason": "job_failed",
            "soft_fail": True,
            "labels": {"dag_id": "d"},
            "kind": "http",
            "pokes": 3,
            "created_at": "2027-01-15T08:00:00.000Z",
            "finished_at": "2027-01-15T08:01:00.000Z",
        },
    }
