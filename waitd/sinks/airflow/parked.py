"""The tasks that are parked in Airflow for waitd, with the registrations they stored there.

`waitd airflow reconcile` restores waits from them after the daemon has lost its database.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from waitd.core.airflow.callback import TaskTry
from waitd.core.airflow.registration import REGISTRATION_KEY, TRIGGER_CLASS, parse_registration
from waitd.core.errors import InvalidInput, WaitdError
from waitd.models import Registration, parsed
from waitd.outgoing import JsonResponse
from waitd.sinks.airflow.api import AirflowApi, AirflowRequestFailed

#: Entries per page (Airflow's `[api] maximum_page_limit`).
PAGE_SIZE = 100


class ParkedTask(NamedTuple):
    """A parked task. `registration` is None where it cannot be parsed."""

    task_try: TaskTry
    registration: Registration | None


class ParkedTasksUnavailable(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """Airflow did not answer which tasks are parked."""


async def parked_tasks(api: AirflowApi) -> AsyncIterator[ParkedTask]:
    """Every task that is parked for waitd, page by page.

    Tasks that park or wake meanwhile may be missing.

    Raises:
        ParkedTasksUnavailable: Airflow did not answer, or refused.
    """
    try:
        async for detail in _list_all(api, "hitl_details", _awaiting_input):
            registration = parse_registration(detail.get("body"))
            if registration is not None:
                yield _parked_task(detail["task_instance"], registration)
        async for instance in _list_all(api, "task_instances", _deferred):
            if (instance.get("trigger") or {}).get("classpath") == TRIGGER_CLASS:
                yield _parked_task(instance, await _stored_registration(api, instance))
    except AirflowRequestFailed as failed:
        raise ParkedTasksUnavailable(failed.why) from None


async def _awaiting_input(api: AirflowApi, offset: int) -> JsonResponse:
    query = {"response_received": "false", "state": "awaiting_input", "order_by": "ti_id"}
    query |= {"limit": str(PAGE_SIZE), "offset": str(offset)}
    return await api.request("GET", "dags", "~", "dagRuns", "~", "hitlDetails", query=query)


async def _deferred(api: AirflowApi, offset: int) -> JsonResponse:
    body = {"state": ["deferred"], "order_by": "id", "page_limit": PAGE_SIZE, "page_offset": offset}
    return await api.request("POST", "dags", "~", "dagRuns", "~", "taskInstances", "list", body=body)


async def _list_all(
    api: AirflowApi, field: str, request_page: Callable[[AirflowApi, int], Awaitable[JsonResponse]]
) -> AsyncIterator[Mapping[str, Any]]:
    """Every entry of a list; `field` holds them in each response."""
    offset = 0
    while True:
        response = await request_page(api, offset)
        entries = response.fields.get(field)
        if response.status != 200 or not isinstance(entries, list):
            raise ParkedTasksUnavailable(
                f"Airflow answered {response.status} to the request for the parked tasks"
            )
        for entry in entries:
            yield entry
        offset += len(entries)
        if len(entries) < PAGE_SIZE:
            return


async def _stored_registration(api: AirflowApi, instance: Mapping[str, Any]) -> Any:
    task = _task_try(instance)
    path = ("dags", task.dag_id, "dagRuns", task.run_id, "taskInstances", task.task_id)
    query = {"map_index": str(task.map_index)}
    response = await api.request("GET", *path, "state-store", REGISTRATION_KEY, query=query)
    return response.fields.get("value")


def _parked_task(instance: Mapping[str, Any], registration: Any) -> ParkedTask:
    try:
        return ParkedTask(_task_try(instance), parsed(Registration, registration))
    except InvalidInput:
        return ParkedTask(_task_try(instance), None)


def _task_try(instance: Mapping[str, Any]) -> TaskTry:
    names = ("dag_id", "dag_run_id", "task_id", "map_index", "id", "try_number")
    return TaskTry(*(instance[name] for name in names))
