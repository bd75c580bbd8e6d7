"""What schemathesis cannot know of waitd's API; loaded by it, in a process of its own."""

import json
import os
from collections import deque
from itertools import count
from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response, SerializationContext

JOBS, HOOK = os.environ["JOBS"], os.environ["HOOK"]
#: No query of the test waits longer for an end, in seconds.
LONG_POLL = 0.05

#: The ids of the last waits; three of four operations on a wait are on one that is there. Links bring ids of their own.
taken: deque[str] = deque(maxlen=20)
turns = count()


def good_wait(seconds: int) -> dict[str, Any]:
    """A wait for a job that takes so many seconds; one of its two receivers takes nothing."""
    return {
        "kind": "http",
        "params": {
            "endpoint": f"{JOBS}/jobs/{seconds}?for={seconds}",
            "success_when": "body.status == 'SUCCEEDED'",
        },
        "sinks": [{"kind": "webhook", "url": HOOK}, {"kind": "webhook", "url": f"{JOBS}/nowhere"}],
        "poke_interval": 5,
        "max_wait": None,
        "timeout": 60,
    }


@schemathesis.serializer("application/x-ndjson")
def lines(_: SerializationContext, value: Any) -> bytes:
    """A line of JSON, or the bytes that a hook has put there."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@schemathesis.hook
def after_call(_: HookContext, case: Case[Any], response: Response) -> None:
    """Remembers the waits that were taken."""
    if case.operation.definition.raw["operationId"] == "submitWait" and response.status_code == 201:
        taken.append(response.json()["id"])


@schemathesis.hook
def before_call(_: HookContext, case: Case[Any], __: dict[str, Any]) -> None:
    """Makes the good requests really good, and bounds those that would last."""
    operation = case.operation.definition.raw["operationId"]
    good = case.meta is None or case.meta.generation.mode.is_positive
    seconds = 600 * (len(str(case.body)) % 2)
    if good and operation == "submitWait" and isinstance(case.body, dict):
        case.body = {**case.body, **good_wait(seconds)}
    elif good and operation == "submitBatch":
        case.body = b"".join(json.dumps(line).encode() + b"\n" for line in (case.body, good_wait(seconds)))
    elif good and taken and "id" in case.path_parameters and not _is_linked(case) and next(turns) % 4:
        case.path_parameters["id"] = taken[-1]
    if operation == "followEvents" and case.method == "GET":
        # Its 200 has no end; the tests of the API follow it. Nothing has this id.
        case.headers.update({"Last-Event-ID": "7" * 18})
    elif operation == "getWait" and _is_long(case.query.get("wait")):
        case.query["wait"] = str(LONG_POLL)


def _is_linked(case: Case[Any]) -> bool:
    return case.meta is not None and case.meta.phase.name == "stateful"


def _is_long(text: Any) -> bool:
    try:
        return float(text) > LONG_POLL
    except (TypeError, ValueError):
        return False
