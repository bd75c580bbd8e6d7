"""The sweep and the list of parked tasks, with a fake of Airflow 3.3.2's lists and a real store."""

from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from authorized import FakeResolver, authorized_connections
from daemon import serving
from fake_task_lists import REGISTRATION, FakeTaskInstances, ti_id

from waitd.core.airflow.registration import render_registration
from waitd.core.connections.connection import Connection
from waitd.core.waits.wait import WaitSpec
from waitd.models import Registration
from waitd.outgoing import EgressGuard
from waitd.ports import Inserted, NewWait
from waitd.sinks.airflow import api as airflow_api
from waitd.sinks.airflow import sweep as airflow_sweep
from waitd.sinks.airflow.api import AirflowApis, AirflowRequestFailed
from waitd.sinks.airflow.parked import parked_tasks
from waitd.sinks.airflow.sweep import AirflowSweep
from waitd.stores import Store, open_database


class SweepSetup:
    """An Airflow, a store, and the sweep between them."""

    def __init__(self, airflow: FakeTaskInstances, store: Store, apis: AirflowApis) -> None:
        self.airflow = airflow
        self.store = store
        self.apis = apis
        self.sweep = AirflowSweep(store, apis)
        self._ids: dict[str, str] = {}

    async def add_wait(
        self, task: str, state: str | None = None, *, conn_id: str = "airflow", mode: str = "resume"
    ) -> None:
        """Adds a wait of a task that is in this state."""
        task_params = {
            "dag_id": "etl",
            "run_id": "r1",
            "task_id": task,
            "ti_id": ti_id(task),
            "try_number": 1,
        }
        sinks = (
            {"kind": "webhook", "url": "https://example.org"},
            {"kind": "airflow", "conn_id": conn_id, "mode": mode, **task_params},
        )
        await self.add(task, sinks)
        self.airflow.states[task] = state

    async def add(self, name: str, sinks: Any) -> None:
        [added] = await self.store.insert(
            [NewWait("default", WaitSpec("http", {}, 60.0, 600.0, sinks=sinks))]
        )
        assert isinstance(added, Inserted)
        self._ids[name] = added.wait.id

    async def messages(self) -> dict[str, str]:
        """The message of each wait that the sweep has cancelled, by task."""
        outcomes = {task: (await self.store.get(wait_id)).outcome for task, wait_id in self._ids.items()}
        ended = {task: outcome for task, outcome in outcomes.items() if outcome is not None}
        assert all((end.state, end.reason) == ("cancelled", "task_gone") for end in ended.values())
        return {task: end.message for task, end in ended.items()}


@pytest.fixture
async def setup(tmp_path: Path) -> AsyncIterator[SweepSetup]:
    airflow, egress = FakeTaskInstances(), EgressGuard()
    store = Store(
        await open_database(f"sqlite+aiosqlite:///{tmp_path / 'waitd.db'}"),
        destination_of=lambda *_: "somewhere",
    )
    async with serving("*", "/airflow/{path:.*}", airflow.answer) as url:
        resolver = FakeResolver(
            Connection("airflow", "airflow", host=f"{url}/airflow", password="a.static.token"),
            Connection("down", "airflow", host="http://127.0.0.1:1", password="a.static.token"),
        )
        async with (
            authorized_connections(resolver, egress) as connections,
            AirflowApis(connections, egress, lambda: 0.0) as apis,
        ):
            yield SweepSetup(airflow, store, apis)
    await store.close()


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Sets limits of the sweep."""

    def set_limits(**values: int) -> None:
        for name, value in values.items():
            monkeypatch.setattr(airflow_sweep, name, value)

    return set_limits


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
@pytest.mark.parametrize(
    "state", ["failed", "success", "skipped", "upstream_failed", "removed", "up_for_retry"]
)
async def test_the_wait_of_a_task_that_has_ended_is_cancelled(
    setup: SweepSetup, mode: str, state: str
) -> None:
    await setup.add_wait("gone", state, mode=mode)
    await setup.add_wait("parked", "deferred", mode=mode)
    await setup.sweep.sweep()
    assert await setup.messages() == {"gone": f"its task in Airflow is {state}"}


@pytest.mark.parametrize(
    "state",
    ["awaiting_input", "deferred", "up_for_reschedule", "running", "queued", "scheduled", "restarting", None],
)
async def test_a_parked_or_running_task_keeps_its_wait(setup: SweepSetup, state: str | None) -> None:
    await setup.add_wait("wait", state)
    for _ in range(3):
        await setup.sweep.sweep()
    assert await setup.messages() == {}


async def test_the_wait_of_a_cleared_task_is_cancelled(setup: SweepSetup) -> None:
    await setup.add_wait("wait", "awaiting_input")
    setup.airflow.ids["wait"] = ti_id("its second try")
    await setup.sweep.sweep()
    assert await setup.messages() == {"wait": "its task has another try in Airflow"}


async def test_a_missing_task_must_be_missing_in_two_passes(setup: SweepSetup) -> None:
    await setup.add_wait("wait", "awaiting_input")
    await setup.add_wait("back", "awaiting_input")
    del setup.airflow.states["wait"], setup.airflow.states["back"]
    await setup.sweep.sweep()
    assert await setup.messages() == {}
    setup.airflow.states["back"] = "awaiting_input"
    await setup.sweep.sweep()
    assert await setup.messages() == {"wait": "its task instance no longer exists in Airflow"}


@pytest.mark.parametrize("status", [401, 403, 404, 422, 429, 500, 503])
async def test_a_failing_airflow_cancels_nothing(setup: SweepSetup, status: int) -> None:
    await setup.add_wait("wait", "failed")
    setup.airflow.status = status
    for _ in range(3):
        await setup.sweep.sweep()
    assert await setup.messages() == {}
    setup.airflow.status = 200
    await setup.sweep.sweep()
    assert list(await setup.messages()) == ["wait"]


async def test_an_unreachable_airflow_does_not_delay_the_others(setup: SweepSetup) -> None:
    await setup.add_wait("there", "failed")
    await setup.add_wait("elsewhere", "failed", conn_id="down")
    await setup.sweep.sweep()
    assert list(await setup.messages()) == ["there"]


async def test_only_waits_of_tasks_are_checked(setup: SweepSetup) -> None:
    await setup.add("run", ({"kind": "airflow", "conn_id": "airflow", "mode": "dag_run", "dag_id": "etl"},))
    await setup.add("webhook", ({"kind": "webhook", "url": "https://example.org"},))
    await setup.sweep.sweep()
    assert setup.airflow.requests == []
    assert await setup.messages() == {}


async def test_missing_tasks_are_remembered_between_passes(
    setup: SweepSetup, limits: Callable[..., None]
) -> None:
    """Each round of a pass checks some tasks; it must keep what the other rounds have found."""
    limits(ROUND_SIZE=2, STORE_PAGE_SIZE=1, MAX_ROUNDS=1)
    for n in range(5):
        await setup.add_wait(f"task{n}", "deferred")
    for missing in ("task0", "task4"):
        del setup.airflow.states[missing]
    for _ in range(3):
        await setup.sweep.sweep()
    assert await setup.messages() == {}, "each task was checked once"
    for _ in range(3):
        await setup.sweep.sweep()
    assert set(await setup.messages()) == {"task0", "task4"}


async def test_rounds_are_bounded_and_start_over(
    setup: SweepSetup, limits: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    limits(ROUND_SIZE=4, STORE_PAGE_SIZE=2, MAX_ROUNDS=1)
    monkeypatch.setattr(airflow_api, "PAGE_SIZE", 2)
    for number in range(10):
        await setup.add_wait(f"task-{number}", "awaiting_input")
    setup.airflow.states["task-1"] = setup.airflow.states["task-9"] = "failed"
    await setup.sweep.sweep()
    assert list(await setup.messages()) == ["task-1"]
    assert len(setup.airflow.requests) == 4  # the version, two pages, and one request for a single task
    await setup.sweep.sweep()
    await setup.sweep.sweep()
    assert list(await setup.messages()) == ["task-1", "task-9"]
    setup.airflow.states["task-0"] = "failed"
    await setup.sweep.sweep()
    assert list(await setup.messages()) == ["task-0", "task-1", "task-9"]


async def test_a_sweep_makes_up_to_the_maximum_of_rounds(
    setup: SweepSetup, limits: Callable[..., None]
) -> None:
    limits(ROUND_SIZE=2, STORE_PAGE_SIZE=2, MAX_ROUNDS=3)
    for number in range(8):
        await setup.add_wait(f"task-{number}", "failed")
    await setup.sweep.sweep()
    assert len(await setup.messages()) == 6
    await setup.sweep.sweep()
    assert len(await setup.messages()) == 8


# -------------------------------------------------------- the list of `waitd airflow reconcile`


async def test_parked_tasks_are_listed_with_their_registrations(
    setup: SweepSetup, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow_api, "PAGE_SIZE", 2)
    for number in range(3):
        setup.airflow.states[f"input-{number}"] = "awaiting_input"
        setup.airflow.bodies[f"input-{number}"] = render_registration(REGISTRATION, "http://waitd")
        setup.airflow.states[f"deferred-{number}"] = "deferred"
        setup.airflow.registrations[f"deferred-{number}"] = REGISTRATION
    setup.airflow.states |= {"approve": "awaiting_input", "other": "deferred", "ended": "success"}
    setup.airflow.bodies["approve"] = "Approve the deployment?"
    setup.airflow.registrations["deferred-2"] = {"of": "another version"}
    parked = {task.task_try.task_id: task async for task in parked_tasks(await setup.apis.connect("airflow"))}
    assert sorted(parked) == ["deferred-0", "deferred-1", "deferred-2", "input-0", "input-1", "input-2"]
    assert parked["deferred-2"].registration is None
    assert parked["input-1"].registration == parked["deferred-1"].registration == Registration(**REGISTRATION)
    assert parked["input-1"].task_try == ("etl", "r1", "input-1", -1, ti_id("input-1"), 1)


async def test_below_airflow_3_3_no_task_awaits_input(setup: SweepSetup) -> None:
    setup.airflow.version = "3.2.2"
    await setup.add_wait("gone", "failed", mode="set_state")
    await setup.add_wait("parked", "deferred", mode="set_state")
    await setup.sweep.sweep()
    assert await setup.messages() == {"gone": "its task in Airflow is failed"}
    setup.airflow.registrations["parked"] = REGISTRATION
    [task] = [task async for task in parked_tasks(await setup.apis.connect("airflow"))]
    assert task.registration == Registration(**REGISTRATION)


@pytest.mark.parametrize("status", [401, 403, 404, 500])
async def test_a_failing_list_is_not_an_empty_one(setup: SweepSetup, status: int) -> None:
    setup.airflow.status = status
    with pytest.raises(AirflowRequestFailed):
        [task async for task in parked_tasks(await setup.apis.connect("airflow"))]
