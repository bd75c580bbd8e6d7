"""Mode `set_state`: the sink pushes the XComs of a task, then sets its state."""

from typing import Any

import pytest
from airflow_setup import EVENT_ID, OTHER_ID, AirflowSetup, rejection

from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected


async def test_set_state_pushes_the_event_id_and_the_result_before_the_state(setup: AirflowSetup) -> None:
    assert await setup.deliver("set_state") == Delivered()
    assert setup.airflow.changes == [
        ("POST", {"key": "waitd_event_id", "value": EVENT_ID, "map_index": -1}),
        ("POST", {"key": "return_value", "value": {"rows": 3}, "map_index": -1}),
        ("PATCH", {"new_state": "success"}),
    ]


@pytest.mark.parametrize(
    ("state", "soft_fail", "new_state"),
    [("failed", False, "failed"), ("timeout", False, "failed"), ("failed", True, "skipped"), ("timeout", True, "skipped"),
     ("success", True, "success")],
)  # fmt: skip
async def test_set_state_sets_one_of_three_states(
    setup: AirflowSetup, state: str, soft_fail: bool, new_state: str
) -> None:
    assert await setup.deliver("set_state", state=state, soft_fail=soft_fail) == Delivered()
    assert setup.airflow.bodies_of("PATCH") == [{"new_state": new_state}]
    assert ("return_value" in setup.airflow.xcoms) == (state == "success")


async def test_set_state_uses_xcom_key_and_pushes_no_null(setup: AirflowSetup) -> None:
    await setup.deliver("set_state", xcom_key="rows")
    assert set(setup.airflow.xcoms) == {"waitd_event_id", "rows"}
    setup.airflow.state, setup.airflow.xcoms = "deferred", {}
    await setup.deliver("set_state", payload=None)
    assert set(setup.airflow.xcoms) == {"waitd_event_id"}


@pytest.mark.parametrize("end", ["/xcomEntries", "/-1"])
@pytest.mark.parametrize("failure", [503, "lost"])
async def test_set_state_continues_after_a_failed_request(
    setup: AirflowSetup, end: str, failure: Any
) -> None:
    method = "POST" if end == "/xcomEntries" else "PATCH"
    setup.airflow.fail[method, end] = failure
    assert isinstance(await setup.deliver("set_state"), DeliveryFailed)
    assert await setup.deliver("set_state") == Delivered()
    assert setup.airflow.state == "success"
    assert setup.airflow.xcoms == {"waitd_event_id": EVENT_ID, "return_value": {"rows": 3}}


async def test_set_state_does_not_end_a_task_with_another_event_id(setup: AirflowSetup) -> None:
    setup.airflow.xcoms = {"waitd_event_id": OTHER_ID}
    assert rejection(await setup.deliver("set_state")).startswith("superseded")
    assert setup.airflow.bodies_of("PATCH") == []


@pytest.mark.parametrize("mine", ["mine", "[" * 100_000], ids=["text", "nested too deeply"])
async def test_set_state_does_not_overwrite_a_result(setup: AirflowSetup, mine: str) -> None:
    setup.airflow.xcoms = {"return_value": mine}
    assert isinstance(await setup.deliver("set_state"), DeliveryRejected)
    assert setup.airflow.xcoms["return_value"] == mine
    assert setup.airflow.bodies_of("PATCH") == []


@pytest.mark.parametrize("payload", [{"rows": 3}, "42", 42])
async def test_a_repeated_delivery_recognizes_xcoms_that_airflow_stored_as_text(
    setup: AirflowSetup, payload: Any
) -> None:
    setup.airflow.is_below_32, setup.airflow.state = True, "deferred"
    setup.airflow.fail["PATCH", "/-1"] = 503
    assert isinstance(await setup.deliver("set_state", payload=payload), DeliveryFailed)
    assert await setup.deliver("set_state", payload=payload) == Delivered()
