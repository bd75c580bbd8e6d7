"""Costs over the API: of each wait, and their sums."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp.test_utils import TestClient
from api_fakes import DAY, NOW, Api, ApiServer, WatchedStore, problem_of, services_for
from documented import Documented

from waitd.api import build_application
from waitd.core.costs.model import CostConstants, MeasuredUsage, Prices
from waitd.core.waits.wait import Outcome, Progress, VerdictRun, WaitSpec, WaitState
from waitd.ports import LiveWait, NewWait, StoredWait, StoreListener, UnstoredOutcome
from waitd.stores import CostRules, Database, Store

CONSTANTS = CostConstants(
    0.5, 0.1, 0.01, {"default": 0.2}, 2.0, 100.0, {"default": 0.001}, {"default": 5.0}, 1000.0, 500
)
PRICES = Prices(slot_hour=3600.0, vcpu_hour=0.0, gib_hour=0.0, currency="EUR")
DONE = Outcome(WaitState.SUCCESS, None, "", "success")


@dataclass
class FakeMeter:
    """A second of CPU a poke, two bytes a second; ten CPU-seconds for the end."""

    constants: CostConstants = CONSTANTS
    prices: Prices = PRICES
    labels: tuple[str, ...] = ("dag_id",)

    def measured(self, spec: WaitSpec, pokes: int, seconds: float, *, ended: bool) -> MeasuredUsage:
        return MeasuredUsage(pokes + (10.0 if ended else 0.0), 2.0 * seconds)


class MeterListener(StoreListener):
    def __init__(self, meter: FakeMeter) -> None:
        self.meter = meter

    def measure(self, wait: StoredWait, seconds: float) -> MeasuredUsage | None:
        return self.meter.measured(wait.spec, wait.progress.pokes, seconds, ended=True)


@dataclass
class Counted:
    """The API of a daemon that measures."""

    client: TestClient[Any, Any]
    store: Store
    api: Any

    async def add(self, namespace: str = "default", **spec: Any) -> StoredWait:
        fields: dict[str, Any] = {
            "kind": "plain",
            "params": {},
            "poke_interval": 60.0,
            "timeout": 600.0,
        } | spec
        [added] = await self.store.insert([NewWait(namespace, WaitSpec(**fields))])
        return added.wait  # type: ignore[union-attr]  # it was stored

    async def ended(self, at: float = NOW + 60, **spec: Any) -> StoredWait:
        wait = await self.add(**spec)
        done = await self.store.finish(UnstoredOutcome(wait.id, Progress(3), DONE, at))
        assert done is not None
        return done.wait

    async def cost(self, **query: str) -> dict[str, Any]:
        async with self.client.get("/v1/cost", params=query) as response:
            assert response.status == 200, await response.text()
            found: dict[str, Any] = await response.json()
            return found


@pytest.fixture
async def counted() -> AsyncIterator[Counted]:
    meter = FakeMeter()
    store = Store(
        await Database.open("sqlite+aiosqlite://"),
        destination_of=lambda _, sink: str(sink["kind"]),
        now=lambda: NOW,
        listener=MeterListener(meter),
        costs=CostRules(("dag_id",), 100, 400 * DAY),
    )
    services = services_for(WatchedStore(store), [], meter=meter, now=lambda: NOW + 5)
    application, documented = build_application(services), Documented()
    application.on_response_prepare.append(documented.note)
    async with TestClient(ApiServer(application, services.instruments)) as client:
        documented.document = await (await client.get("/openapi.json")).json()
        yield Counted(client, store, services)
    assert documented.missing == []
    await store.close()


async def test_a_waiting_wait_shows_what_it_has_cost_so_far(counted: Counted) -> None:
    wait = await counted.add(sinks=({"kind": "airflow", "mode": "resume"},))
    counted.api.poking.lives[wait.id] = LiveWait(
        Progress(7, 1, None, (VerdictRun("pending", "p", "", NOW, NOW, 7),)), NOW + 1
    )
    cost = (await (await counted.client.get(f"/v1/waits/{wait.id}")).json())["cost"]
    assert list(cost) == ["poke", "reschedule", "defer", "waitd"]
    assert cost["reschedule"]["slot_seconds"] == 14.0
    assert cost["waitd"]["cpu_seconds"] == pytest.approx(7 + 0.1 + 0.01)
    assert cost["waitd"]["slot_seconds"] == 2.0, "it has parked and not yet been resumed"
    assert cost["reschedule"]["cost"] == pytest.approx(14.0)
    assert cost["poke"]["currency"] == "EUR"


async def test_a_new_wait_has_cost_no_time(counted: Counted) -> None:
    body = {"kind": "plain", "params": {"endpoint": "/x"}, "poke_interval": 60, "timeout": 600}
    async with counted.client.post("/v1/waits", json=body) as response:
        taken = await response.json()
    assert taken["cost"]["poke"]["slot_seconds"] == 2.0, "a run of the task"
    assert taken["cost"]["waitd"]["memory_byte_seconds"] == 0.0
    shown = await (await counted.client.get(f"/v1/waits/{taken['id']}")).json()
    assert shown["cost"]["waitd"]["memory_byte_seconds"] == 10.0


async def test_an_ended_wait_shows_what_was_stored_with_its_end(counted: Counted) -> None:
    wait = await counted.ended()
    page = await (await counted.client.get("/v1/waits")).json()
    cost = page["waits"][0]["cost"]
    assert page["waits"][0]["id"] == wait.id
    assert cost["waitd"] == {
        "slot_seconds": 0.0, "cpu_seconds": 13.0, "memory_byte_seconds": 120.0, "cost": 0.0, "currency": "EUR",
    }  # fmt: skip
    assert cost["poke"]["slot_seconds"] == 62.0


async def test_sums_by_label_kind_and_day(counted: Counted) -> None:
    await counted.ended(labels={"dag_id": "a"})
    await counted.ended(labels={"dag_id": "a"})
    await counted.ended(kind="http")
    await counted.store.save_overhead(MeasuredUsage(5.0, 50.0))
    found = await counted.cost(by="dag_id")
    assert {row["name"]: row["waits"] for row in found["rows"]} == {"a": 2, "": 1}
    assert (found["by"], found["currency"], found["more"]) == ("dag_id", "EUR", False)
    total = found["total"]
    assert (total["waits"], total["wait_seconds"], total["pokes"]) == (3, 180.0, 9)
    assert total["poke"]["slot_seconds"] == 186.0
    assert total["waitd"]["cpu_seconds"] == 39.0
    assert found["overhead"]["cpu_seconds"] == 5.0
    assert {row["name"] for row in (await counted.cost())["rows"]} == {"plain", "http"}
    assert [row["name"] for row in (await counted.cost(by="day"))["rows"]] == ["2023-11-14"]
    assert (await counted.cost(since="2023-11-15"))["total"]["waits"] == 0
    assert (await counted.cost())["since"] == "2023-10-15"
    assert (await counted.cost(limit="1"))["more"] is True


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"by": "run_id"}, "/by"),
        ({"since": "yesterday"}, "/since"),
        ({"since": "20231114"}, "/since"),
        ({"since": "2023-02-30"}, "/since"),
        ({"limit": "0"}, "/limit"),
        ({"until": "2023-11-15"}, "/until"),
    ],
)
async def test_an_invalid_cost_query_points_at_its_parameter(
    counted: Counted, query: dict[str, str], pointer: str
) -> None:
    problem = await problem_of(await counted.client.get("/v1/cost", params=query), 422, "invalid-input")
    assert problem["errors"][0]["pointer"] == pointer


async def test_a_daemon_without_costs_says_so(api: Api) -> None:
    wait_id = await api.submitted()
    assert (await (await api.client.get(f"/v1/waits/{wait_id}")).json())["cost"] is None
    problem = await problem_of(await api.client.get("/v1/cost"), 404, "not-found")
    assert "cost.enabled" in problem["detail"]
