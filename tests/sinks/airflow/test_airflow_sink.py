"""The airflow sink against a fake of Airflow 3.3.2: each rule of each mode."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from daemon import until
from fake_airflow import NEXT_TI_ID, PREFIX, TASK, TI_ID, FakeAirflow, problem, serve_fake_airflow

from waitd import __version__
from waitd.connections.authorizer import AuthorizedConnections, Authorizer
from waitd.connections.token_endpoint import TokenEndpointClient
from waitd.core.airflow.callback import CLEAR_SECONDS, NOT_PARKED_GRACE
from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput
from waitd.core.waits.delivery import (
    Delivered,
    DeliveryFailed,
    DeliveryId,
    DeliveryPostponed,
    DeliveryRejected,
    Receipt,
)
from waitd.core.waits.event import build_event
from waitd.core.waits.wait import Outcome, WaitId, WaitSpec, WaitState
from waitd.metrics import Instruments
from waitd.outgoing import Outgoing
from waitd.ports import OutboxItem, Sink
from waitd.sinks.airflow.sink import AirflowSink

EVENT_ID = "01a1fee4-b07c-754a-a144-8ad0f984a38c"
OTHER_ID = "01a1fee4-0000-754a-a144-8ad0f984a38c"
TASK_PARAMS: Mapping[str, Any] = {
    "dag_id": "etl", "run_id": "r1", "task_id": "wait", "map_index": -1, "ti_id": TI_ID, "try_number": 1,
}  # fmt: skip
OUTCOME = {
    "event_id": EVENT_ID, "state": "success", "payload": {"rows": 3}, "message": "HTTP 200 OK", "reason": "success", "soft_fail": False,
}  # fmt: skip
TASK_OUTCOME = {**OUTCOME, "ti_id": TI_ID, "try_number": 1}
#: What the modes need that act on no task.
MODE_PARAMS: Mapping[str, Mapping[str, Any]] = {"dag_run": {"dag_id": "etl"}, "asset_event": {"asset_id": 1}}
HOLD_OFF = 10.0


class _Any(str):
    """Equal to any sentence."""

    __slots__ = ()
    __hash__ = str.__hash__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, str)


class Clock:
    """Both clocks, moved by hand."""

    def __init__(self) -> None:
        self.seconds = 1_795_276_500.0

    def __call__(self) -> float:
        return self.seconds


class Resolver:
    """Knows one connection, which a test may change."""

    backend = "fixed"

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    async def lookup(self, conn_id: str) -> Connection:
        return self.connection


class SinkSetup:
    """An Airflow, a sink that is open, and a clock."""

    def __init__(self, airflow: FakeAirflow, sink: AirflowSink, clock: Clock, resolver: Resolver) -> None:
        self.airflow = airflow
        self.sink = sink
        self.clock = clock
        self.resolver = resolver

    async def deliver(
        self, mode: str = "resume", *, state: str = "success", soft_fail: bool = False, age: float = 0.0, wait_id: str = EVENT_ID,
        payload: Any = OUTCOME["payload"], **params: Any,
    ) -> Receipt:  # fmt: skip
        named = {"conn_id": "airflow", "mode": mode, **params}
        if mode in {"resume", "set_state", "clear"}:
            named = {**TASK_PARAMS, **named}
        spec = WaitSpec("http", {}, 60.0, 600.0, soft_fail=soft_fail)
        outcome = Outcome(WaitState(state), payload, "HTTP 200 OK", state)
        event = build_event(
            WaitId(wait_id), "default", spec, outcome, pokes=1, created_at=0.0, finished_at=1.0
        )
        item = OutboxItem(
            DeliveryId("d1"),
            WaitId(wait_id),
            "default",
            {"kind": "airflow"},
            json.dumps(event).encode(),
            0,
            self.clock() - age,
        )
        async with asyncio.timeout(10):
            return await self.sink.deliver(self.sink.parse(named), item)

    async def deliver_after_hold_off(self, **more: Any) -> Receipt:
        """The receipt after the hold-off."""
        assert isinstance(await self.deliver(**more), DeliveryPostponed)
        self.clock.seconds += HOLD_OFF
        return await self.deliver(**more)


@pytest.fixture
async def setup() -> AsyncIterator[SinkSetup]:
    async with AsyncExitStack() as stack:
        airflow = await stack.enter_async_context(serve_fake_airflow())
        clock = Clock()
        instruments = Instruments(version=__version__)
        outgoing = Outgoing()
        tokens = await stack.enter_async_context(TokenEndpointClient(outgoing, instruments=instruments))
        authorizer = Authorizer(tokens, None, now=clock)  # type: ignore[arg-type] # no AWS here
        stack.push_async_callback(authorizer.aclose)
        resolver = Resolver(Connection("airflow", "airflow", host=airflow.url, login="waitd", password="pw"))
        connections = AuthorizedConnections(
            [resolver], authorizer, ttl=60, now=clock, instruments=instruments
        )
        sink = AirflowSink(connections, hold_off=HOLD_OFF, outgoing=outgoing, now=clock, monotonic=clock)
        await stack.enter_async_context(sink)
        yield SinkSetup(airflow, sink, clock, resolver)


def test_it_implements_the_port(setup: SinkSetup) -> None:
    port: Sink = setup.sink
    target = port.parse({"conn_id": "team/airflow", **TASK_PARAMS})
    assert (target.destination, target.conn_id) == ("airflow team/airflow", "team/airflow")
    assert port.signed(target) is None


# ------------------------------------------------------------ looking first


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
async def test_every_attempt_first_requests_the_task_instance(setup: SinkSetup, mode: str) -> None:
    await setup.deliver(mode)
    first = next(call for call in setup.airflow.requests if not call[1].endswith("/auth/token"))
    assert first == ("GET", f"{PREFIX}/api/v2/{TASK}/-1", None)


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
@pytest.mark.parametrize(
    ("ti_id", "state"),
    [(NEXT_TI_ID, "awaiting_input"), (NEXT_TI_ID, "running"), (NEXT_TI_ID, None), (TI_ID, "failed"), (TI_ID, "success"), (TI_ID, "skipped"),
     (TI_ID, "up_for_retry"), (TI_ID, "removed"), (TI_ID, "upstream_failed")],
)  # fmt: skip
async def test_a_later_try_or_an_ended_task_is_superseded_and_not_changed(
    setup: SinkSetup, mode: str, ti_id: str, state: str | None
) -> None:
    setup.airflow.ti_id, setup.airflow.state = ti_id, state
    receipt = await setup.deliver(mode)
    assert isinstance(receipt, DeliveryRejected)
    assert receipt.error.startswith("superseded")
    assert (
        not setup.airflow.bodies_of("PATCH")
        + setup.airflow.bodies_of("POST")
        + setup.airflow.bodies_of("PUT")
    )


@pytest.mark.parametrize(
    ("mode", "place"),
    [
        ("resume", "answered"),
        ("resume", "xcoms"),
        ("set_state", "xcoms"),
        ("clear", "store"),
        ("clear", "xcoms"),
    ],
)
@pytest.mark.parametrize(("ti_id", "state"), [(NEXT_TI_ID, "running"), (TI_ID, "success"), (TI_ID, "queued")])
async def test_it_is_delivered_if_airflow_already_has_the_event(
    setup: SinkSetup, mode: str, ti_id: str, state: str, place: str
) -> None:
    airflow = setup.airflow
    airflow.ti_id, airflow.state = ti_id, state
    airflow.response = TASK_OUTCOME if place == "answered" else None
    airflow.xcoms = {"waitd_event_id": EVENT_ID} if place == "xcoms" else {}
    airflow.store = {"waitd_outcome": TASK_OUTCOME} if place == "store" else {}
    assert await setup.deliver(mode) == Delivered()
    assert not airflow.bodies_of("PATCH") + airflow.bodies_of("POST") + airflow.bodies_of("PUT")


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
async def test_values_of_another_event_do_not_count(setup: SinkSetup, mode: str) -> None:
    airflow = setup.airflow
    airflow.state = "success"
    airflow.response = airflow.store["waitd_outcome"] = {**TASK_OUTCOME, "event_id": OTHER_ID}
    airflow.xcoms = {"waitd_event_id": OTHER_ID}
    assert isinstance(await setup.deliver(mode), DeliveryRejected)


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
@pytest.mark.parametrize("state", ["running", "queued", "scheduled", None, "gone"])
async def test_a_task_that_is_not_parked_yet_costs_no_retry_for_an_hour(
    setup: SinkSetup, mode: str, state: str | None
) -> None:
    setup.airflow.state, setup.airflow.has_hitl = state, False
    young, old = await setup.deliver(mode), await setup.deliver(mode, age=200)
    assert isinstance(young, DeliveryPostponed)
    assert isinstance(old, DeliveryPostponed)
    assert young.retry_after < old.retry_after <= 60
    assert isinstance(await setup.deliver(mode, age=NOT_PARKED_GRACE), DeliveryFailed)
    assert (
        not setup.airflow.bodies_of("PATCH")
        + setup.airflow.bodies_of("POST")
        + setup.airflow.bodies_of("PUT")
    )


# ------------------------------------------------------------ resume


async def test_resume_responds_with_the_outcome(setup: SinkSetup) -> None:
    assert await setup.deliver_after_hold_off() == Delivered()
    assert setup.airflow.bodies_of("PATCH") == [{"chosen_options": ["done"], "params_input": TASK_OUTCOME}]
    assert f"{TASK}/-1/hitlDetails" in setup.airflow.requests[-2][1]


@pytest.mark.parametrize("state", ["failed", "timeout"])
@pytest.mark.parametrize("soft_fail", [True, False])
async def test_resume_leaves_failing_and_skipping_to_the_operator(
    setup: SinkSetup, state: str, soft_fail: bool
) -> None:
    assert await setup.deliver_after_hold_off(state=state, soft_fail=soft_fail) == Delivered()
    [body] = setup.airflow.bodies_of("PATCH")
    assert (body["params_input"]["state"], body["params_input"]["soft_fail"]) == (state, soft_fail)


async def test_the_hold_off_starts_when_the_task_is_first_seen_parked(setup: SinkSetup) -> None:
    setup.airflow.state, setup.airflow.has_hitl = "running", False
    await setup.deliver()
    setup.clock.seconds += 100  # registered long ago, and parked only now
    setup.airflow.state, setup.airflow.has_hitl = "awaiting_input", True
    assert await setup.deliver() == DeliveryPostponed(_Any(), HOLD_OFF)
    setup.clock.seconds += HOLD_OFF - 1
    assert await setup.deliver() == DeliveryPostponed(_Any(), 1.0)
    assert setup.airflow.bodies_of("PATCH") == []
    setup.clock.seconds += 1
    assert await setup.deliver() == Delivered()


@pytest.mark.parametrize("mode", ["set_state", "clear"])
async def test_only_resume_is_held_off(setup: SinkSetup, mode: str) -> None:
    assert await setup.deliver(mode) == Delivered()


async def test_a_later_try_has_its_own_hold_off(setup: SinkSetup) -> None:
    await setup.deliver()
    setup.clock.seconds += HOLD_OFF
    setup.airflow.ti_id = NEXT_TI_ID
    assert await setup.deliver(ti_id=NEXT_TI_ID, try_number=2) == DeliveryPostponed(_Any(), HOLD_OFF)


async def test_a_response_that_woke_no_task_is_superseded(setup: SinkSetup) -> None:
    """Airflow says 200 to an answer for a task that has just been failed or cleared."""

    for at, ti_id, woke in (
        ("2026-11-21T15:55:04.300000Z", TI_ID, False),
        ("2026-11-21T15:55:05.900000Z", TI_ID, True),
        ("2026-11-21T15:55:05.900000Z", NEXT_TI_ID, False),
    ):
        airflow = setup.airflow
        airflow.state, airflow.ti_id, airflow.response, airflow.ended_at = "awaiting_input", TI_ID, None, None
        airflow.after_response = {"state": "failed", "ended_at": at, "ti_id": ti_id}
        receipt = await setup.deliver_after_hold_off()
        assert isinstance(receipt, Delivered if woke else DeliveryRejected), (at, ti_id)


@pytest.mark.parametrize(("event_id", "receipt"), [(EVENT_ID, Delivered), (OTHER_ID, DeliveryRejected)])
async def test_a_409_is_a_delivery_only_if_the_stored_response_is_ours(
    setup: SinkSetup, event_id: str, receipt: type[Receipt]
) -> None:
    setup.airflow.response = {**TASK_OUTCOME, "event_id": event_id}
    assert isinstance(await setup.deliver_after_hold_off(), receipt)


async def test_a_persons_response_supersedes_ours(setup: SinkSetup) -> None:
    setup.airflow.response = {}
    receipt = await setup.deliver_after_hold_off()
    assert isinstance(receipt, DeliveryRejected)
    assert receipt.error.startswith("superseded")


async def test_a_task_without_a_hitl_detail_is_retried(setup: SinkSetup) -> None:
    setup.airflow.has_hitl = False
    assert isinstance(await setup.deliver_after_hold_off(), DeliveryPostponed)


async def test_a_task_without_waitds_option_is_rejected(setup: SinkSetup) -> None:
    setup.airflow.options = ("approve", "reject")
    receipt = await setup.deliver_after_hold_off()
    assert isinstance(receipt, DeliveryRejected)
    assert "no option done" in receipt.error


async def test_a_response_whose_answer_was_lost_is_recognized(setup: SinkSetup) -> None:
    setup.airflow.fail["PATCH", "/hitlDetails"] = "lost"
    assert isinstance(await setup.deliver_after_hold_off(), DeliveryFailed)
    assert await setup.deliver() == Delivered()
    assert len(setup.airflow.bodies_of("PATCH")) == 1


async def test_a_task_gets_one_delivery_at_a_time(setup: SinkSetup) -> None:
    setup.airflow.gate["PATCH"] = asyncio.Event()
    await setup.deliver()
    setup.clock.seconds += HOLD_OFF
    first = asyncio.create_task(setup.deliver())
    await until(lambda: setup.airflow.bodies_of("PATCH"))
    others = await asyncio.gather(
        *(setup.deliver(wait_id=OTHER_ID, mode=mode) for mode in ("resume", "set_state", "clear"))
    )
    assert all(isinstance(other, DeliveryPostponed) for other in others)
    setup.airflow.gate["PATCH"].set()
    assert await first == Delivered()
    assert len(setup.airflow.bodies_of("PATCH")) == 1


# ------------------------------------------------------------ set_state


async def test_set_state_pushes_the_event_id_and_the_result_before_the_state(setup: SinkSetup) -> None:
    assert await setup.deliver("set_state") == Delivered()
    sent = [
        (method, body)
        for method, path, body in setup.airflow.requests
        if method != "GET" and "auth" not in path
    ]
    assert sent == [
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
    setup: SinkSetup, state: str, soft_fail: bool, new_state: str
) -> None:
    assert await setup.deliver("set_state", state=state, soft_fail=soft_fail) == Delivered()
    assert setup.airflow.bodies_of("PATCH") == [{"new_state": new_state}]
    assert ("return_value" in setup.airflow.xcoms) == (state == "success")


async def test_set_state_uses_xcom_key_and_pushes_no_null(setup: SinkSetup) -> None:
    await setup.deliver("set_state", xcom_key="rows")
    assert set(setup.airflow.xcoms) == {"waitd_event_id", "rows"}
    setup.airflow.state, setup.airflow.xcoms = "deferred", {}
    await setup.deliver("set_state", payload=None)
    assert set(setup.airflow.xcoms) == {"waitd_event_id"}


@pytest.mark.parametrize("end", ["/xcomEntries", "/-1"])
@pytest.mark.parametrize("failure", [503, "lost"])
async def test_set_state_continues_after_a_failed_request(setup: SinkSetup, end: str, failure: Any) -> None:
    method = "POST" if end == "/xcomEntries" else "PATCH"
    setup.airflow.fail[method, end] = failure
    assert isinstance(await setup.deliver("set_state"), DeliveryFailed)
    assert await setup.deliver("set_state") == Delivered()
    assert setup.airflow.state == "success"
    assert setup.airflow.xcoms == {"waitd_event_id": EVENT_ID, "return_value": {"rows": 3}}


async def test_set_state_does_not_end_a_task_with_another_event_id(setup: SinkSetup) -> None:
    setup.airflow.xcoms = {"waitd_event_id": OTHER_ID}
    receipt = await setup.deliver("set_state")
    assert isinstance(receipt, DeliveryRejected)
    assert receipt.error.startswith("superseded")
    assert setup.airflow.bodies_of("PATCH") == []


async def test_set_state_does_not_overwrite_a_result(setup: SinkSetup) -> None:
    setup.airflow.xcoms = {"return_value": "mine"}
    assert isinstance(await setup.deliver("set_state"), DeliveryRejected)
    assert setup.airflow.xcoms["return_value"] == "mine"
    assert setup.airflow.bodies_of("PATCH") == []


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
async def test_the_map_index_is_always_sent(setup: SinkSetup, mode: str) -> None:
    setup.airflow.map_index = 7
    receipt = await (
        setup.deliver_after_hold_off(map_index=7) if mode == "resume" else setup.deliver(mode, map_index=7)
    )
    assert receipt == Delivered()  # it answers nothing about any other index


# ------------------------------------------------------------ clear


async def test_clear_stores_the_outcome_and_clears(setup: SinkSetup) -> None:
    assert await setup.deliver("clear") == Delivered()
    assert setup.airflow.store == {"waitd_outcome": {**TASK_OUTCOME, "sent_at": setup.clock()}}
    assert setup.airflow.bodies_of("POST") == [
        {"dry_run": False, "dag_run_id": "r1", "task_ids": [["wait", -1]], "only_failed": False, "reset_dag_runs": False,
         "prevent_running_task": True}
    ]  # fmt: skip


async def test_clear_is_not_repeated_when_its_answer_was_lost(setup: SinkSetup) -> None:
    setup.airflow.fail["POST", "/clearTaskInstances"] = "lost"
    assert isinstance(await setup.deliver("clear"), DeliveryFailed)
    assert await setup.deliver("clear") == Delivered()
    assert len(setup.airflow.bodies_of("POST")) == 1


async def send_unanswered_clear(setup: SinkSetup) -> str:
    """Sends a clear that gets a proxy's 504, and waits for a minute; returns its audit log entry."""
    setup.airflow.fail["POST", "/clearTaskInstances"] = 504
    assert isinstance(await setup.deliver("clear"), DeliveryFailed)
    setup.clock.seconds += CLEAR_SECONDS - 1
    assert isinstance(await setup.deliver("clear", age=CLEAR_SECONDS - 1), DeliveryPostponed)
    assert len(setup.airflow.bodies_of("POST")) == 1
    setup.clock.seconds += 1
    return json.dumps({"waitd_clear": f"{EVENT_ID}@{setup.airflow.store['waitd_outcome']['sent_at']:.3f}"})


async def test_a_clear_that_airflow_never_received_is_repeated(setup: SinkSetup) -> None:
    await send_unanswered_clear(setup)
    assert await setup.deliver("clear", age=CLEAR_SECONDS) == Delivered()
    assert len(setup.airflow.bodies_of("POST")) == 2


async def test_a_clear_in_the_audit_log_is_never_repeated(setup: SinkSetup) -> None:
    entry = await send_unanswered_clear(setup)
    others = [json.dumps({"waitd_clear": f"{OTHER_ID}@{n}"}) for n in range(150)]
    setup.airflow.audit = [*others, entry]
    receipt = await setup.deliver("clear", age=CLEAR_SECONDS)
    assert isinstance(receipt, DeliveryRejected)
    assert "Airflow's audit log has it;" in receipt.error
    assert "redeliver" in receipt.error
    assert setup.airflow.store["waitd_outcome"]["event_id"] == EVENT_ID  # for a clear by hand
    assert len(setup.airflow.bodies_of("POST")) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (403, "audit log cannot be read (Airflow answered 403"),
        (None, "audit log is too long"),
    ],
)
async def test_a_clear_of_unknown_effect_is_never_repeated(
    setup: SinkSetup, answer: int | None, said: str
) -> None:
    await send_unanswered_clear(setup)
    if answer is None:
        setup.airflow.audit = ["{}"] * 1001
    else:
        setup.airflow.fail["GET", "/eventLogs"] = answer
    receipt = await setup.deliver("clear", age=CLEAR_SECONDS)
    assert isinstance(receipt, DeliveryRejected)
    assert said in receipt.error
    assert len(setup.airflow.bodies_of("POST")) == 1


async def test_an_unavailable_audit_log_is_retried(setup: SinkSetup) -> None:
    await send_unanswered_clear(setup)
    for failure in (503, 404):
        setup.airflow.fail["GET", "/eventLogs"] = failure
        assert isinstance(await setup.deliver("clear", age=CLEAR_SECONDS), DeliveryFailed)
    assert len(setup.airflow.bodies_of("POST")) == 1
    assert await setup.deliver("clear", age=CLEAR_SECONDS) == Delivered()


async def test_no_clear_is_sent_while_the_state_store_is_unavailable(setup: SinkSetup) -> None:
    await send_unanswered_clear(setup)
    for failure in (503, 400, web.Response(status=404, text="of a proxy")):
        setup.airflow.fail["GET", "/state-store/waitd_outcome"] = failure
        assert isinstance(await setup.deliver("clear", age=CLEAR_SECONDS), DeliveryFailed)
    assert len(setup.airflow.bodies_of("POST")) == 1


async def test_each_clear_is_searched_by_its_own_id(setup: SinkSetup) -> None:
    """The first clear never arrived; the second did, without effect, and its answer was lost."""
    await send_unanswered_clear(setup)
    setup.airflow.fail["POST", "/clearTaskInstances"] = "lost"
    assert isinstance(await setup.deliver("clear", age=CLEAR_SECONDS), DeliveryFailed)
    setup.airflow.ti_id, setup.airflow.state = TI_ID, "deferred"  # rolled back
    setup.clock.seconds += CLEAR_SECONDS
    assert isinstance(await setup.deliver("clear", age=2 * CLEAR_SECONDS), DeliveryRejected)
    assert len(setup.airflow.bodies_of("POST")) == 2


async def test_a_redelivery_repeats_the_clear(setup: SinkSetup) -> None:
    setup.airflow.audit = [await send_unanswered_clear(setup)]
    assert isinstance(await setup.deliver("clear", age=CLEAR_SECONDS), DeliveryRejected)
    assert await setup.deliver("clear", age=0) == Delivered()  # a new delivery
    assert len(setup.airflow.bodies_of("POST")) == 2


async def test_a_refused_clear_does_not_count(setup: SinkSetup) -> None:
    setup.airflow.fail["POST", "/clearTaskInstances"] = 409
    assert isinstance(await setup.deliver("clear"), DeliveryFailed)
    assert setup.airflow.store == {}
    assert await setup.deliver("clear") == Delivered()


async def test_a_stored_outcome_of_an_earlier_event_does_not_prevent_a_clear(setup: SinkSetup) -> None:
    setup.airflow.store = {"waitd_outcome": {**TASK_OUTCOME, "event_id": OTHER_ID, "sent_at": setup.clock()}}
    assert await setup.deliver("clear") == Delivered()
    assert setup.airflow.store["waitd_outcome"]["event_id"] == EVENT_ID


async def test_a_payload_over_the_state_stores_limit_is_omitted(setup: SinkSetup) -> None:
    assert (
        await setup.deliver("clear", payload="ü" * 20_000) == Delivered()
    )  # six bytes each, as Airflow writes it
    left = setup.airflow.store["waitd_outcome"]
    assert (left["payload"], left["reason"], left["event_id"]) == (None, "result_omitted", EVENT_ID)


# ------------------------------------------------------------ dag_run, asset_event


async def test_dag_run_triggers_a_run_named_after_the_wait(setup: SinkSetup) -> None:
    assert await setup.deliver("dag_run", dag_id="etl", conf={"day": 1}) == Delivered()
    assert setup.airflow.bodies_of("POST") == [
        {"dag_run_id": f"waitd__{EVENT_ID}", "logical_date": None, "conf": {"day": 1, "waitd": OUTCOME}}
    ]
    assert await setup.deliver("dag_run", dag_id="etl") == Delivered()
    assert len(setup.airflow.runs) == 1


async def test_another_run_with_the_same_id_is_rejected(setup: SinkSetup) -> None:
    setup.airflow.runs["mine"] = {"conf": {}}
    receipt = await setup.deliver("dag_run", dag_id="etl", new_dag_run_id="mine")
    assert isinstance(receipt, DeliveryRejected)
    assert receipt.error.startswith("superseded")


async def test_an_unknown_dag_is_retried(setup: SinkSetup) -> None:
    assert isinstance(await setup.deliver("dag_run", dag_id="nope"), DeliveryFailed)


async def test_asset_event_finds_the_asset_by_its_exact_uri(setup: SinkSetup) -> None:
    setup.airflow.assets = [{"id": n, "uri": f"s3://landing/orders{n}"} for n in range(150)]
    setup.airflow.assets.append({"id": 150, "uri": "s3://landing/orders"})
    receipt = await setup.deliver("asset_event", asset_uri="s3://landing/orders", partition_key="2026-11-21")
    assert receipt == Delivered()
    assert setup.airflow.events == [
        {"asset_id": 150, "extra": {"waitd": OUTCOME}, "partition_key": "2026-11-21"}
    ]


async def test_an_asset_event_is_created_once(setup: SinkSetup) -> None:
    setup.airflow.assets = [{"id": 1, "uri": "s3://landing/orders"}]
    setup.airflow.fail["POST", "/assets/events"] = "lost"
    assert isinstance(await setup.deliver("asset_event", asset_id=1), DeliveryFailed)
    others = [{"asset_id": 1, "extra": {"waitd": {"event_id": OTHER_ID}}}] * 120 + [
        {"asset_id": 1, "extra": {}}
    ]
    setup.airflow.events[:0] = others
    assert await setup.deliver("asset_event", asset_id=1) == Delivered()
    assert len(setup.airflow.bodies_of("POST")) == 1
    assert "partition_key" not in setup.airflow.bodies_of("POST")[0]


async def test_an_undeclared_asset_is_retried(setup: SinkSetup) -> None:
    assert isinstance(await setup.deliver("asset_event", asset_uri="s3://nobody"), DeliveryFailed)
    assert isinstance(await setup.deliver("asset_event", asset_id=9), DeliveryFailed)


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear", "dag_run", "asset_event"])
async def test_a_cancelled_wait_is_not_delivered(setup: SinkSetup, mode: str) -> None:
    setup.airflow.assets = [{"id": 1, "uri": "s3://landing/orders"}]
    more = MODE_PARAMS.get(mode, {})
    assert isinstance(await setup.deliver(mode, state="cancelled", **more), DeliveryRejected)
    assert setup.airflow.requests == []


# ------------------------------------------------------------ who asks


async def test_one_token_is_shared_until_a_fifth_of_its_lifetime_is_left(setup: SinkSetup) -> None:
    receipts = [setup.deliver("dag_run", dag_id="etl", wait_id=f"w{n}") for n in range(10)]
    assert set(await asyncio.gather(*receipts)) == {Delivered()}
    setup.clock.seconds += 0.79 * 86_400
    await setup.deliver()
    assert setup.airflow.logins == 1
    setup.clock.seconds += 0.02 * 86_400
    await setup.deliver()
    assert setup.airflow.logins == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_refused_token_is_replaced_once(setup: SinkSetup, status: int) -> None:
    await setup.deliver()
    airflow = setup.airflow
    if status == 401:
        airflow.valid_tokens.clear()
    else:
        airflow.fail["GET", f"/{TASK}/-1"] = problem(403, "Invalid JWT token")
    assert isinstance(await setup.deliver(), DeliveryPostponed)
    assert airflow.logins == 2


async def test_wrong_credentials_are_retried(setup: SinkSetup) -> None:
    setup.resolver.connection = Connection("airflow", "airflow", host=setup.airflow.url, password="static")
    receipt = await setup.deliver()
    assert isinstance(receipt, DeliveryFailed)
    assert "does not accept the connection's credentials" in receipt.error
    assert "static" not in receipt.error
    assert setup.airflow.logins == 0


@pytest.mark.parametrize("extra", [{"token": "static"}, {}])
async def test_a_static_bearer_token_is_sent_unchanged(setup: SinkSetup, extra: dict[str, str]) -> None:
    setup.airflow.valid_tokens.add("static")
    setup.resolver.connection = Connection(
        "airflow", "airflow", host=setup.airflow.url, password=None if extra else "static", extra=extra
    )
    assert await setup.deliver_after_hold_off() == Delivered()
    assert setup.airflow.logins == 0


@pytest.mark.parametrize(
    ("mode", "role"), [("set_state", "User"), ("dag_run", "User"), ("asset_event", "Op")]
)
async def test_a_missing_role_is_rejected_and_named(setup: SinkSetup, mode: str, role: str) -> None:
    setup.airflow.role = "viewer"
    setup.airflow.assets = [{"id": 1, "uri": "s3://landing/orders"}]
    more = MODE_PARAMS.get(mode, {})
    receipt = await setup.deliver(mode, **more)
    assert isinstance(receipt, DeliveryRejected)
    assert receipt.error.endswith(f"needs the role {role}")


async def test_a_task_that_is_not_assigned_to_this_user_is_rejected(setup: SinkSetup) -> None:
    setup.airflow.respondents = ("somebody",)
    receipt = await setup.deliver_after_hold_off()
    assert isinstance(receipt, DeliveryRejected)
    assert "assigned_users" in receipt.error


@pytest.mark.parametrize("status", [429, 500, 502, 503, 301])
async def test_a_failing_airflow_is_retried(setup: SinkSetup, status: int) -> None:
    setup.airflow.fail["GET", f"/{TASK}/-1"] = status
    assert await setup.deliver() == DeliveryFailed(_Any(), None)


async def test_an_unreachable_airflow_is_retried(setup: SinkSetup) -> None:
    setup.airflow.valid_tokens.add("static")
    setup.resolver.connection = Connection("airflow", "airflow", host="http://127.0.0.1:9", password="static")
    assert await setup.deliver() == DeliveryFailed("could not connect to Airflow")


async def test_a_metadata_address_is_blocked(setup: SinkSetup) -> None:
    setup.resolver.connection = Connection("airflow", "airflow", host="http://169.254.169.254", password="t")
    receipt = await setup.deliver()
    assert isinstance(receipt, DeliveryFailed)
    assert "169.254" in receipt.error or "metadata" in receipt.error


# ------------------------------------------------------------ parameters


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
    setup: SinkSetup, params: Mapping[str, Any], pointers: list[str]
) -> None:
    with pytest.raises(InvalidInput) as raised:
        setup.sink.parse(params)
    assert [problem.pointer for problem in raised.value.problems] == pointers


async def test_names_must_be_one_path_segment(setup: SinkSetup) -> None:
    await setup.deliver(dag_id="a b?c#d%2e", run_id="manual__2026-11-21T00:00:00+00:00", task_id="group.wait")
    [path] = [path for _, path, _ in setup.airflow.requests if "dagRuns" in path]
    assert path.endswith(
        "/dags/a%20b%3Fc%23d%252e/dagRuns/manual__2026-11-21T00%3A00%3A00%2B00%3A00/taskInstances/group.wait/-1"
    )


def test_the_target_names_its_dag(setup: SinkSetup) -> None:
    parse = setup.sink.parse
    assert parse({"conn_id": "c", **TASK_PARAMS}).dag_id == "etl"
    assert parse({"conn_id": "c", "mode": "dag_run", "dag_id": "d"}).dag_id == "d"
    assert parse({"conn_id": "c", "mode": "asset_event", "asset_id": 1}).dag_id is None
