"""What a parked task keeps in Airflow, and how a cleared task finds its outcome.

Airflow has a state store for each task since 3.3. Below, the registration is an XCom; since a clear
deletes a task's XComs, the cleared task reads the outcome from waitd.
"""

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from waitd.airflow.client import WaitdClient
from waitd.airflow.hook import WaitdHook
from waitd.airflow.patience import call_patiently
from waitd.airflow.registration import RegisteringTask
from waitd.airflow.versions import HAS_STATE_STORE
from waitd.core.airflow.callback import EVENT_ID_KEY, OUTCOME_KEY
from waitd.core.airflow.registration import REGISTRATION_KEY
from waitd.models import Registration, TaskOutcome


def keep_registration(context: Any, registration: Registration) -> None:
    """Stores the registration of a task that parks as deferred."""
    if HAS_STATE_STORE:
        context["task_state_store"].set(REGISTRATION_KEY, registration.model_dump())
    else:
        context["ti"].xcom_push(REGISTRATION_KEY, registration.model_dump())


def take_outcome(
    context: Any,
    task: RegisteringTask,
    hook: WaitdHook,
    *,
    airflow_conn_id: str,
    register_timeout: float,
    log: Any,
) -> TaskOutcome | None:
    """The outcome for which waitd cleared the task, if it is that of the previous try.

    `airflow_conn_id` is the connection by which waitd reaches this Airflow.

    Raises:
        WaitdUnreachable, WaitdRefused: the outcome is in waitd, which does not tell it.
    """
    if HAS_STATE_STORE:
        return _take_stored_outcome(context, task, log)
    if task.try_number == 1:
        return None
    with hook.get_conn() as client:
        outcome = call_patiently(lambda: _find_outcome(client, task, airflow_conn_id), register_timeout, log)
    if outcome is not None:
        _acknowledge(context, outcome)
    return outcome


def _acknowledge(context: Any, outcome: TaskOutcome) -> None:
    """Tells waitd, which may not know whether its clear had an effect."""
    context["ti"].xcom_push(EVENT_ID_KEY, outcome.event_id)


def _take_stored_outcome(context: Any, task: RegisteringTask, log: Any) -> TaskOutcome | None:
    store = context["task_state_store"]
    value = store.get(OUTCOME_KEY)
    if value is None:
        return None
    outcome = TaskOutcome.model_validate(value)
    is_for_this_try = outcome.try_number == task.try_number - 1
    if is_for_this_try:
        _acknowledge(context, outcome)  # before the outcome is removed
    else:
        log.info("Ignoring an outcome that was stored for try %d.", outcome.try_number + 1)
    store.delete(OUTCOME_KEY)
    return outcome if is_for_this_try else None


def _find_outcome(client: WaitdClient, task: RegisteringTask, airflow_conn_id: str) -> TaskOutcome | None:
    """The outcome of the wait of the previous try, if it was to be cleared for that."""
    before = task._replace(try_number=task.try_number - 1)
    # Another Airflow may have a task of this name, too.
    wait = next((wait for wait in client.each(before.labels) if _clears(wait, airflow_conn_id)), None)
    if wait is None or wait["state"] in {"waiting", "cancelled"}:
        return None
    outcome = wait["outcome"]
    seconds = datetime.fromisoformat(wait["finished_at"]) - datetime.fromisoformat(wait["created_at"])
    return TaskOutcome(
        event_id=wait["id"],
        ti_id=before.ti_id,
        try_number=before.try_number,
        state=outcome["state"],
        payload=outcome["payload"],
        message=outcome["message"],
        reason=outcome["reason"],
        soft_fail=wait["soft_fail"],
        pokes=wait["pokes"],
        seconds=seconds.total_seconds(),
    )


def _clears(wait: Mapping[str, Any], airflow_conn_id: str) -> bool:
    sought = {"kind": "airflow", "mode": "clear", "conn_id": airflow_conn_id}
    return any(sought.items() <= sink.items() for sink in wait["sinks"])
