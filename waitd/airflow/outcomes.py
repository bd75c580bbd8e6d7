"""Turns the outcome of a wait into the task's result or an Airflow exception."""

from datetime import timedelta
from typing import Any

from waitd.airflow.versions import (
    AirflowException,
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    AirflowTaskTimeout,
)

_VERBS = {"timeout": "timed out", "cancelled": "was cancelled"}


def conclude(
    state: str,
    payload: Any,
    message: str,
    *,
    soft_fail: bool,
    is_last: bool = False,
    execution_timeout: timedelta | None = None,
) -> Any:
    """The task's result: the payload of a wait that succeeded.

    `execution_timeout` is the task's, if it ended the wait. `is_last`: the task is not retried.

    Raises:
        AirflowSensorTimeout: the wait timed out. Airflow does not retry the task.
        AirflowTaskTimeout: it did by the execution_timeout. The task's retries apply.
        AirflowException: the wait failed or was cancelled. The task's retries apply.
        AirflowFailException: any of these, with `is_last`.
        AirflowSkipException: the wait failed or timed out, with `soft_fail`.
    """
    if state == "success":
        return payload
    sentence = f"The wait {_VERBS.get(state, state)}" + (f": {message}" if message else ".")
    if soft_fail and state in {"failed", "timeout"}:
        raise AirflowSkipException(f"{sentence} The task is skipped because of soft_fail or never_fail.")
    if is_last:
        raise AirflowFailException(sentence)
    if state == "timeout" and execution_timeout is not None:
        raise AirflowTaskTimeout(f"{sentence} The task's execution_timeout is {execution_timeout}.")
    raise AirflowSensorTimeout(sentence) if state == "timeout" else AirflowException(sentence)


def describe(wait_id: str, state: str, pokes: int | None, seconds: float | None, message: str) -> str:
    """One line for the task's log; what the daemon did not say is left out."""
    measured = [
        *([] if pokes is None else [f"{pokes} {'poke' if pokes == 1 else 'pokes'}"]),
        *([] if seconds is None else [f"{timedelta(seconds=round(seconds))} h"]),
    ]
    after = f" after {' and '.join(measured)}" if measured else ""
    verb = {"success": "succeeded", **_VERBS}.get(state, state)
    return f"Wait {wait_id} {verb}{after}" + (f": {message}" if message else ".")
