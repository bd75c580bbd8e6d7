"""The airflow sink: its parameters, its requests before a change, and who it does not change."""

from collections.abc import Mapping
from typing import Any

import pytest
from airflow_setup import ANY_TEXT, EVENT_ID, OTHER_ID, TASK_OUTCOME, TASK_PARAMS, AirflowSetup, rejection
from fake_airflow import NEXT_TI_ID, PREFIX, TASK, TI_ID

from waitd.core.airflow.callback import NOT_PARKED_GRACE
from waitd.core.errors import InvalidInput
from waitd.core.waits.delivery import (
    Delivered,
    DeliveryFailed,
    DeliveryPostponed,
    DeliveryRejected,
    DeliveryState,
    after_attempt,
)
from waitd.ports import Sink


def test_it_implements_the_port(setup: AirflowSetup) -> None:
    port: Sink = setup.sink
    target = port.parse({"conn_id": "team/airflow", **TASK_PARAMS})
    assert (target.destination, target.conn_id) == ("airflow team/airflow", "team/airflow")
    assert port.signed(target) is None


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
async def test_every_delivery_first_gets_the_task_instance(setup: AirflowSetup, mode: str) -> None:
    await setup.deliver(mode)
    first = next(call for call in setup.airflow.requests if not call[1].endswith("/auth/token"))
    assert first == ("GET", f"{PREFIX}/api/v2/{TASK}/-1", None)


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
@pytest.mark.parametrize(
    ("ti_id", "state"),
    [(NEXT_TI_ID, "awaiting_input"), (NEXT_TI_ID, "running"), (NEXT_TI_ID, None), (NEXT_TI_ID, "success")],
)
async def test_a_later_try_is_not_changed(
    setup: AirflowSetup, mode: str, ti_id: str, state: str | None
) -> None:
    setup.airflow.ti_id, setup.airflow.state = ti_id, state
    assert rejection(await setup.deliver(mode)).startswith("superseded")
    assert setup.airflow.changes == []


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
@pytest.mark.parametrize(
    "state", ["failed", "success", "skipped", "up_for_retry", "removed", "upstream_failed"]
)
async def test_a_task_that_was_marked_by_hand_is_not_changed_and_nothing_is_dead(
    setup: AirflowSetup, mode: str, state: str
) -> None:
    setup.airflow.state = state
    receipt = await setup.deliver(mode)
    assert receipt == Delivered(f"not needed: the task in Airflow is already {state}")
    after = after_attempt(1, receipt, now=0.0, jitter=0.5)
    assert (after.state, after.last_error) == (DeliveryState.DELIVERED, ANY_TEXT)
    assert setup.airflow.changes == []


@pytest.mark.parametrize(
    ("mode", "field", "value"),
    [
        ("resume", "response", TASK_OUTCOME),
        ("resume", "xcoms", {"waitd_event_id": EVENT_ID}),
        ("set_state", "xcoms", {"waitd_event_id": EVENT_ID}),
        ("clear", "store", {"waitd_outcome": TASK_OUTCOME}),
        ("clear", "xcoms", {"waitd_event_id": EVENT_ID}),
    ],
)
@pytest.mark.parametrize(("ti_id", "state"), [(NEXT_TI_ID, "running"), (TI_ID, "success"), (TI_ID, "queued")])
async def test_an_event_that_airflow_already_has_is_delivered(
    setup: AirflowSetup, mode: str, ti_id: str, state: str, field: str, value: Any
) -> None:
    setup.airflow.ti_id, setup.airflow.state = ti_id, state
    setattr(setup.airflow, field, value)
    assert await setup.deliver(mode) == Delivered()
    assert setup.airflow.changes == []


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
async def test_values_of_another_event_are_no_delivery(setup: AirflowSetup, mode: str) -> None:
    airflow = setup.airflow
    airflow.state, airflow.ti_id = "success", NEXT_TI_ID
    airflow.response = airflow.store["waitd_outcome"] = {**TASK_OUTCOME, "event_id": OTHER_ID}
    airflow.xcoms = {"waitd_event_id": OTHER_ID}
    assert isinstance(await setup.deliver(mode), DeliveryRejected)


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
@pytest.mark.parametrize("state", ["running", "queued", "scheduled", None, "gone"])
async def test_a_delivery_to_a_task_that_is_not_parked_is_postponed_for_an_hour(
    setup: AirflowSetup, mode: str, state: str | None
) -> None:
    setup.airflow.state, setup.airflow.has_hitl = state, False
    young, old = await setup.deliver(mode), await setup.deliver(mode, age=200)
    assert isinstance(young, DeliveryPostponed)
    assert isinstance(old, DeliveryPostponed)
    assert young.retry_after < old.retry_after <= 60
    assert isinstance(await setup.deliver(mode, age=NOT_PARKED_GRACE), DeliveryFailed)
    assert setup.airflow.changes == []


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
async def test_the_map_index_is_always_sent(setup: AirflowSetup, mode: str) -> None:
    setup.airflow.map_index = 7
    receipt = await (
        setup.deliver_after_hold_off(map_index=7) if mode == "resume" else setup.deliver(mode, map_index=7)
    )
    assert receipt == Delivered()  # the fake answers 404 for every other index


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear", "dag_run", "asset_event"])
async def test_a_cancelled_wait_is_not_delivered(setup: AirflowSetup, mode: str) -> None:
    assert isinstance(await setup.deliver(mode, state="cancelled"), DeliveryRejected)
    assert setup.airflow.requests == []


@pytest.mark.parametrize(
    ("params", "pointers"),
    [
        ({}, ["/conn_id"]),
        ({"conn_id": "c"}, ["/dag_id", "/run_id", "/task_id", "/ti_id", "/try_number"]),
        ({"conn_id": "c", "mode": "defer"}, ["/mode"]),
        ({"conn_id": "a b", **TASK_PARAMS}, ["/conn_id"]),
        ({"conn_id": "c", **TASK_PARAMS, "ti_id": "x"}, ["/ti_id"]),
        ({"conn_id": "c", **TASK_PARAMS, "map_index": -2}, ["/map_index"]),
        ({"conn_id": "c", **TASK_PARAMS, "map_index": "1"}, ["/map_index"]),
        ({"conn_id": "c", **TASK_PARAMS, "try_number": 0}, ["/try_number"]),
        ({"conn_id": "c", **TASK_PARAMS, "dag_id": ".."}, ["/dag_id"]),
        ({"conn_id": "c", **TASK_PARAMS, "dag_id": "../x"}, ["/dag_id"]),
        ({"conn_id": "c", **TASK_PARAMS, "task_id": "a/b"}, ["/task_id"]),
        ({"conn_id": "c", **TASK_PARAMS, "run_id": "a\nb"}, ["/run_id"]),
        ({"conn_id": "c", **TASK_PARAMS, "dag_id": "\ud800"}, ["/dag_id"]),
        ({"conn_id": "c", **TASK_PARAMS, "xcom_key": "k"}, ["/xcom_key"]),
        ({"conn_id": "c", **TASK_PARAMS, "state_store_key": "k"}, ["/state_store_key"]),
        ({"conn_id": "c", **TASK_PARAMS, "password": "k"}, ["/password"]),
        ({"conn_id": "c", "mode": "set_state", **TASK_PARAMS, "xcom_key": "waitd_event_id"}, ["/xcom_key"]),
        ({"conn_id": "c", "mode": "dag_run"}, ["/dag_id"]),
        ({"conn_id": "c", "mode": "dag_run", "dag_id": "d", "run_id": "r"}, ["/run_id"]),
        ({"conn_id": "c", "mode": "dag_run", "dag_id": "d", "conf": {"waitd": 1}}, ["/conf/waitd"]),
        ({"conn_id": "c", "mode": "dag_run", "dag_id": "d", "new_dag_run_id": "a/b"}, ["/new_dag_run_id"]),
        ({"conn_id": "c", "mode": "asset_event"}, [""]),
        ({"conn_id": "c", "mode": "asset_event", "asset_id": 1, "asset_uri": "s3://x"}, [""]),
        ({"conn_id": "c", "mode": "asset_event", "asset_id": 0}, ["/asset_id"]),
        ({"conn_id": "c", "mode": "asset_event", "asset_id": 1, "dag_id": "d"}, ["/dag_id"]),
    ],
)
def test_an_invalid_parameter_is_reported_with_a_pointer(
    setup: AirflowSetup, params: Mapping[str, Any], pointers: list[str]
) -> None:
    with pytest.raises(InvalidInput) as raised:
        setup.sink.parse(params)
    assert [problem.pointer for problem in raised.value.problems] == pointers


async def test_each_name_is_encoded_as_one_path_segment(setup: AirflowSetup) -> None:
    await setup.deliver(dag_id="a b?c#d%2e", run_id="manual__2026-11-21T00:00:00+00:00", task_id="group.wait")
    [path] = [path for _, path, _ in setup.airflow.requests if "dagRuns" in path]
    assert path.endswith(
        "/dags/a%20b%3Fc%23d%252e/dagRuns/manual__2026-11-21T00%3A00%3A00%2B00%3A00/taskInstances/group.wait/-1"
    )


def test_a_target_has_the_id_of_its_dag(setup: AirflowSetup) -> None:
    parse = setup.sink.parse
    assert parse({"conn_id": "c", **TASK_PARAMS}).dag_id == "etl"
    assert parse({"conn_id": "c", "mode": "dag_run", "dag_id": "d"}).dag_id == "d"
    assert parse({"conn_id": "c", "mode": "asset_event", "asset_id": 1}).dag_id is None
