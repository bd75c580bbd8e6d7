"""The event of an outcome: CloudEvents 1.0, one per wait, with the wait's id.

It is built once, in the transaction that finishes the wait, and its bytes are stored: every
attempt at every sink sends the same bytes.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from waitd.core.waits.wait import Outcome, WaitId, WaitSpec

EVENT_CONTENT_TYPE = "application/cloudevents+json"
EVENT_SOURCE = "/waitd"
#: The last second that has a date of four digits; a damaged row may have a later time.
_LAST = 253_402_300_799.0


def rfc3339(at: float) -> str:
    """Unix seconds in the API's format: RFC 3339, UTC, with milliseconds."""
    return (
        datetime.fromtimestamp(min(at, _LAST), UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    )


def build_event(
    wait_id: WaitId,
    namespace: str,
    spec: WaitSpec,
    outcome: Outcome,
    *,
    pokes: int,
    created_at: float,
    finished_at: float,
) -> Mapping[str, Any]:
    """The CloudEvent of an outcome as JSON-compatible values. Times are Unix seconds."""
    return {
        "specversion": "1.0",
        "id": wait_id,
        "source": EVENT_SOURCE,
        "type": f"waitd.wait.{outcome.state.value}",
        "subject": wait_id,
        "time": rfc3339(finished_at),
        "datacontenttype": "application/json",
        "data": {
            "wait_id": wait_id,
            "namespace": namespace,
            "state": outcome.state.value,
            "payload": outcome.payload,
            "message": outcome.message,
            "reason": outcome.reason,
            "soft_fail": spec.soft_fail,
            "labels": dict(spec.labels),
            "kind": spec.kind,
            "pokes": pokes,
            "created_at": rfc3339(created_at),
            "finished_at": rfc3339(finished_at),
        },
    }
