"""Hooks that schemathesis loads: valid waits, existing ids and short polls."""

import json
import os
from collections import deque
from itertools import count
from typing import Any

import schemathesis
from schemathesis import Case, HookContext, Response, SerializationContext

JOBS, HOOK = os.environ["JOBS"], os.environ["HOOK"]
#: The longest long poll, in seconds.
MAX_LONG_POLL = 0.05

#: The ids of the last accepted waits. Three of four operations on a wait use one of them; links
#: have their own ids.
accepted: deque[str] = deque(maxlen=20)
counter = count()


def valid_wait(seconds: int) -> dict[str, Any]:
    """A wait for a job that takes so many seconds. One of its two webhook sinks always fails."""
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
def serialize_lines(_: SerializationContext, value: Any) -> bytes:
    """One JSON line, or the bytes that a hook has set."""
    return value if isinstance(value, bytes) else json.dumps(value).encode()


@schemathesis.hook
def after_call(_: HookContext, case: Case[Any], response: Response) -> None:
    """Records the ids of accepted waits."""
    if case.operation.definition.raw["operationId"] == "submitWait" and response.status_code == 201:
        accepted.append(response.json()["id"])


@schemathesis.hook
def before_call(_: HookContext, case: Case[Any], __: dict[str, Any]) -> None:
    """Makes positive requests valid, and shortens requests that would take long."""
    operation = case.operation.definition.raw["operationId"]
    is_positive = case.meta is None or case.meta.generation.mode.is_positive
    seconds = 600 * (len(str(case.body)) % 2)
    if is_positive and operation == "submitWait" and isinstance(case.body, dict):
        case.body = {**case.body, **valid_wait(seconds)}
    elif is_positive and operation == "submitBatch":
        case.body = b"".join(json.dumps(line).encode() + b"\n" for line in (case.body, valid_wait(seconds)))
    elif (
        is_positive
        and accepted
        and "id" in case.path_parameters
        and not _is_linked(case)
        and next(counter) % 4
    ):
        case.path_parameters["id"] = accepted[-1]
    if operation == "followEvents" and case.method == "GET":
        # A stream never ends, so ask for an unknown id; other tests follow the stream.
        case.headers.update({"Last-Event-ID": "7" * 18})
    elif operation == "getWait" and _is_long_poll(case.query.get("wait")):
        case.query["wait"] = str(MAX_LONG_POLL)


def _is_linked(case: Case[Any]) -> bool:
    return case.meta is not None and case.meta.phase.name == "stateful"


def _is_long_poll(text: Any) -> bool:
    try:
        return float(text) > MAX_LONG_POLL
    except (TypeError, ValueError):
        return False
