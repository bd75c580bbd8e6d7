"""The tasks that are parked in Airflow for waitd, with the registrations they stored there.

`waitd airflow reconcile` restores waits from them after the daemon has lost its database.
"""

from collections.abc import AsyncIterator, Mapping
from math import inf
from typing import Any, NamedTuple

from waitd.core.airflow.callback import AWAITING_INPUT, TaskTry
from waitd.core.airflow.registration import REGISTRATION_KEY, TRIGGER_CLASS, parse_registration
from waitd.core.errors import InvalidInput
from waitd.models import Registration, parse_model
from waitd.sinks.airflow.api import EVERY_RUN, AirflowApi, task_path


class ParkedTask(NamedTuple):
    """A parked task. `registration` is None where it cannot be parsed."""

    task_try: TaskTry
    registration: Registration | None


async def parked_tasks(api: AirflowApi) -> AsyncIterator[ParkedTask]:
    """Every task that is parked for waitd, page by page.

    Tasks that park or wake meanwhile may be missing.

    Raises:
        AirflowRequestFailed: Airflow did not answer, or refused.
    """
    if AWAITING_INPUT in await api.parked_states():
        async for parked in _awaiting_input(api):
            yield parked
    deferred = {"state": ["deferred"], "order_by": "id"}
    path = (*EVERY_RUN, "taskInstances", "list")
    async for instance in api.list("task_instances", *path, body=deferred, max_listed=inf):
        if (instance.get("trigger") or {}).get("classpath") == TRIGGER_CLASS:
            yield _parked_task(instance, await _stored_registration(api, instance))


async def _awaiting_input(api: AirflowApi) -> AsyncIterator[ParkedTask]:
    awaiting = {"response_received": "false", "state": "awaiting_input", "order_by": "ti_id"}
    async for detail in api.list("hitl_details", *EVERY_RUN, "hitlDetails", query=awaiting, max_listed=inf):
        registration = parse_registration(detail.get("body"))
        if registration is not None:
            yield _parked_task(detail["task_instance"], registration)


async def _stored_registration(api: AirflowApi, instance: Mapping[str, Any]) -> Any:
    task = _task_try(instance)
    query = {"map_index": str(task.map_index)}
    store = "state-store" if AWAITING_INPUT in await api.parked_states() else "xcomEntries"
    response = await api.request("GET", *task_path(task), store, REGISTRATION_KEY, query=query)
    return response.fields.get("value")


def _parked_task(instance: Mapping[str, Any], registration: Any) -> ParkedTask:
    try:
        return ParkedTask(_task_try(instance), parse_model(Registration, registration))
    except InvalidInput:
        return ParkedTask(_task_try(instance), None)


def _task_try(instance: Mapping[str, Any]) -> TaskTry:
    names = ("dag_id", "dag_run_id", "task_id", "map_index", "id", "try_number")
    return TaskTry(*(instance[name] for name in names))
