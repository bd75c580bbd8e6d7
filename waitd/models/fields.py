"""The types and limits of fields that several models share."""

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, StringConstraints
from pydantic_core import PydanticCustomError

from waitd.core.connections.connection import is_conn_id

#: The largest body of one wait, in bytes.
MAX_BODY = 64 * 1024
#: The largest batch, in lines and in bytes.
MAX_BATCH_LINES = 10_000
MAX_BATCH_BODY = 64 * 1024 * 1024
#: The largest payload of a signal, in bytes.
MAX_SIGNAL = 16 * 1024
#: How many deliveries one call redelivers at most.
MAX_REDELIVERED = 1000
#: How many sinks and labels a wait has at most.
MAX_SINKS = 8
MAX_LABELS = 32
#: The longest name and value of a label, in characters.
MAX_LABEL_NAME = 63
MAX_LABEL_VALUE = 256
#: The longest idempotency key, supersede key and signal key, in characters.
MAX_KEY_LENGTH = 256
#: The longest `request_timeout`, in seconds.
MAX_REQUEST_TIMEOUT = 3600.0

#: Characters that keys and labels must not contain: control characters; those that change the
#: direction of text, so that it looks like another; surrogates, which header bytes that are not
#: UTF-8 become.
CONTROL_CHARACTERS = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
NO_CONTROL_CHARACTERS = "control characters, and those that change the direction of text, are not allowed"

RequestTimeout = Annotated[
    float, Field(gt=0, le=MAX_REQUEST_TIMEOUT, description="Seconds one poke may take.")
]
Time = Annotated[str, Field(json_schema_extra={"format": "date-time"})]
Uuid = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$")]
Key = Annotated[str, StringConstraints(min_length=1, max_length=MAX_KEY_LENGTH)]


def null_means(default: object) -> BeforeValidator:
    """Reads null as `default`, as Airflow's operators read None."""
    return BeforeValidator(lambda value: default if value is None else value)


def _check_conn_id(text: str) -> str:
    if not is_conn_id(text):
        raise PydanticCustomError("conn_id", r"up to 250 letters, digits and _#!()-.:/\ ")
    return text


#: The name of a connection, as a parameter.
ConnId = Annotated[str, AfterValidator(_check_conn_id)]

RoleName = Literal["viewer", "submitter", "operator", "admin"]
Action = Literal["submit", "cancel", "poke", "redeliver", "signal", "create_key", "revoke_key"]
ACTIONS: tuple[Action, ...] = (
    "submit",
    "cancel",
    "poke",
    "redeliver",
    "signal",
    "create_key",
    "revoke_key",
)
State = Literal["waiting", "success", "failed", "timeout", "cancelled"]
STATES: tuple[State, ...] = ("waiting", "success", "failed", "timeout", "cancelled")
#: In place of a state: waits whose stored row cannot be read.
UNREADABLE = "unreadable"
VerdictName = Literal["pending", "success", "failure", "unreachable"]
