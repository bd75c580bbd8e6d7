"""Turns the outcome of a wait into the task's result or an Airflow exception."""

from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowSensorTimeout, AirflowSkipException

_VERBS = {"timeout": "timed out", "cancelled": "was cancelled"}


def conclude(state: str, payload: Any, message: str, *, soft_fail: bool) -> Any:
    """The task's result: the payload of a wait that succeeded.

    Raises:
        AirflowSensorTimeout: the wait timed out. Airflow does not retry the task.
        AirflowException: the wait failed or was cancelled. The task's retries apply.
        AirflowSkipException: the wait failed or timed out, with `soft_fail`.
    """
    if state == "success":
        return payload
    sentence = f"The wait {_VERBS.get(state, state)}" + (f": {message}" if message else ".")
    if soft_fail and state in {"failed", "timeout"}:
        raise AirflowSkipException(f"{sentence} The task is skipped because of soft_fail or never_fail.")
    raise AirflowSensorTimeout(sentence) if state == "timeout" else AirflowException(sentence)
