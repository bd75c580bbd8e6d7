"""The airflow sink against a server that answers as Airflow 3.3.2: each rule of waking, ending and starting."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack
from typing import Any

import pytest
from aiohttp import web
from airflow_as_recorded import NEXT_TI_ID, PREFIX, TASK, TI_ID, RecordedAirflow, recorded_airflow, said
from daemon import until

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
PLACE: Mapping[str, Any] = {
    "dag_id": "etl", "run_id": "r1", "task_id": "wait", "map_index": -1, "ti_id": TI_ID, "try_number": 1,
}  # fmt: skip
OUTCOME = {
    "event_id": EVENT_ID, "state": "success", "payload": {"rows": 3}, "message": "HTTP 200 OK", "reason": "success", "soft_fail": False,
}  # fmt: skip
TOLD = {**OUTCOME, "ti_id": TI_ID, "try_number": 1}
#: What the modes need that act on no task.
NEEDS: Mapping[str, Mapping[str, Any]] = {"dag_run": {"dag_id": "etl"}, "asset_event": {"asset_id": 1}}
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


class Scene:
    """An Airflow, a sink that is open, and a clock."""

    def __init__(self, airflow: RecordedAirflow, sink: AirflowSink, clock: Clock, resolver: Resolver) -> None:
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
            named = {**PLACE, **named}
        spec = WaitSpec("http", {}, 60.0, 600.0, soft_fail=soft_fail)
        outcome = Outcome(WaitState(state), payload, "HTTP 200 OK", state)
        event = build_event(
            WaitId(wait_id), "default", spec, outcome, pokes=1, created_at=0.0, finished_at=1.0
        )
        parcel = OutboxItem(
            DeliveryId("d1"),
            WaitId(wait_id),
            "default",
            {"kind": "airflow"},
            json.dumps(event).encode(),
            0,
            self.clock() - age,
        )
        async with asyncio.timeout(10):
            return await self.sink.deliver(self.sink.parse(named), parcel)

    async def resumed(self, **more: Any) -> Receipt:
        """The receipt after the hold-off."""
        assert isinstance(await self.deliver(**more), DeliveryPostponed)
        self.clock.seconds += HOLD_OFF
        return await self.deliver(**more)


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with AsyncExitStack() as stack:
        airflow = await stack.enter_async_context(recorded_airflow())
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
        yield Scene(airflow, sink, clock, resolver)


def test_it_is_a_sink(scene: Scene) -> None:
    port: Sink = scene.sink
    target = port.parse({"conn_id": "team/airflow", **PLACE})
    assert (target.destination, target.conn_id) == ("airflow team/airflow", "team/airflow")
    assert port.signed(target) is None


# ------------------------------------------------------------ looking first


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
async def test_every_attempt_begins_with_a_look_at_the_task_instance(scene: Scene, mode: str) -> None:
    await scene.deliver(mode)
    first = next(call for call in scene.airflow.asked if not call[1].endswith("/auth/token"))
    assert first == ("GET", f"{PREFIX}/api/v2/{TASK}/-1", None)


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
@pytest.mark.parametrize(
    ("ti_id", "state"),
    [(NEXT_TI_ID, "awaiting_input"), (NEXT_TI_ID, "running"), (NEXT_TI_ID, None), (TI_ID, "failed"), (TI_ID, "success"), (TI_ID, "skipped"),
     (TI_ID, "up_for_retry"), (TI_ID, "removed"), (TI_ID, "upstream_failed")],
)  # fmt: skip
async def test_another_try_or_an_ended_one_is_dead_as_superseded_and_not_touched(
    scene: Scene, mode: str, ti_id: str, state: str | None
) -> None:
    scene.airflow.ti_id, scene.airflow.state = ti_id, state
    receipt = await scene.deliver(mode)
    assert isinstance(receipt, DeliveryRejected)
    assert receipt.error.startswith("superseded")
    assert not scene.airflow.told("PATCH") + scene.airflow.told("POST") + scene.airflow.told("PUT")


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
async def test_it_is_delivered_where_airflow_has_the_event_already(
    scene: Scene, mode: str, ti_id: str, state: str, place: str
) -> None:
    airflow = scene.airflow
    airflow.ti_id, airflow.state = ti_id, state
    airflow.answered = TOLD if place == "answered" else None
    airflow.xcoms = {"waitd_event_id": EVENT_ID} if place == "xcoms" else {}
    airflow.store = {"waitd_outcome": TOLD} if place == "store" else {}
    assert await scene.deliver(mode) == Delivered()
    assert not airflow.told("PATCH") + airflow.told("POST") + airflow.told("PUT")


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
async def test_what_another_event_left_there_is_not_ours(scene: Scene, mode: str) -> None:
    airflow = scene.airflow
    airflow.state = "success"
    airflow.answered = airflow.store["waitd_outcome"] = {**TOLD, "event_id": OTHER_ID}
    airflow.xcoms = {"waitd_event_id": OTHER_ID}
    assert isinstance(await scene.deliver(mode), DeliveryRejected)


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
@pytest.mark.parametrize("state", ["running", "queued", "scheduled", None, "gone"])
async def test_a_task_that_is_not_parked_yet_costs_no_rung_for_an_hour(
    scene: Scene, mode: str, state: str | None
) -> None:
    scene.airflow.state, scene.airflow.has_hitl = state, False
    young, old = await scene.deliver(mode), await scene.deliver(mode, age=200)
    assert isinstance(young, DeliveryPostponed)
    assert isinstance(old, DeliveryPostponed)
    assert young.retry_after < old.retry_after <= 60
    assert isinstance(await scene.deliver(mode, age=NOT_PARKED_GRACE), DeliveryFailed)
    assert not scene.airflow.told("PATCH") + scene.airflow.told("POST") + scene.airflow.told("PUT")


# ------------------------------------------------------------ resume


async def test_resume_answers_with_the_outcome(scene: Scene) -> None:
    assert await scene.resumed() == Delivered()
    assert scene.airflow.told("PATCH") == [{"chosen_options": ["done"], "params_input": TOLD}]
    assert f"{TASK}/-1/hitlDetails" in scene.airflow.asked[-2][1]


@pytest.mark.parametrize("state", ["failed", "timeout"])
@pytest.mark.parametrize("soft_fail", [True, False])
async def test_resume_leaves_failing_and_skipping_to_the_operator(
    scene: Scene, state: str, soft_fail: bool
) -> None:
    assert await scene.resumed(state=state, soft_fail=soft_fail) == Delivered()
    [told] = scene.airflow.told("PATCH")
    assert (told["params_input"]["state"], told["params_input"]["soft_fail"]) == (state, soft_fail)


async def test_resume_is_held_off_from_when_the_task_is_first_seen_parked(scene: Scene) -> None:
    scene.airflow.state, scene.airflow.has_hitl = "running", False
    await scene.deliver()
    scene.clock.seconds += 100  # registered long ago, and parked only now
    scene.airflow.state, scene.airflow.has_hitl = "awaiting_input", True
    assert await scene.deliver() == DeliveryPostponed(_Any(), HOLD_OFF)
    scene.clock.seconds += HOLD_OFF - 1
    assert await scene.deliver() == DeliveryPostponed(_Any(), 1.0)
    assert scene.airflow.told("PATCH") == []
    scene.clock.seconds += 1
    assert await scene.deliver() == Delivered()


@pytest.mark.parametrize("mode", ["set_state", "clear"])
async def test_only_resume_is_held_off(scene: Scene, mode: str) -> None:
    assert await scene.deliver(mode) == Delivered()


async def test_a_newer_try_is_held_off_anew(scene: Scene) -> None:
    await scene.deliver()
    scene.clock.seconds += HOLD_OFF
    scene.airflow.ti_id = NEXT_TI_ID
    assert await scene.deliver(ti_id=NEXT_TI_ID, try_number=2) == DeliveryPostponed(_Any(), HOLD_OFF)


async def test_an_answer_that_woke_nobody_is_superseded(scene: Scene) -> None:
    """Airflow says 200 to an answer for a task that has just been failed or cleared."""

    for at, ti_id, woke in (
        ("2026-11-21T15:55:04.300000Z", TI_ID, False),
        ("2026-11-21T15:55:05.900000Z", TI_ID, True),
        ("2026-11-21T15:55:05.900000Z", NEXT_TI_ID, False),
    ):
        airflow = scene.airflow
        airflow.state, airflow.ti_id, airflow.answered, airflow.ended_at = "awaiting_input", TI_ID, None, None
        airflow.when_answered = {"state": "failed", "ended_at": at, "ti_id": ti_id}
        receipt = await scene.resumed()
        assert isinstance(receipt, Delivered if woke else DeliveryRejected), (at, ti_id)


@pytest.mark.parametrize(("event_id", "receipt"), [(EVENT_ID, Delivered), (OTHER_ID, DeliveryRejected)])
async def test_a_409_is_a_delivery_only_if_the_answer_there_is_ours(
    scene: Scene, event_id: str, receipt: type[Receipt]
) -> None:
    scene.airflow.answered = {**TOLD, "event_id": event_id}
    assert isinstance(await scene.resumed(), receipt)


async def test_an_answer_of_a_person_supersedes_ours(scene: Scene) -> None:
    scene.airflow.answered = {}
    receipt = await scene.resumed()
    assert isinstance(receipt, DeliveryRejected)
    assert receipt.error.startswith("superseded")


async def test_a_task_without_a_row_yet_is_tried_again(scene: Scene) -> None:
    scene.airflow.has_hitl = False
    assert isinstance(await scene.resumed(), DeliveryPostponed)


async def test_a_task_that_is_none_of_waitds_is_dead(scene: Scene) -> None:
    scene.airflow.options = ("approve", "reject")
    receipt = await scene.resumed()
    assert isinstance(receipt, DeliveryRejected)
    assert "no option done" in receipt.error


async def test_an_answer_whose_receipt_was_lost_is_found_again(scene: Scene) -> None:
    scene.airflow.fail["PATCH", "/hitlDetails"] = "lost"
    assert isinstance(await scene.resumed(), DeliveryFailed)
    assert await scene.deliver() == Delivered()
    assert len(scene.airflow.told("PATCH")) == 1


async def test_one_sender_for_each_task(scene: Scene) -> None:
    scene.airflow.gate["PATCH"] = asyncio.Event()
    await scene.deliver()
    scene.clock.seconds += HOLD_OFF
    first = asyncio.create_task(scene.deliver())
    await until(lambda: scene.airflow.told("PATCH"))
    others = await asyncio.gather(
        *(scene.deliver(wait_id=OTHER_ID, mode=mode) for mode in ("resume", "set_state", "clear"))
    )
    assert all(isinstance(other, DeliveryPostponed) for other in others)
    scene.airflow.gate["PATCH"].set()
    assert await first == Delivered()
    assert len(scene.airflow.told("PATCH")) == 1


# ------------------------------------------------------------ set_state


async def test_set_state_leaves_its_mark_then_the_result_then_sets_the_state(scene: Scene) -> None:
    assert await scene.deliver("set_state") == Delivered()
    sent = [
        (method, body) for method, path, body in scene.airflow.asked if method != "GET" and "auth" not in path
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
async def test_set_state_knows_three_states(
    scene: Scene, state: str, soft_fail: bool, new_state: str
) -> None:
    assert await scene.deliver("set_state", state=state, soft_fail=soft_fail) == Delivered()
    assert scene.airflow.told("PATCH") == [{"new_state": new_state}]
    assert ("return_value" in scene.airflow.xcoms) == (state == "success")


async def test_set_state_uses_the_given_key_and_pushes_no_null(scene: Scene) -> None:
    await scene.deliver("set_state", xcom_key="rows")
    assert set(scene.airflow.xcoms) == {"waitd_event_id", "rows"}
    scene.airflow.state, scene.airflow.xcoms = "deferred", {}
    await scene.deliver("set_state", payload=None)
    assert set(scene.airflow.xcoms) == {"waitd_event_id"}


@pytest.mark.parametrize("end", ["/xcomEntries", "/-1"])
@pytest.mark.parametrize("trouble", [503, "lost"])
async def test_set_state_goes_on_where_it_broke_off(scene: Scene, end: str, trouble: Any) -> None:
    method = "POST" if end == "/xcomEntries" else "PATCH"
    scene.airflow.fail[method, end] = trouble
    assert isinstance(await scene.deliver("set_state"), DeliveryFailed)
    assert await scene.deliver("set_state") == Delivered()
    assert scene.airflow.state == "success"
    assert scene.airflow.xcoms == {"waitd_event_id": EVENT_ID, "return_value": {"rows": 3}}


async def test_set_state_does_not_end_what_another_event_has_marked(scene: Scene) -> None:
    scene.airflow.xcoms = {"waitd_event_id": OTHER_ID}
    receipt = await scene.deliver("set_state")
    assert isinstance(receipt, DeliveryRejected)
    assert receipt.error.startswith("superseded")
    assert scene.airflow.told("PATCH") == []


async def test_set_state_does_not_write_over_a_result(scene: Scene) -> None:
    scene.airflow.xcoms = {"return_value": "mine"}
    assert isinstance(await scene.deliver("set_state"), DeliveryRejected)
    assert scene.airflow.xcoms["return_value"] == "mine"
    assert scene.airflow.told("PATCH") == []


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear"])
async def test_the_map_index_is_always_sent(scene: Scene, mode: str) -> None:
    scene.airflow.map_index = 7
    receipt = await (scene.resumed(map_index=7) if mode == "resume" else scene.deliver(mode, map_index=7))
    assert receipt == Delivered()  # it answers nothing about any other index


# ------------------------------------------------------------ clear


async def test_clear_leaves_the_outcome_and_clears(scene: Scene) -> None:
    assert await scene.deliver("clear") == Delivered()
    assert scene.airflow.store == {"waitd_outcome": {**TOLD, "sent_at": scene.clock()}}
    assert scene.airflow.told("POST") == [
        {"dry_run": False, "dag_run_id": "r1", "task_ids": [["wait", -1]], "only_failed": False, "reset_dag_runs": False,
         "prevent_running_task": True}
    ]  # fmt: skip


async def test_clear_is_not_sent_again_when_its_answer_was_lost(scene: Scene) -> None:
    scene.airflow.fail["POST", "/clearTaskInstances"] = "lost"
    assert isinstance(await scene.deliver("clear"), DeliveryFailed)
    assert await scene.deliver("clear") == Delivered()
    assert len(scene.airflow.told("POST")) == 1


async def sent_into_the_dark(scene: Scene) -> str:
    """A clear of which nothing is heard but a proxy's 504, and the minute after it; how Airflow's audit log would show it."""
    scene.airflow.fail["POST", "/clearTaskInstances"] = 504
    assert isinstance(await scene.deliver("clear"), DeliveryFailed)
    scene.clock.seconds += CLEAR_SECONDS - 1
    assert isinstance(await scene.deliver("clear", age=CLEAR_SECONDS - 1), DeliveryPostponed)
    assert len(scene.airflow.told("POST")) == 1
    scene.clock.seconds += 1
    return json.dumps({"waitd_clear": f"{EVENT_ID}@{scene.airflow.store['waitd_outcome']['sent_at']:.3f}"})


async def test_a_clear_that_airflow_never_saw_is_sent_again(scene: Scene) -> None:
    await sent_into_the_dark(scene)
    assert await scene.deliver("clear", age=CLEAR_SECONDS) == Delivered()
    assert len(scene.airflow.told("POST")) == 2


async def test_a_clear_that_airflow_has_seen_is_never_sent_again(scene: Scene) -> None:
    entry = await sent_into_the_dark(scene)
    others = [json.dumps({"waitd_clear": f"{OTHER_ID}@{n}"}) for n in range(150)]
    scene.airflow.audit = [*others, entry]
    receipt = await scene.deliver("clear", age=CLEAR_SECONDS)
    assert isinstance(receipt, DeliveryRejected)
    assert "Airflow's audit log has it;" in receipt.error
    assert "redeliver" in receipt.error
    assert scene.airflow.store["waitd_outcome"]["event_id"] == EVENT_ID  # for whoever clears by hand
    assert len(scene.airflow.told("POST")) == 1


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (403, "audit log cannot be read (Airflow answered 403"),
        (None, "audit log is too long"),
    ],
)
async def test_a_clear_that_cannot_be_proved_to_have_failed_is_never_sent_again(
    scene: Scene, answer: int | None, said: str
) -> None:
    await sent_into_the_dark(scene)
    if answer is None:
        scene.airflow.audit = ["{}"] * 1001
    else:
        scene.airflow.fail["GET", "/eventLogs"] = answer
    receipt = await scene.deliver("clear", age=CLEAR_SECONDS)
    assert isinstance(receipt, DeliveryRejected)
    assert said in receipt.error
    assert len(scene.airflow.told("POST")) == 1


async def test_an_audit_log_that_does_not_answer_is_asked_again(scene: Scene) -> None:
    await sent_into_the_dark(scene)
    for trouble in (503, 404):
        scene.airflow.fail["GET", "/eventLogs"] = trouble
        assert isinstance(await scene.deliver("clear", age=CLEAR_SECONDS), DeliveryFailed)
    assert len(scene.airflow.told("POST")) == 1
    assert await scene.deliver("clear", age=CLEAR_SECONDS) == Delivered()


async def test_no_clear_is_sent_while_the_state_store_does_not_tell(scene: Scene) -> None:
    await sent_into_the_dark(scene)
    for trouble in (503, 400, web.Response(status=404, text="of a proxy")):
        scene.airflow.fail["GET", "/state-store/waitd_outcome"] = trouble
        assert isinstance(await scene.deliver("clear", age=CLEAR_SECONDS), DeliveryFailed)
    assert len(scene.airflow.told("POST")) == 1


async def test_each_clear_is_looked_for_by_its_own_mark(scene: Scene) -> None:
    """The first one that was sent never arrived; the second did, and was lost on its way back, and nothing came of it."""
    await sent_into_the_dark(scene)
    scene.airflow.fail["POST", "/clearTaskInstances"] = "lost"
    assert isinstance(await scene.deliver("clear", age=CLEAR_SECONDS), DeliveryFailed)
    scene.airflow.ti_id, scene.airflow.state = TI_ID, "deferred"  # rolled back
    scene.clock.seconds += CLEAR_SECONDS
    assert isinstance(await scene.deliver("clear", age=2 * CLEAR_SECONDS), DeliveryRejected)
    assert len(scene.airflow.told("POST")) == 2


async def test_who_redelivers_decides_that_a_clear_is_sent_once_more(scene: Scene) -> None:
    scene.airflow.audit = [await sent_into_the_dark(scene)]
    assert isinstance(await scene.deliver("clear", age=CLEAR_SECONDS), DeliveryRejected)
    assert await scene.deliver("clear", age=0) == Delivered()  # a new delivery
    assert len(scene.airflow.told("POST")) == 2


async def test_a_clear_that_airflow_refused_was_none(scene: Scene) -> None:
    scene.airflow.fail["POST", "/clearTaskInstances"] = 409
    assert isinstance(await scene.deliver("clear"), DeliveryFailed)
    assert scene.airflow.store == {}
    assert await scene.deliver("clear") == Delivered()


async def test_an_outcome_that_an_earlier_event_left_does_not_hold_up_a_clear(scene: Scene) -> None:
    scene.airflow.store = {"waitd_outcome": {**TOLD, "event_id": OTHER_ID, "sent_at": scene.clock()}}
    assert await scene.deliver("clear") == Delivered()
    assert scene.airflow.store["waitd_outcome"]["event_id"] == EVENT_ID


async def test_a_payload_that_the_state_store_does_not_take_is_left_out(scene: Scene) -> None:
    assert (
        await scene.deliver("clear", payload="ü" * 20_000) == Delivered()
    )  # six bytes each, as Airflow writes it
    left = scene.airflow.store["waitd_outcome"]
    assert (left["payload"], left["reason"], left["event_id"]) == (None, "result_omitted", EVENT_ID)


# ------------------------------------------------------------ dag_run, asset_event


async def test_dag_run_starts_a_run_named_after_the_wait(scene: Scene) -> None:
    assert await scene.deliver("dag_run", dag_id="etl", conf={"day": 1}) == Delivered()
    assert scene.airflow.told("POST") == [
        {"dag_run_id": f"waitd__{EVENT_ID}", "logical_date": None, "conf": {"day": 1, "waitd": OUTCOME}}
    ]
    assert await scene.deliver("dag_run", dag_id="etl") == Delivered()
    assert len(scene.airflow.runs) == 1


async def test_a_run_of_that_id_that_is_not_ours_is_dead(scene: Scene) -> None:
    scene.airflow.runs["mine"] = {"conf": {}}
    receipt = await scene.deliver("dag_run", dag_id="etl", new_dag_run_id="mine")
    assert isinstance(receipt, DeliveryRejected)
    assert receipt.error.startswith("superseded")


async def test_an_unknown_dag_is_tried_again(scene: Scene) -> None:
    assert isinstance(await scene.deliver("dag_run", dag_id="nope"), DeliveryFailed)


async def test_asset_event_finds_the_asset_by_its_exact_uri(scene: Scene) -> None:
    scene.airflow.assets = [{"id": n, "uri": f"s3://landing/orders{n}"} for n in range(150)]
    scene.airflow.assets.append({"id": 150, "uri": "s3://landing/orders"})
    receipt = await scene.deliver("asset_event", asset_uri="s3://landing/orders", partition_key="2026-11-21")
    assert receipt == Delivered()
    assert scene.airflow.events == [
        {"asset_id": 150, "extra": {"waitd": OUTCOME}, "partition_key": "2026-11-21"}
    ]


async def test_asset_event_is_made_once(scene: Scene) -> None:
    scene.airflow.assets = [{"id": 1, "uri": "s3://landing/orders"}]
    scene.airflow.fail["POST", "/assets/events"] = "lost"
    assert isinstance(await scene.deliver("asset_event", asset_id=1), DeliveryFailed)
    others = [{"asset_id": 1, "extra": {"waitd": {"event_id": OTHER_ID}}}] * 120 + [
        {"asset_id": 1, "extra": {}}
    ]
    scene.airflow.events[:0] = others
    assert await scene.deliver("asset_event", asset_id=1) == Delivered()
    assert len(scene.airflow.told("POST")) == 1
    assert "partition_key" not in scene.airflow.told("POST")[0]


async def test_an_asset_that_no_dag_declares_is_tried_again(scene: Scene) -> None:
    assert isinstance(await scene.deliver("asset_event", asset_uri="s3://nobody"), DeliveryFailed)
    assert isinstance(await scene.deliver("asset_event", asset_id=9), DeliveryFailed)


@pytest.mark.parametrize("mode", ["resume", "set_state", "clear", "dag_run", "asset_event"])
async def test_cancelled_is_never_delivered_here(scene: Scene, mode: str) -> None:
    scene.airflow.assets = [{"id": 1, "uri": "s3://landing/orders"}]
    more = NEEDS.get(mode, {})
    assert isinstance(await scene.deliver(mode, state="cancelled", **more), DeliveryRejected)
    assert scene.airflow.asked == []


# ------------------------------------------------------------ who asks


async def test_one_token_is_used_by_all_until_a_fifth_of_its_life_is_left(scene: Scene) -> None:
    receipts = [scene.deliver("dag_run", dag_id="etl", wait_id=f"w{n}") for n in range(10)]
    assert set(await asyncio.gather(*receipts)) == {Delivered()}
    scene.clock.seconds += 0.79 * 86_400
    await scene.deliver()
    assert scene.airflow.logins == 1
    scene.clock.seconds += 0.02 * 86_400
    await scene.deliver()
    assert scene.airflow.logins == 2


@pytest.mark.parametrize("status", [401, 403])
async def test_a_token_that_is_refused_is_replaced_once(scene: Scene, status: int) -> None:
    await scene.deliver()
    airflow = scene.airflow
    if status == 401:
        airflow.good.clear()
    else:
        airflow.fail["GET", f"/{TASK}/-1"] = said(403, "Invalid JWT token")
    assert isinstance(await scene.deliver(), DeliveryPostponed)
    assert airflow.logins == 2


async def test_credentials_that_are_no_good_are_tried_again_up_the_ladder(scene: Scene) -> None:
    scene.resolver.connection = Connection("airflow", "airflow", host=scene.airflow.url, password="static")
    receipt = await scene.deliver()
    assert isinstance(receipt, DeliveryFailed)
    assert "does not accept the connection's credentials" in receipt.error
    assert "static" not in receipt.error
    assert scene.airflow.logins == 0


@pytest.mark.parametrize("extra", [{"token": "static"}, {}])
async def test_a_static_bearer_token_is_sent_as_it_is(scene: Scene, extra: dict[str, str]) -> None:
    scene.airflow.good.add("static")
    scene.resolver.connection = Connection(
        "airflow", "airflow", host=scene.airflow.url, password=None if extra else "static", extra=extra
    )
    assert await scene.resumed() == Delivered()
    assert scene.airflow.logins == 0


@pytest.mark.parametrize(
    ("mode", "role"), [("set_state", "User"), ("dag_run", "User"), ("asset_event", "Op")]
)
async def test_a_missing_role_is_dead_and_named(scene: Scene, mode: str, role: str) -> None:
    scene.airflow.role = "viewer"
    scene.airflow.assets = [{"id": 1, "uri": "s3://landing/orders"}]
    more = NEEDS.get(mode, {})
    receipt = await scene.deliver(mode, **more)
    assert isinstance(receipt, DeliveryRejected)
    assert receipt.error.endswith(f"needs the role {role}")


async def test_a_task_that_is_not_assigned_to_this_user_is_dead(scene: Scene) -> None:
    scene.airflow.respondents = ("somebody",)
    receipt = await scene.resumed()
    assert isinstance(receipt, DeliveryRejected)
    assert "assigned_users" in receipt.error


@pytest.mark.parametrize("status", [429, 500, 502, 503, 301])
async def test_an_airflow_in_trouble_is_tried_again(scene: Scene, status: int) -> None:
    scene.airflow.fail["GET", f"/{TASK}/-1"] = status
    assert await scene.deliver() == DeliveryFailed(_Any(), None)


async def test_an_airflow_that_is_not_there_is_tried_again(scene: Scene) -> None:
    scene.airflow.good.add("static")
    scene.resolver.connection = Connection("airflow", "airflow", host="http://127.0.0.1:9", password="static")
    assert await scene.deliver() == DeliveryFailed("could not connect to Airflow")


async def test_a_metadata_address_is_not_asked(scene: Scene) -> None:
    scene.resolver.connection = Connection("airflow", "airflow", host="http://169.254.169.254", password="t")
    receipt = await scene.deliver()
    assert isinstance(receipt, DeliveryFailed)
    assert "169.254" in receipt.error or "metadata" in receipt.error


# ------------------------------------------------------------ parameters


@pytest.mark.parametrize(
    ("params", "pointers"),
    [
        ({}, ["/conn_id"]),
        ({"conn_id": "c"}, ["/dag_id", "/run_id", "/task_id", "/ti_id", "/try_number"]),
        ({"conn_id": "c", "mode": "defer"}, ["/mode"]),
        ({"conn_id": "a b", **PLACE}, ["/conn_id"]),
        ({"conn_id": "c", **PLACE, "ti_id": "x"}, ["/ti_id"]),
        ({"conn_id": "c", **PLACE, "map_index": -2}, ["/map_index"]),
        ({"conn_id": "c", **PLACE, "map_index": "1"}, ["/map_index"]),
        ({"conn_id": "c", **PLACE, "try_number": 0}, ["/try_number"]),
        ({"conn_id": "c", **PLACE, "dag_id": ".."}, ["/dag_id"]),
        ({"conn_id": "c", **PLACE, "dag_id": "../x"}, ["/dag_id"]),
        ({"conn_id": "c", **PLACE, "task_id": "a/b"}, ["/task_id"]),
        ({"conn_id": "c", **PLACE, "run_id": "a\nb"}, ["/run_id"]),
        ({"conn_id": "c", **PLACE, "dag_id": "\ud800"}, ["/dag_id"]),
        ({"conn_id": "c", **PLACE, "xcom_key": "k"}, ["/xcom_key"]),
        ({"conn_id": "c", **PLACE, "state_store_key": "k"}, ["/state_store_key"]),
        ({"conn_id": "c", **PLACE, "password": "k"}, ["/password"]),
        ({"conn_id": "c", "mode": "set_state", **PLACE, "xcom_key": "waitd_event_id"}, ["/xcom_key"]),
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
def test_a_bad_parameter_is_pointed_at(scene: Scene, params: Mapping[str, Any], pointers: list[str]) -> None:
    with pytest.raises(InvalidInput) as raised:
        scene.sink.parse(params)
    assert [problem.pointer for problem in raised.value.problems] == pointers


async def test_names_are_one_segment_each(scene: Scene) -> None:
    await scene.deliver(dag_id="a b?c#d%2e", run_id="manual__2026-11-21T00:00:00+00:00", task_id="group.wait")
    [path] = [path for _, path, _ in scene.airflow.asked if "dagRuns" in path]
    assert path.endswith(
        "/dags/a%20b%3Fc%23d%252e/dagRuns/manual__2026-11-21T00%3A00%3A00%2B00%3A00/taskInstances/group.wait/-1"
    )


def test_the_target_names_its_dag(scene: Scene) -> None:
    parse = scene.sink.parse
    assert parse({"conn_id": "c", **PLACE}).dag_id == "etl"
    assert parse({"conn_id": "c", "mode": "dag_run", "dag_id": "d"}).dag_id == "d"
    assert parse({"conn_id": "c", "mode": "asset_event", "asset_id": 1}).dag_id is None
