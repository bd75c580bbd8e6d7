"""The tasks that are parked in Airflow for waitd, and the registrations that they left there: what is known of waits where waitd's own
disk is lost.
"""

from collections.abc import AsyncIterator, Mapping
from typing import Any, NamedTuple

from waitd.core.airflow.callback import TaskTry
from waitd.core.airflow.registration import REGISTRATION_KEY, TRIGGER_CLASS, parse_registration
from waitd.core.errors import InvalidInput, WaitdError
from waitd.models import Registration, parsed
from waitd.sinks.airflow.api import AirflowApi, AirflowRequestFailed

#: How many Airflow gives at once (its own `[api] maximum_page_limit`).
PAGE = 100


class ParkedTask(NamedTuple):
    """A task of waitd's. `registration` is None where what it left cannot be read."""

    place: TaskTry
    registration: Registration | None


class ParkedTasksUnavailable(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """Airflow did not say which tasks are parked."""


async def parked_tasks(api: AirflowApi) -> AsyncIterator[ParkedTask]:
    """Every task that is parked for waitd now, page by page. One that parks or wakes meanwhile may be missing.

    Raises:
        ParkedTasksUnavailable: Airflow did not answer, or said no.
    """
    try:
        async for detail in _pages(api, "hitl_details", _waiting_for_input):
            left = parse_registration(detail.get("body"))
            if left is not None:
                yield _parked(detail["task_instance"], left)
        async for instance in _pages(api, "task_instances", _deferred):
            if (instance.get("trigger") or {}).get("classpath") == TRIGGER_CLASS:
                yield _parked(instance, await _stored(api, instance))
    except AirflowRequestFailed as stopped:
        raise ParkedTasksUnavailable(stopped.why) from None


async def _waiting_for_input(api: AirflowApi, offset: int) -> Any:
    query = {"response_received": "false", "state": "awaiting_input", "order_by": "ti_id"}
    query |= {"limit": str(PAGE), "offset": str(offset)}
    return await api.request("GET", "dags", "~", "dagRuns", "~", "hitlDetails", query=query)


async def _deferred(api: AirflowApi, offset: int) -> Any:
    body = {"state": ["deferred"], "order_by": "id", "page_limit": PAGE, "page_offset": offset}
    return await api.request("POST", "dags", "~", "dagRuns", "~", "taskInstances", "list", body=body)


async def _pages(api: AirflowApi, name: str, ask: Any) -> AsyncIterator[Mapping[str, Any]]:
    """Each item of a list of Airflow's, asked for in pages."""
    offset = 0
    while True:
        answer = await ask(api, offset)
        items = answer.fields.get(name)
        if answer.status != 200 or not isinstance(items, list):
            raise ParkedTasksUnavailable(
                f"Airflow answered {answer.status} to the question which tasks are parked"
            )
        for item in items:
            yield item
        offset += len(items)
        if len(items) < PAGE:
            return


async def _stored(api: AirflowApi, instance: Mapping[str, Any]) -> Any:
    place = _place(instance)
    path = ("dags", place.dag_id, "dagRuns", place.run_id, "taskInstances", place.task_id)
    query = {"map_index": str(place.map_index)}
    answer = await api.request("GET", *path, "state-store", REGISTRATION_KEY, query=query)
    return answer.fields.get("value")


def _parked(instance: Mapping[str, Any], left: Any) -> ParkedTask:
    try:
        return ParkedTask(_place(instance), parsed(Registration, left))
    except InvalidInput:
        return ParkedTask(_place(instance), None)


def _place(instance: Mapping[str, Any]) -> TaskTry:
    names = ("dag_id", "dag_run_id", "task_id", "map_index", "id", "try_number")
    return TaskTry(*(instance[name] for name in names))
