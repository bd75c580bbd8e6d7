"""The sweep: waits whose task in Airflow is no longer parked (killed, cleared, marked by hand, its run deleted) are cancelled.

Airflow tells nobody of that. So it is asked, in bulk, which of the registered task instances are still parked. One that is missing in the
answer is only suspected; it is then asked for by itself, and what is seen there decides. An Airflow that does not answer ends nothing.
"""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import anyio
import structlog

from waitd.core.airflow.callback import PARKED_STATES, TaskTry, TryStatus, try_status
from waitd.core.errors import InvalidInput, StoreUnavailable, Unavailable, WaitdError
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.wait import WaitId
from waitd.ports import AirflowWait, SweepStore
from waitd.sinks.airflow.api import AirflowApi, AirflowApis, AirflowRequestFailed
from waitd.sinks.airflow.params import parse_airflow_target

log = structlog.get_logger(__name__)

#: How many waits of one connection a round looks at; the next round goes on behind them.
ROUND = 2000
#: How many rounds a sweep makes at most: a hundred requests, and about two seconds of CPU.
ROUNDS = 5
#: How many of them are read at once: that takes a millisecond or two, in which nothing else has a turn.
AT_ONCE = 50
#: How many task instances Airflow gives at once (its own `[api] maximum_page_limit`).
PAGE = 100
#: How many pages a round reads of one connection: of ten waits' tasks, one may stand among as many others again.
PAGES = 2 * ROUND // PAGE
#: How many suspects a round asks for one by one; the others stay suspected.
SUSPECTS = 200
#: How long a sweep may take at one connection, seconds.
PATIENCE = 50.0

_NOT_FOUND = "Airflow has no such task instance any more"


class AirflowSweep:
    """Looks for gone tasks, a round at a time. A pass is as many rounds as it takes to look at all waits of a connection; what is
    remembered between them is how far it got, and who was not found.
    """

    def __init__(self, store: SweepStore, apis: AirflowApis) -> None:
        self._store = store
        self._apis = apis
        self._after: dict[str, WaitId] = {}
        #: Who was not found in this pass, and who was not in the pass before; by connection.
        self._missing: defaultdict[str, set[WaitId]] = defaultdict(set)
        self._missed: dict[str, set[WaitId]] = {}

    async def run(self, every: float) -> None:
        """Sweeps each `every` seconds until it is cancelled."""
        while True:
            await anyio.sleep(every)
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("airflow_not_swept", why=str(error))

    async def sweep(self) -> None:
        """Some rounds over every connection, each for itself: one that hangs does not hold up the others. Raises StoreUnavailable."""
        conn_ids = await self._store.airflow_connections()
        self._after = {conn_id: after for conn_id, after in self._after.items() if conn_id in conn_ids}
        async with anyio.create_task_group() as tasks:
            for conn_id in conn_ids:
                tasks.start_soon(self._sweep, conn_id, name=f"sweep {conn_id}")

    async def _sweep(self, conn_id: str) -> None:
        try:
            with anyio.move_on_after(PATIENCE) as patience:
                for _ in range(ROUNDS):
                    await self._round(conn_id)
                    if conn_id not in self._after:
                        break
        except AirflowRequestFailed as stopped:
            log.warning("airflow_not_swept", conn_id=conn_id, why=stopped.why)
        except (WaitdError, ValueError) as error:
            log.warning("airflow_not_swept", conn_id=conn_id, why=str(error))
        else:
            if patience.cancelled_caught:
                log.warning("airflow_not_swept", conn_id=conn_id, why=f"it took over {PATIENCE:g} s")

    async def _round(self, conn_id: str) -> None:
        places, after = await self._registered(conn_id)
        if places:
            api = await self._apis.connect(conn_id)
            parked = await _parked(api, places.values())
            suspects = [wait_id for wait_id, place in places.items() if place.ti_id not in parked]
            for wait_id in suspects[:SUSPECTS]:
                why = await _why_gone(api, places[wait_id])
                if why == _NOT_FOUND and wait_id not in self._missed.get(conn_id, ()):
                    self._missing[conn_id].add(wait_id)  # once may be a mistake
                elif why is not None:
                    await self._cancel(wait_id, why)
        if after is not None:
            self._after[conn_id] = after
        else:
            self._after.pop(conn_id, None)
            self._missed[conn_id] = self._missing.pop(conn_id, set())

    async def _registered(self, conn_id: str) -> tuple[Mapping[WaitId, TaskTry], WaitId | None]:
        """The parked tasks of this round's waits, and behind which wait the next round begins; None: at the first."""
        places: dict[WaitId, TaskTry] = {}
        after = self._after.get(conn_id)
        for _ in range(ROUND // AT_ONCE):
            page = await self._store.find_airflow_waits(conn_id, after, AT_ONCE)
            places |= {told.wait_id: place for told in page if (place := _place(told)) is not None}
            if len(page) < AT_ONCE:
                return places, None
            after = page[-1].wait_id
        return places, after

    async def _cancel(self, wait_id: WaitId, why: str) -> None:
        try:
            await self._store.cancel(wait_id, cancelled_outcome("task_gone", why))
        except Unavailable:
            raise
        except WaitdError:
            return  # it has ended meanwhile
        log.info("wait_of_gone_task_cancelled", wait_id=wait_id, why=why)


def _place(told: AirflowWait) -> TaskTry | None:
    """The parked task that a sink goes back to; None where it starts something new, or cannot be read any more."""
    try:
        place = parse_airflow_target(
            {name: value for name, value in told.sink.items() if name != "kind"}
        ).place
    except InvalidInput:
        return None
    return place if isinstance(place, TaskTry) else None


async def _parked(api: AirflowApi, places: Collection[TaskTry]) -> frozenset[str]:
    """The ids of parked task instances, among them those at these places. Raises Stopped."""
    wanted = {place.ti_id for place in places}
    asked = {
        "dag_ids": sorted({place.dag_id for place in places}),
        "dag_run_ids": sorted({place.run_id for place in places}),
        "task_ids": sorted({place.task_id for place in places}),
        "state": sorted(PARKED_STATES),
        "order_by": "id",
        "page_limit": PAGE,
    }
    parked: set[str] = set()
    for number in range(PAGES):
        body = {**asked, "page_offset": number * PAGE}
        answer = await api.request("POST", "dags", "~", "dagRuns", "~", "taskInstances", "list", body=body)
        found: Sequence[Mapping[str, Any]] | None = answer.fields.get("task_instances")
        if answer.status != 200 or found is None:
            raise ValueError(f"Airflow answered {answer.status} to the question which tasks are parked")
        parked.update(instance["id"] for instance in found)
        if len(found) < PAGE or wanted <= parked:
            break
    return frozenset(parked)


async def _why_gone(api: AirflowApi, place: TaskTry) -> str | None:
    """Why a task will not take an outcome any more; None: it may. Raises Stopped."""
    path = (
        "dags",
        place.dag_id,
        "dagRuns",
        place.run_id,
        "taskInstances",
        place.task_id,
        str(place.map_index),
    )
    answer = await api.request("GET", *path)
    if answer.status == 404 and "detail" in answer.fields:
        return _NOT_FOUND
    if answer.status != 200 or try_status(answer.fields, place, by_response=False) is not TryStatus.PAST:
        return None
    if answer.fields.get("id") != place.ti_id:
        return "another try of its task stands in Airflow"
    return f"its task in Airflow is {answer.fields.get('state')}"
