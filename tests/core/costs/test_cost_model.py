"""The cost model, with constants that are easy to check by hand."""

from dataclasses import replace
from itertools import pairwise
from math import inf

import pytest

from waitd.core.costs.model import (
    GIB,
    HOUR,
    CostConstants,
    CostMode,
    ExampleWait,
    MeasuredUsage,
    Prices,
    ResourceUsage,
    SlotSpan,
    WaitingTotals,
    break_even_duration,
    break_even_poke_interval,
    resource_usage,
    slots_over_time,
)

CONSTANTS = CostConstants(
    task_cpu_seconds=0.5,
    defer_cpu_seconds=0.1,
    callback_cpu_seconds=0.01,
    reschedule_cpu_seconds={"default": 0.2, "http": 0.3},
    run_seconds=2.0,
    slot_bytes=100.0,
    trigger_cpu_seconds={"default": 0.001},
    trigger_bytes={"default": 5.0, "s3_key": 50.0},
    triggerer_bytes=1000.0,
    triggerer_capacity=500,
)
PRICES = Prices(slot_hour=0.0, vcpu_hour=3600.0, gib_hour=0.0, currency="EUR")
AIRFLOW = {"kind": "airflow", "dag_id": "d"}
#: The extra CPU seconds of an HTTP sensor over a sensor that does nothing.
LIBRARY = 0.1


def wait(
    *sinks: dict[str, str], kind: str = "http", seconds: float = 600.0, pokes: int = 11
) -> WaitingTotals:
    return WaitingTotals.from_wait(
        kind, sinks, seconds=seconds, pokes=pokes, measured=MeasuredUsage(0.05, 7000.0)
    )


def test_a_poking_sensor_holds_its_slot_for_the_wait_and_its_own_start() -> None:
    usage = resource_usage(CostMode.POKE, wait(), CONSTANTS)
    assert (usage.slot_seconds, usage.memory_byte_seconds) == (602.0, 60_200.0)
    assert usage.cpu_seconds == pytest.approx(0.5 + LIBRARY)
    assert resource_usage(CostMode.POKE, wait(kind="airbyte.job"), CONSTANTS).cpu_seconds == 0.5


def test_a_rescheduled_sensor_runs_for_each_poke_at_the_cost_of_its_kind() -> None:
    usage = resource_usage(CostMode.RESCHEDULE, wait(), CONSTANTS)
    assert (usage.slot_seconds, usage.memory_byte_seconds) == (22.0, 2200.0)
    assert usage.cpu_seconds == pytest.approx(3.3)
    other = resource_usage(CostMode.RESCHEDULE, wait(kind="airbyte.job"), CONSTANTS)
    assert other.cpu_seconds == pytest.approx(2.2)


def test_a_deferred_task_runs_twice_and_has_its_share_of_a_full_triggerer() -> None:
    usage = resource_usage(CostMode.DEFER, wait(), CONSTANTS)
    assert usage.slot_seconds == 4.0
    assert usage.cpu_seconds == pytest.approx(0.1 + LIBRARY + 0.5 + 11 * 0.001)
    assert usage.memory_byte_seconds == pytest.approx(4 * 100 + 600 * (5 + 1000 / 500))
    assert resource_usage(
        CostMode.DEFER, wait(kind="s3_key"), CONSTANTS
    ).memory_byte_seconds == pytest.approx(400 + 600 * 52)


@pytest.mark.parametrize(
    ("sinks", "slot_seconds", "cpu_seconds"),
    [
        ((), 0.0, 0.05),
        (({"kind": "webhook"},), 0.0, 0.05),
        ((AIRFLOW,), 4.0, 0.05 + 0.1 + LIBRARY + 0.5 + 0.01),
        (({**AIRFLOW, "mode": "resume"},), 4.0, 0.05 + 0.1 + LIBRARY + 0.5 + 0.01),
        (({**AIRFLOW, "mode": "clear"},), 4.0, 0.05 + 0.1 + LIBRARY + 0.5 + 0.01),
        (({**AIRFLOW, "mode": "set_state"},), 2.0, 0.05 + 0.1 + LIBRARY + 0.01),
        (({**AIRFLOW, "mode": "dag_run"},), 0.0, 0.05),
        (({"kind": "webhook"}, {**AIRFLOW, "mode": "set_state"}), 2.0, 0.05 + 0.1 + LIBRARY + 0.01),
    ],
)
def test_waitds_usage_is_measured_and_includes_the_task_runs_of_the_callback(
    sinks: tuple[dict[str, str], ...], slot_seconds: float, cpu_seconds: float
) -> None:
    usage = resource_usage(CostMode.WAITD, wait(*sinks), CONSTANTS)
    assert usage.slot_seconds == slot_seconds
    assert usage.cpu_seconds == pytest.approx(cpu_seconds)
    assert usage.memory_byte_seconds == pytest.approx(7000 + slot_seconds * 100)


@pytest.mark.parametrize("mode", CostMode)
def test_many_waits_cost_what_each_of_them_costs(mode: CostMode) -> None:
    waits = [wait(seconds=n * 10.0, pokes=n) for n in range(1, 30)] + [wait(AIRFLOW, seconds=5.0)]
    total = waits[0]
    for one in waits[1:]:
        total = total.plus(one)
    separate = sum((resource_usage(mode, one, CONSTANTS) for one in waits), ResourceUsage())
    together = resource_usage(mode, total, CONSTANTS)
    assert together.slot_seconds == pytest.approx(separate.slot_seconds)
    assert together.cpu_seconds == pytest.approx(separate.cpu_seconds)
    assert together.memory_byte_seconds == pytest.approx(separate.memory_byte_seconds)


def test_the_cost_is_the_sum_of_slots_cpu_and_memory() -> None:
    prices = Prices(slot_hour=2.0, vcpu_hour=3.0, gib_hour=5.0, currency="EUR")
    assert ResourceUsage(HOUR, 2 * HOUR, 3 * GIB * HOUR).money(prices) == pytest.approx(2 + 6 + 15)


def test_a_negative_duration_counts_as_zero() -> None:
    assert wait(seconds=-5.0).seconds == 0.0


def test_at_the_break_even_interval_a_rescheduled_poke_costs_what_the_held_slot_costs() -> None:
    prices = Prices(0.0, 1.0, 1.0, "EUR")
    interval = break_even_poke_interval("http", CONSTANTS, prices)
    held = resource_usage(CostMode.POKE, WaitingTotals("http", seconds=interval), CONSTANTS).money(prices)
    assert resource_usage(CostMode.RESCHEDULE, WaitingTotals("http", pokes=1), CONSTANTS).money(
        prices
    ) == pytest.approx(held)
    assert break_even_poke_interval("http", CONSTANTS, PRICES) == inf, "a slot that costs nothing may be held"


@pytest.mark.parametrize("mode", [CostMode.RESCHEDULE, CostMode.DEFER, CostMode.WAITD])
def test_at_its_break_even_a_mode_costs_what_a_held_slot_costs(mode: CostMode) -> None:
    prices = Prices(1.0, 1.0, 0.0, "EUR")
    example = ExampleWait("http", poke_interval=30.0, poke_cpu_seconds=0.0001, wait_bytes=1200)
    seconds = break_even_duration(mode, example, CONSTANTS, prices)
    if mode is CostMode.RESCHEDULE:
        assert seconds == 0.0, "each run is shorter than the interval, so it is cheaper from the start"
        return
    assert 0 < seconds < 60
    cost, held = (
        resource_usage(m, example.totals(seconds), CONSTANTS).money(prices) for m in (mode, CostMode.POKE)
    )
    assert cost == pytest.approx(held)
    longer = example.totals(seconds + 1)
    assert resource_usage(mode, longer, CONSTANTS).money(prices) < resource_usage(
        CostMode.POKE, longer, CONSTANTS
    ).money(prices)


def test_a_mode_that_costs_more_each_second_never_pays_off() -> None:
    expensive = replace(CONSTANTS, reschedule_cpu_seconds={"default": 1e6})
    example = ExampleWait("http", 30.0, 0.0001, 1200)
    assert break_even_duration(CostMode.RESCHEDULE, example, expensive, Prices(1.0, 1.0, 0.0, "EUR")) == inf


def brute_force(spans: list[SlotSpan], edges: list[float], mode: CostMode) -> list[float]:
    """The held slots of each interval, summed over the waits' shares of it."""
    held = []
    for low, high in pairwise(edges):
        overlaps = [max(0.0, min(s.end, high) - max(s.start, low)) for s in spans]
        held.append(
            sum(
                s.slot_seconds[mode] / (s.end - s.start) * overlap / (high - low)
                for s, overlap in zip(spans, overlaps, strict=True)
            )
        )
    return held


@pytest.mark.parametrize("start_at", [0.0, 1000.0])
def test_slots_over_time_are_each_waits_share_of_each_interval(start_at: float) -> None:
    def span(start: float, end: float, slot_seconds: float) -> SlotSpan:
        held = {mode: slot_seconds * (n + 1) for n, mode in enumerate(CostMode)}
        return SlotSpan(start_at + start, start_at + end, held)

    spans = [span(-9, -1, 8), span(100, 120, 20), span(3, 47, 44), span(10, 20, 5), span(0, 100, 200)]
    spans += [span(-50, 30, 80), span(95, 300, 205), span(12.5, 13.5, 1), span(40, 40.25, 3)]
    edges = [start_at + n * 10.0 for n in range(11)]
    slots = slots_over_time(spans, edges)
    for mode in CostMode:
        assert slots[mode] == pytest.approx(brute_force(spans, edges, mode))


def test_a_wait_without_duration_still_holds_its_slot() -> None:
    slots = slots_over_time([SlotSpan(5.0, 5.0, dict.fromkeys(CostMode, 2.0))], [0.0, 10.0])
    assert slots[CostMode.POKE] == [pytest.approx(0.2)]
