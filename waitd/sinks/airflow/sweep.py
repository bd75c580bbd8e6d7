"""The sweep: cancels waits whose task in Airflow is no longer parked.

A task may have been killed, cleared, marked by hand, or deleted with its run, and Airflow sends no
notification. So the sweep lists the parked task instances in bulk. A registered task that is
missing from the list is only suspected; a request for the task itself then decides. While Airflow
does not answer, no wait is cancelled.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping

import anyio
import structlog

from waitd.core.airflow.callback import TaskTry, TryStatus, try_status
from waitd.core.errors import InvalidInput, StoreUnavailable, Unavailable, WaitdError
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.wait import WaitId
from waitd.ports import AirflowWait, SweepStore
from waitd.sinks.airflow.api import EVERY_RUN, AirflowApi, AirflowApis, task_path
from waitd.sinks.airflow.params import parse_airflow_target

log = structlog.get_logger(__name__)

#: Waits of one connection per round; the next round continues after them.
ROUND_SIZE = 2000
#: Rounds per sweep at most: a hundred requests, and about two seconds of CPU.
MAX_ROUNDS = 5
#: Waits read from the store at once, which blocks the event loop for one or two milliseconds.
STORE_PAGE_SIZE = 50
#: Task instances that a round lists at most: as many others as registered ones may be among them.
MAX_INSTANCES = 2 * ROUND_SIZE
#: Suspects per round that are requested one by one; the others wait for the next pass.
MAX_SUSPECTS = 200
#: Seconds that a sweep of one connection may take.
TIMEOUT = 50.0

_NOT_FOUND = "its task instance no longer exists in Airflow"


class AirflowSweep:
    """Finds gone tasks, one round at a time.

    A pass is the rounds that cover all waits of a connection. Between rounds it remembers the last
    wait, and which tasks were not found.
    """

    def __init__(self, store: SweepStore, apis: AirflowApis) -> None:
        self._store = store
        self._apis = apis
        self._after: dict[str, WaitId] = {}
        #: Waits whose tasks were not found in this pass and in the one before, by connection.
        self._not_found: defaultdict[str, set[WaitId]] = defaultdict(set)
        self._not_found_before: dict[str, set[WaitId]] = {}

    async def run(self, interval: float) -> None:
        """Sweeps every `interval` seconds until it is cancelled."""
        while True:
            await anyio.sleep(interval)
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("airflow_not_swept", why=str(error))

    async def sweep(self) -> None:
        """Makes some rounds over every connection. Raises StoreUnavailable.

        Connections are swept concurrently, so one that hangs does not delay the others.
        """
        conn_ids = await self._store.airflow_connections()
        self._after = {conn_id: after for conn_id, after in self._after.items() if conn_id in conn_ids}
        async with anyio.create_task_group() as tasks:
            for conn_id in conn_ids:
                tasks.start_soon(self._sweep, conn_id, name=f"sweep {conn_id}")

    async def _sweep(self, conn_id: str) -> None:
        try:
            with anyio.move_on_after(TIMEOUT) as timeout:
                for _ in range(MAX_ROUNDS):
                    await self._round(conn_id)
                    if conn_id not in self._after:
                        break
        except (WaitdError, ValueError) as error:
            log.warning("airflow_not_swept", conn_id=conn_id, why=str(error))
        else:
            if timeout.cancelled_caught:
                log.warning("airflow_not_swept", conn_id=conn_id, why=f"it took longer than {TIMEOUT:g} s")

    async def _round(self, conn_id: str) -> None:
        tasks, after = await self._registered_tasks(conn_id)
        if tasks:
            api = await self._apis.connect(conn_id)
            not_parked = await _find_not_parked(api, tasks.values(), await api.parked_states())
            suspects = [wait_id for wait_id, task in tasks.items() if task.ti_id in not_parked]
            for wait_id in suspects[:MAX_SUSPECTS]:
                why = await _why_gone(api, tasks[wait_id])
                if why == _NOT_FOUND and wait_id not in self._not_found_before.get(conn_id, ()):
                    # cancelled only if the next pass does not find it either
                    self._not_found[conn_id].add(wait_id)
                elif why is not None:
                    await self._cancel(wait_id, why)
        if after is not None:
            self._after[conn_id] = after
        else:
            self._after.pop(conn_id, None)
            self._not_found_before[conn_id] = self._not_found.pop(conn_id, set())

    async def _registered_tasks(self, conn_id: str) -> tuple[Mapping[WaitId, TaskTry], WaitId | None]:
        """The tasks of this round's waits, and the wait after which the next round continues.

        None: the pass is complete.
        """
        tasks: dict[WaitId, TaskTry] = {}
        after = self._after.get(conn_id)
        for _ in range(ROUND_SIZE // STORE_PAGE_SIZE):
            page = await self._store.find_airflow_waits(conn_id, after, STORE_PAGE_SIZE)
            tasks |= {wait.wait_id: task for wait in page if (task := _task_of(wait)) is not None}
            if len(page) < STORE_PAGE_SIZE:
                return tasks, None
            after = page[-1].wait_id
        return tasks, after

    async def _cancel(self, wait_id: WaitId, why: str) -> None:
        try:
            await self._store.cancel(wait_id, cancelled_outcome("task_gone", why))
        except Unavailable:
            raise
        except WaitdError:
            return  # the wait has ended meanwhile
        log.info("wait_of_gone_task_cancelled", wait_id=wait_id, why=why)


def _task_of(wait: AirflowWait) -> TaskTry | None:
    """The task that the wait's sink wakes; None where it starts something new or is invalid."""
    try:
        target = parse_airflow_target({name: value for name, value in wait.sink.items() if name != "kind"})
    except InvalidInput:
        return None
    return target.recipient if isinstance(target.recipient, TaskTry) else None


async def _find_not_parked(
    api: AirflowApi, tasks: Collection[TaskTry], states: Collection[str]
) -> frozenset[str]:
    """The ids of those of these task instances that are not parked.

    Raises AirflowRequestFailed.
    """
    missing = {task.ti_id for task in tasks}
    filters = {
        "dag_ids": sorted({task.dag_id for task in tasks}),
        "dag_run_ids": sorted({task.run_id for task in tasks}),
        "task_ids": sorted({task.task_id for task in tasks}),
        "state": sorted(states),
        "order_by": "id",
    }
    path = (*EVERY_RUN, "taskInstances", "list")
    async for instance in api.list("task_instances", *path, body=filters, max_listed=MAX_INSTANCES):
        missing.discard(instance["id"])
        if not missing:
            break
    return frozenset(missing)


async def _why_gone(api: AirflowApi, task: TaskTry) -> str | None:
    """Why a task can no longer accept an outcome; None: it may. Raises AirflowRequestFailed."""
    response = await api.request("GET", *task_path(task), str(task.map_index))
    if response.status == 404 and "detail" in response.fields:
        return _NOT_FOUND
    if response.status != 200 or try_status(response.fields, task, by_response=False) is not TryStatus.OVER:
        return None
    if response.fields.get("id") != task.ti_id:
        return "its task has another try in Airflow"
    return f"its task in Airflow is {response.fields.get('state')}"
