"""What an outcome means for the task: a result, or one of Airflow's own exceptions."""

from typing import Any

from airflow.sdk.exceptions import AirflowException, AirflowSensorTimeout, AirflowSkipException

_SAID = {"timeout": "timed out", "cancelled": "was cancelled"}


def conclude(state: str, payload: Any, message: str, *, soft_fail: bool) -> Any:
    """The task's result: the wait's payload.

    Raises:
        AirflowSensorTimeout: the wait timed out; Airflow does not retry that.
        AirflowException: it failed or was cancelled; the task's retries apply.
        AirflowSkipException: it failed or timed out under `soft_fail`.
    """
    if state == "success":
        return payload
    said = f"The wait {_SAID.get(state, state)}" + (f": {message}" if message else ".")
    if soft_fail and state in {"failed", "timeout"}:
        raise AirflowSkipException(f"{said} Skipped, because soft_fail is set.")
    raise AirflowSensorTimeout(said) if state == "timeout" else AirflowException(said)
