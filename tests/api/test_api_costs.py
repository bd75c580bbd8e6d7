"""Costs over the API: of each wait, and their sums."""

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import pytest
from api_answers import pointers_of, problem_of
from api_fakes import NOW, SUCCESS, Api, WatchedStore, wait

from waitd.api import dependencies
from waitd.core.costs.model import CostConstants, MeasuredUsage, Prices
from waitd.core.waits.wait import Progress, VerdictRun, WaitId, WaitSpec
from waitd.ports import Inserted, LiveWait, NewWait, StoredWait, UnstoredOutcome
from waitd.stores import CostRules, open_database

CONSTANTS = CostConstants(
    0.5, 0.1, 0.01, {"default": 0.2}, 2.0, 100.0, {"default": 0.001}, {"default": 5.0}, 1000.0, 500
)
PRICES = Prices(slot_hour=3600.0, vcpu_hour=0.0, gib_hour=0.0, currency="EUR")


@dataclass
class FakeMeter:
    """A second of CPU a poke, two bytes a second; ten CPU-seconds for the end."""

    constants: CostConstants = CONSTANTS
    prices: Prices = PRICES
    labels: tuple[str, ...] = ("dag_id",)

    def measured(self, spec: WaitSpec, pokes: int, seconds: float, *, ended: bool) -> MeasuredUsage:
        return MeasuredUsage(pokes + (10.0 if ended else 0.0), 2.0 * seconds)


@pytest.fixture
def meter() -> FakeMeter:
    return FakeMeter()


@pytest.fixture
async def store(meter: FakeMeter) -> AsyncIterator[WatchedStore]:
    """A store that measures."""

    def measure(wait: StoredWait, seconds: float) -> MeasuredUsage:
        return meter.measured(wait.spec, wait.progress.pokes, seconds, ended=True)

    store = WatchedStore(
        await open_database("sqlite+aiosqlite://"),
        measure=measure,
        costs=CostRules(("dag_id",), 100),
    )
    yield store
    await store.close()


@pytest.fixture
def more(meter: FakeMeter) -> dict[str, Any]:
    return {"meter": meter, "now": lambda: NOW + 5}


async def end_wait(api: Api, **fields: Any) -> str:
    """Ends a wait after 60 s and three pokes; returns its id."""
    wait_id = WaitId(await api.submit(**fields))
    assert await api.store.finish(UnstoredOutcome(wait_id, Progress(3), SUCCESS, NOW + 60))
    return wait_id


async def test_a_waiting_wait_shows_what_it_has_cost_so_far(api: Api) -> None:
    spec = WaitSpec("plain", {}, 60.0, 600.0, sinks=({"kind": "airflow", "mode": "resume"},))
    [added] = await api.store.insert([NewWait("default", spec)])
    assert isinstance(added, Inserted)
    progress = Progress(7, 1, None, (VerdictRun("pending", "p", "", NOW, NOW, 7),))
    api.poking.lives[added.wait.id] = LiveWait(progress, NOW + 1)
    cost = (await api.get(f"/v1/waits/{added.wait.id}"))["cost"]
    assert list(cost) == ["poke", "reschedule", "defer", "waitd"]
    assert cost["reschedule"]["slot_seconds"] == 14.0
    assert cost["waitd"]["cpu_seconds"] == pytest.approx(7 + 0.1 + 0.01)
    assert cost["waitd"]["slot_seconds"] == 2.0, "it has parked and not yet been resumed"
    assert cost["reschedule"]["cost"] == pytest.approx(14.0)
    assert cost["poke"]["currency"] == "EUR"


async def test_a_new_wait_has_cost_only_its_start(api: Api) -> None:
    submitted = await (await api.post("/v1/waits", wait())).json()
    assert submitted["cost"]["poke"]["slot_seconds"] == 2.0, "a run of the task"
    assert submitted["cost"]["waitd"]["memory_byte_seconds"] == 0.0
    shown = await api.get(f"/v1/waits/{submitted['id']}")
    assert shown["cost"]["waitd"]["memory_byte_seconds"] == 10.0


async def test_an_ended_wait_shows_the_cost_that_was_stored_with_its_end(api: Api) -> None:
    wait_id = await end_wait(api)
    [shown] = (await api.get("/v1/waits"))["waits"]
    assert shown["id"] == wait_id
    assert shown["cost"]["waitd"] == {
        "slot_seconds": 0.0, "cpu_seconds": 13.0, "memory_byte_seconds": 120.0, "cost": 0.0, "currency": "EUR",
    }  # fmt: skip
    assert shown["cost"]["poke"]["slot_seconds"] == 62.0


async def test_sums_by_label_kind_and_day(api: Api) -> None:
    for fields in ({"labels": {"dag_id": "a"}}, {"labels": {"dag_id": "a"}}, {"kind": "http"}):
        await end_wait(api, **fields)
    await api.store.save_overhead(MeasuredUsage(5.0, 50.0), 0.0)
    sums = await api.get("/v1/cost", by="dag_id")
    assert {row["name"]: row["waits"] for row in sums["rows"]} == {"a": 2, "": 1}
    assert (sums["by"], sums["currency"], sums["more"]) == ("dag_id", "EUR", False)
    total = sums["total"]
    assert (total["waits"], total["wait_seconds"], total["pokes"]) == (3, 180.0, 9)
    assert total["poke"]["slot_seconds"] == 186.0
    assert total["waitd"]["cpu_seconds"] == 39.0
    assert sums["overhead"]["cpu_seconds"] == 5.0
    by_kind = await api.get("/v1/cost")
    assert {row["name"] for row in by_kind["rows"]} == {"plain", "http"}
    assert by_kind["since"] == "2023-10-15"
    assert [row["name"] for row in (await api.get("/v1/cost", by="day"))["rows"]] == ["2023-11-14"]
    assert (await api.get("/v1/cost", since="2023-11-15"))["total"]["waits"] == 0
    assert (await api.get("/v1/cost", limit="1"))["more"] is True


async def test_the_rows_of_all_pages_are_the_rows(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        await end_wait(api, labels={"dag_id": f"dag{number}"})
    whole = (await api.get("/v1/cost", by="dag_id"))["rows"]
    assert len(whole) == 7
    assert await api.pages("/v1/cost", "rows", by="dag_id", limit="3") == [whole[:3], whole[3:6], whole[6:]]
    monkeypatch.setattr(dependencies, "PAGE_BYTES", 1)
    assert await api.pages("/v1/cost", "rows", by="dag_id") == [[row] for row in whole]


@pytest.mark.parametrize(
    ("query", "pointer"),
    [
        ({"by": "run_id"}, "/by"),
        ({"since": "yesterday"}, "/since"),
        ({"since": "20231114"}, "/since"),
        ({"since": "2023-02-30"}, "/since"),
        ({"limit": "0"}, "/limit"),
        ({"until": "2023-11-15"}, "/until"),
        ({"page_token": "x"}, "/page_token"),
    ],
)
async def test_an_invalid_cost_query_points_at_its_parameter(
    api: Api, query: dict[str, str], pointer: str
) -> None:
    assert await pointers_of(await api.client.get("/v1/cost", params=query)) == [pointer]


@pytest.mark.parametrize("more", [{}])
async def test_a_daemon_without_costs_says_so(api: Api) -> None:
    assert (await api.get(f"/v1/waits/{await api.submit()}"))["cost"] is None
    problem = await problem_of(await api.client.get("/v1/cost"), 404, "not-found")
    assert "cost.enabled" in problem["detail"]
