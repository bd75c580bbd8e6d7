"""Mode `resume`: the sink responds to a parked task, once and after the hold-off."""

import asyncio

import pytest
from airflow_setup import ANY_TEXT, EVENT_ID, HOLD_OFF, OTHER_ID, TASK_OUTCOME, AirflowSetup, rejection
from authorized import authorized_connections
from daemon import until
from fake_airflow import NEXT_TI_ID, TASK, TI_ID

from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryPostponed, DeliveryRejected, Receipt
from waitd.outgoing import EgressGuard
from waitd.sinks.airflow.sink import AirflowSink
from waitd.sinks.airflow.tasks import SUPERSEDED


async def test_the_response_contains_the_outcome(setup: AirflowSetup) -> None:
    assert await setup.deliver_after_hold_off() == Delivered()
    assert setup.airflow.bodies_of("PATCH") == [{"chosen_options": ["done"], "params_input": TASK_OUTCOME}]
    assert f"{TASK}/-1/hitlDetails" in setup.airflow.requests[-2][1]


@pytest.mark.parametrize("state", ["failed", "timeout"])
@pytest.mark.parametrize("soft_fail", [True, False])
async def test_the_operator_decides_whether_to_fail_or_skip(
    setup: AirflowSetup, state: str, soft_fail: bool
) -> None:
    assert await setup.deliver_after_hold_off(state=state, soft_fail=soft_fail) == Delivered()
    [body] = setup.airflow.bodies_of("PATCH")
    assert (body["params_input"]["state"], body["params_input"]["soft_fail"]) == (state, soft_fail)


@pytest.mark.parametrize("ahead", [-3600.0, 0.0, 3600.0])
async def test_a_task_that_parked_long_ago_is_resumed_at_once(setup: AirflowSetup, ahead: float) -> None:
    """By Airflow's clock: waitd's may be an hour off."""
    setup.clock.at += 30
    setup.airflow.clock = lambda: setup.clock.at + ahead
    setup.airflow.created_at += ahead
    setup.airflow.queued_at += ahead
    assert await setup.deliver() == Delivered()


async def test_the_hold_off_starts_when_the_task_parked(setup: AirflowSetup) -> None:
    setup.airflow.state, setup.airflow.has_hitl = "running", False
    await setup.deliver()
    setup.clock.at += 100  # registered long ago, parked 4 s ago
    setup.airflow.state, setup.airflow.has_hitl = "awaiting_input", True
    setup.airflow.queued_at, setup.airflow.created_at = setup.clock.at - 6, setup.clock.at - 4
    assert await setup.deliver() == DeliveryPostponed(ANY_TEXT, HOLD_OFF - 4)
    setup.clock.at += HOLD_OFF - 5
    assert await setup.deliver() == DeliveryPostponed(ANY_TEXT, 1.0)
    assert setup.airflow.bodies_of("PATCH") == []
    setup.clock.at += 1
    assert await setup.deliver() == Delivered()


async def test_the_hold_off_follows_the_heartbeat_of_the_task(setup: AirflowSetup) -> None:
    assert await setup.deliver(min_heartbeat_interval=1) == DeliveryPostponed(ANY_TEXT, 6.0)


async def test_the_setting_overrides_the_heartbeat_of_the_task(setup: AirflowSetup) -> None:
    async with (
        authorized_connections(setup.resolver, EgressGuard(), setup.clock) as connections,
        AirflowSink(connections, hold_off=20.0, now=setup.clock, monotonic=setup.clock) as sink,
    ):
        setup.sink = sink
        assert await setup.deliver(min_heartbeat_interval=1) == DeliveryPostponed(ANY_TEXT, 20.0)


async def test_a_task_that_parked_again_is_held_off_from_when_it_is_seen(setup: AirflowSetup) -> None:
    """Airflow keeps the time at which its human-in-the-loop detail was created."""
    setup.clock.at += 100
    setup.airflow.queued_at = setup.clock.at - 50
    assert await setup.deliver() == DeliveryPostponed(ANY_TEXT, HOLD_OFF)
    setup.clock.at += HOLD_OFF
    assert await setup.deliver() == Delivered()


@pytest.mark.parametrize("mode", ["set_state", "clear"])
async def test_only_resume_is_held_off(setup: AirflowSetup, mode: str) -> None:
    assert await setup.deliver(mode) == Delivered()


async def test_a_later_try_has_its_own_hold_off(setup: AirflowSetup) -> None:
    await setup.deliver()
    setup.clock.at += HOLD_OFF
    setup.airflow.ti_id = NEXT_TI_ID
    setup.airflow.queued_at = setup.airflow.created_at = setup.clock.at
    assert await setup.deliver(ti_id=NEXT_TI_ID, try_number=2) == DeliveryPostponed(ANY_TEXT, HOLD_OFF)


async def test_a_response_that_did_not_resume_the_task_is_no_plain_delivery(setup: AirflowSetup) -> None:
    """Airflow answers 200 to a response for a task that has just failed or been cleared."""
    for ended_at, ti_id, receipt in (
        (
            "2026-11-21T15:55:04.300000Z",
            TI_ID,
            Delivered("not needed: the task in Airflow is already failed"),
        ),
        ("2026-11-21T15:55:05.900000Z", TI_ID, Delivered()),
        ("2026-11-21T15:55:05.900000Z", NEXT_TI_ID, SUPERSEDED),
    ):
        airflow = setup.airflow
        airflow.state, airflow.ti_id, airflow.response, airflow.ended_at = "awaiting_input", TI_ID, None, None
        airflow.after_response = {"state": "failed", "ended_at": ended_at, "ti_id": ti_id}
        assert await setup.deliver_after_hold_off() == receipt, (ended_at, ti_id)


@pytest.mark.parametrize(("event_id", "receipt"), [(EVENT_ID, Delivered), (OTHER_ID, DeliveryRejected)])
async def test_a_409_is_a_delivery_only_if_the_stored_response_is_of_this_event(
    setup: AirflowSetup, event_id: str, receipt: type[Receipt]
) -> None:
    setup.airflow.response = {**TASK_OUTCOME, "event_id": event_id}
    assert isinstance(await setup.deliver_after_hold_off(), receipt)


async def test_the_response_of_a_person_supersedes_the_event(setup: AirflowSetup) -> None:
    setup.airflow.response = {}
    assert rejection(await setup.deliver_after_hold_off()).startswith("superseded")


async def test_a_task_without_a_hitl_detail_is_retried(setup: AirflowSetup) -> None:
    setup.airflow.has_hitl = False
    assert isinstance(await setup.deliver_after_hold_off(), DeliveryPostponed)


async def test_a_task_without_waitds_option_is_rejected(setup: AirflowSetup) -> None:
    setup.airflow.options = ("approve", "reject")
    assert "no option done" in rejection(await setup.deliver_after_hold_off())


async def test_a_response_is_sent_once_even_if_its_answer_was_lost(setup: AirflowSetup) -> None:
    setup.airflow.fail["PATCH", "/hitlDetails"] = "lost"
    assert isinstance(await setup.deliver_after_hold_off(), DeliveryFailed)
    assert await setup.deliver() == Delivered()
    assert len(setup.airflow.bodies_of("PATCH")) == 1


async def test_a_task_gets_one_delivery_at_a_time(setup: AirflowSetup) -> None:
    setup.airflow.gate["PATCH"] = asyncio.Event()
    await setup.deliver()
    setup.clock.at += HOLD_OFF
    first = asyncio.create_task(setup.deliver())
    await until(lambda: setup.airflow.bodies_of("PATCH"))
    others = await asyncio.gather(
        *(setup.deliver(wait_id=OTHER_ID, mode=mode) for mode in ("resume", "set_state", "clear"))
    )
    assert all(isinstance(other, DeliveryPostponed) for other in others)
    setup.airflow.gate["PATCH"].set()
    assert await first == Delivered()
    assert len(setup.airflow.bodies_of("PATCH")) == 1


async def test_a_task_that_is_not_assigned_to_this_user_is_rejected(setup: AirflowSetup) -> None:
    setup.airflow.respondents = ("another user",)
    assert "assigned_users" in rejection(await setup.deliver_after_hold_off())
