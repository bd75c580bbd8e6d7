"""Mode `clear`: the sink stores the outcome and clears the task, never twice."""

import json
from typing import Any

import pytest
from aiohttp import web
from airflow_setup import EVENT_ID, OTHER_ID, TASK_OUTCOME, AirflowSetup, rejection
from fake_airflow import TI_ID

from waitd.core.airflow.callback import CLEAR_SECONDS
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryPostponed, DeliveryRejected


async def test_clear_stores_the_outcome_and_clears(setup: AirflowSetup) -> None:
    assert await setup.deliver("clear") == Delivered()
    assert setup.airflow.store == {"waitd_outcome": {**TASK_OUTCOME, "sent_at": setup.clock()}}
    assert setup.airflow.bodies_of("POST") == [
        {"dry_run": False, "dag_run_id": "r1", "task_ids": [["wait", -1]], "only_failed": False, "reset_dag_runs": False,
         "prevent_running_task": True}
    ]  # fmt: skip


async def test_clear_is_not_repeated_when_its_answer_was_lost(setup: AirflowSetup) -> None:
    setup.airflow.fail["POST", "/clearTaskInstances"] = "lost"
    assert isinstance(await setup.deliver("clear"), DeliveryFailed)
    assert await setup.deliver("clear") == Delivered()
    assert len(setup.airflow.bodies_of("POST")) == 1


async def send_unanswered_clear(setup: AirflowSetup) -> str:
    """Sends a clear that gets a proxy's 504 and waits a minute; returns its audit log entry."""
    setup.airflow.fail["POST", "/clearTaskInstances"] = 504
    assert isinstance(await setup.deliver("clear"), DeliveryFailed)
    setup.clock.at += CLEAR_SECONDS - 1
    assert isinstance(await setup.deliver("clear", age=CLEAR_SECONDS - 1), DeliveryPostponed)
    assert len(setup.airflow.bodies_of("POST")) == 1
    setup.clock.at += 1
    return json.dumps({"waitd_clear": f"{EVENT_ID}@{setup.airflow.store['waitd_outcome']['sent_at']:.3f}"})


async def test_a_clear_that_airflow_never_received_is_repeated(setup: AirflowSetup) -> None:
    await send_unanswered_clear(setup)
    assert await setup.deliver("clear", age=CLEAR_SECONDS) == Delivered()
    assert len(setup.airflow.bodies_of("POST")) == 2


async def test_a_clear_in_the_audit_log_is_never_repeated(setup: AirflowSetup) -> None:
    entry = await send_unanswered_clear(setup)
    others = [json.dumps({"waitd_clear": f"{OTHER_ID}@{n}"}) for n in range(150)]
    setup.airflow.audit = [*others, entry]
    error = rejection(await setup.deliver("clear", age=CLEAR_SECONDS))
    assert "Airflow's audit log has it;" in error
    assert "redeliver" in error
    assert setup.airflow.store["waitd_outcome"]["event_id"] == EVENT_ID  # a person can still clear the task
    assert len(setup.airflow.bodies_of("POST")) == 1


@pytest.mark.parametrize(
    ("audit", "fail", "reason"),
    [
        ([], {("GET", "/eventLogs"): 403}, "audit log cannot be read (Airflow answered 403"),
        (["{}"] * 1001, {}, "audit log is too long"),
    ],
)
async def test_a_clear_of_unknown_effect_is_never_repeated(
    setup: AirflowSetup, audit: list[str], fail: dict[tuple[str, str], Any], reason: str
) -> None:
    await send_unanswered_clear(setup)
    setup.airflow.audit, setup.airflow.fail = audit, fail
    assert reason in rejection(await setup.deliver("clear", age=CLEAR_SECONDS))
    assert len(setup.airflow.bodies_of("POST")) == 1


async def test_an_unavailable_audit_log_is_retried(setup: AirflowSetup) -> None:
    await send_unanswered_clear(setup)
    for failure in (503, 404):
        setup.airflow.fail["GET", "/eventLogs"] = failure
        assert isinstance(await setup.deliver("clear", age=CLEAR_SECONDS), DeliveryFailed)
    assert len(setup.airflow.bodies_of("POST")) == 1
    assert await setup.deliver("clear", age=CLEAR_SECONDS) == Delivered()


async def test_no_clear_is_sent_while_the_state_store_is_unavailable(setup: AirflowSetup) -> None:
    await send_unanswered_clear(setup)
    for failure in (503, 400, web.Response(status=404, text="from a proxy")):
        setup.airflow.fail["GET", "/state-store/waitd_outcome"] = failure
        assert isinstance(await setup.deliver("clear", age=CLEAR_SECONDS), DeliveryFailed)
    assert len(setup.airflow.bodies_of("POST")) == 1


@pytest.fixture
def older(setup: AirflowSetup) -> AirflowSetup:
    """An Airflow without state stores, as below 3.3."""
    setup.airflow.has_state_store = False
    return setup


def clears(setup: AirflowSetup) -> int:
    return len([body for body in setup.airflow.bodies_of("POST") if "task_ids" in body])


async def test_without_a_state_store_an_xcom_says_which_clear_was_sent(older: AirflowSetup) -> None:
    older.airflow.fail["POST", "/clearTaskInstances"] = 504
    assert isinstance(await older.deliver("clear"), DeliveryFailed)
    older.clock.at += CLEAR_SECONDS - 1
    assert isinstance(await older.deliver("clear", age=CLEAR_SECONDS - 1), DeliveryPostponed)
    assert clears(older) == 1
    older.clock.at += 1
    assert await older.deliver("clear", age=CLEAR_SECONDS) == Delivered()
    assert clears(older) == 2
    assert older.airflow.xcoms == {"waitd_outcome": {"event_id": EVENT_ID, "sent_at": older.clock()}}


async def test_without_a_state_store_a_clear_whose_answer_was_lost_is_not_repeated(
    older: AirflowSetup,
) -> None:
    older.airflow.fail["POST", "/clearTaskInstances"] = "lost"
    assert isinstance(await older.deliver("clear"), DeliveryFailed)
    assert await older.deliver("clear") == Delivered()
    assert clears(older) == 1


@pytest.mark.parametrize("is_below_32", [False, True])
@pytest.mark.parametrize("attempts", [1, 2])
async def test_without_a_state_store_a_clear_without_an_answer_is_not_repeated(
    older: AirflowSetup, is_below_32: bool, attempts: int
) -> None:
    older.airflow.is_below_32 = is_below_32
    if attempts == 2:  # the XCom of the first one is changed
        older.airflow.fail["POST", "/clearTaskInstances"] = 409
        assert isinstance(await older.deliver("clear"), DeliveryFailed)
    older.airflow.fail["POST", "/clearTaskInstances"] = 504
    assert isinstance(await older.deliver("clear"), DeliveryFailed)
    assert isinstance(await older.deliver("clear"), DeliveryPostponed)
    assert clears(older) == attempts


async def test_without_a_state_store_a_refused_clear_is_repeated(older: AirflowSetup) -> None:
    older.airflow.fail["POST", "/clearTaskInstances"] = 409
    assert isinstance(await older.deliver("clear"), DeliveryFailed)
    assert older.airflow.xcoms == {"waitd_outcome": None}
    assert await older.deliver("clear") == Delivered()


async def test_an_airflow_that_cannot_prevent_the_clear_of_a_running_task_is_not_asked_to(
    older: AirflowSetup,
) -> None:
    older.airflow.is_below_32 = True
    assert await older.deliver("clear") == Delivered()
    assert len(older.airflow.audit) == 1


async def test_the_audit_log_is_searched_for_the_last_clear(setup: AirflowSetup) -> None:
    """The first clear was never received.

    The second one was received but had no effect, and its answer was lost.
    """
    await send_unanswered_clear(setup)
    setup.airflow.fail["POST", "/clearTaskInstances"] = "lost"
    assert isinstance(await setup.deliver("clear", age=CLEAR_SECONDS), DeliveryFailed)
    setup.airflow.ti_id, setup.airflow.state = TI_ID, "deferred"  # rolled back
    setup.clock.at += CLEAR_SECONDS
    assert isinstance(await setup.deliver("clear", age=2 * CLEAR_SECONDS), DeliveryRejected)
    assert len(setup.airflow.bodies_of("POST")) == 2


async def test_a_redelivery_repeats_the_clear(setup: AirflowSetup) -> None:
    setup.airflow.audit = [await send_unanswered_clear(setup)]
    assert isinstance(await setup.deliver("clear", age=CLEAR_SECONDS), DeliveryRejected)
    assert await setup.deliver("clear", age=0) == Delivered()  # a new delivery
    assert len(setup.airflow.bodies_of("POST")) == 2


async def test_a_clear_that_airflow_refuses_is_repeated(setup: AirflowSetup) -> None:
    setup.airflow.fail["POST", "/clearTaskInstances"] = 409
    assert isinstance(await setup.deliver("clear"), DeliveryFailed)
    assert setup.airflow.store == {}
    assert await setup.deliver("clear") == Delivered()


async def test_a_stored_outcome_of_an_earlier_event_does_not_prevent_a_clear(setup: AirflowSetup) -> None:
    setup.airflow.store = {"waitd_outcome": {**TASK_OUTCOME, "event_id": OTHER_ID, "sent_at": setup.clock()}}
    assert await setup.deliver("clear") == Delivered()
    assert setup.airflow.store["waitd_outcome"]["event_id"] == EVENT_ID


async def test_a_payload_over_the_state_stores_limit_is_omitted(setup: AirflowSetup) -> None:
    payload = "ü" * 20_000  # Airflow stores each as six bytes
    assert await setup.deliver("clear", payload=payload) == Delivered()
    stored = setup.airflow.store["waitd_outcome"]
    assert (stored["payload"], stored["reason"], stored["event_id"]) == (None, "result_omitted", EVENT_ID)
