"""The meter, with a scripted CPU clock and memory: what it accounts for, without loss."""

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from fakes import MemoryStore, ScriptedProbe, waiting
from msgspec.structs import replace

from waitd.core.costs.model import CostConstants, Prices
from waitd.core.waits.verdict import Pending
from waitd.core.waits.wait import Outcome, WaitState
from waitd.engine.memory_sizing import bytes_each
from waitd.engine.meter import OWN_KINDS, Meter
from waitd.engine.poker import Poker
from waitd.engine.wait_counts import WaitCounts
from waitd.metrics import Instruments
from waitd.ports import StoredOutcome

CONSTANTS = CostConstants(
    task_cpu_seconds=0.5,
    defer_cpu_seconds=0.1,
    callback_cpu_seconds=0.01,
    reschedule_cpu_seconds={"default": 0.2},
    run_seconds=2.0,
    slot_bytes=100.0,
    trigger_cpu_seconds={"default": 0.001},
    trigger_bytes={"default": 5.0},
    triggerer_bytes=1000.0,
    triggerer_capacity=500,
)
PRICES = Prices(0.0, 1.0, 0.0, "EUR")
POKE, RSS = 200e-6, 50_000_000


class HandClock:
    """A clock that stands still until it is moved."""

    def __init__(self) -> None:
        self.at = 1_000.0

    def now(self) -> float:
        return 1_800_000_000.0 + self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep_until(self, when: float, wakeup: asyncio.Event) -> None:
        raise AssertionError("nobody sleeps here")


class Bench:
    """A meter with a real poker that is not running; tests fill the instruments themselves."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.instruments = Instruments(version="test")
        probe = ScriptedProbe(lambda *_: Pending(), self.clock.now)
        self.poker = Poker(
            MemoryStore(),
            {"scripted": probe},
            self.clock,
            self.instruments,
            capacity=100_000,
            poke_concurrency=10,
            per_host_concurrency=10,
        )
        self.wait_counts = WaitCounts(self.instruments)
        self.cpu = 0.0
        self.meter = Meter(
            self.poker,
            self.clock,
            self.instruments,
            held=self.wait_counts.waiting,
            constants=CONSTANTS,
            prices=PRICES,
            labels=("dag_id",),
            poke_cpu_seconds={"default": 120e-6},
            cpu_time=lambda: self.cpu,
            memory=lambda: RSS,
        )

    def hold(self, count: int, **spec: Any) -> list[Any]:
        """Waits that are accepted now."""
        waits = [waiting(f"w{n}", self.clock.now(), **spec) for n in range(count)]
        self.wait_counts.on_inserted(waits)
        self.poker.adopt(waits)
        self.meter.on_inserted(waits)
        return waits

    def second(self, pokes: int, *, looks: int | None = None, cpu: float | None = None) -> None:
        """A second in which there were so many pokes."""
        self.instruments.pokes.labels("scripted", "pending").inc(pokes)
        spread = self.instruments.poke_duration.labels("scripted")
        spread.counts[0] += pokes if looks is None else looks
        self.cpu += 0.002 + pokes * POKE if cpu is None else cpu
        self.clock.at += 1.0
        self.meter.sample()

    def value(self, name: str, **labels: str) -> float:
        self.meter.refresh_gauges()
        found = self.instruments.registry.get_sample_value(name, labels)
        assert found is not None, name
        return found

    def cpu_of_pokes(self) -> float:
        return self.value("waitd_poke_cpu_seconds_total", kind="scripted")


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_what_a_poke_takes_is_the_slope_of_cpu_over_pokes_and_the_rest_is_overhead(bench: Bench) -> None:
    rates = [0, 500, 1000, 2000, 4000] * 40
    for pokes in rates:
        bench.second(pokes, cpu=0.02 + pokes * POKE)
    assert bench.meter.poke_cpu_seconds("scripted") == pytest.approx(POKE, rel=0.02)
    before, rest = bench.cpu_of_pokes(), bench.meter.overhead.cpu_seconds
    for pokes in rates:
        bench.second(pokes, cpu=0.02 + pokes * POKE)
    assert bench.cpu_of_pokes() - before == pytest.approx(sum(rates) * POKE, rel=0.02)
    assert bench.meter.overhead.cpu_seconds - rest == pytest.approx(len(rates) * 0.02, rel=0.1)


def test_all_of_the_cpu_is_accounted_for_and_none_twice(bench: Bench) -> None:
    import random

    chance = random.Random(5)
    for _ in range(600):
        pokes = int(chance.uniform(0, 3000))
        bench.second(pokes, cpu=max(0.0, 0.005 + pokes * POKE * chance.gauss(1, 0.2)))
    accounted = bench.cpu_of_pokes() + bench.value("waitd_overhead_cpu_seconds_total")
    assert accounted == pytest.approx(bench.cpu, rel=0.03)
    assert bench.value("waitd_cpu_seconds_total", mode="waitd") == pytest.approx(bench.cpu)


def test_waits_that_share_a_request_share_its_cpu(bench: Bench) -> None:
    for _ in range(200):
        for looks in (0, 100, 300):
            bench.second(looks * 10, looks=looks, cpu=0.002 + looks * POKE + looks * 9 * 20e-6)
    assert bench.meter.poke_cpu_seconds("scripted") == pytest.approx((POKE + 9 * 20e-6) / 10, rel=0.05)


def test_a_wait_that_ends_has_used_its_pokes_its_memory_its_end_and_its_deliveries(bench: Bench) -> None:
    waits = bench.hold(100)
    for pokes in [0, 1000, 2000, 4000] * 30:
        bench.second(pokes)
    spec = waits[0].spec
    running = bench.meter.measured(spec, 50, 600.0, ended=False)
    assert running.byte_seconds == pytest.approx(600 * bench.meter.wait_bytes)
    assert running.cpu_seconds == pytest.approx(50 * POKE, rel=0.05, abs=150e-6)
    ended = bench.meter.measured(spec, 50, 600.0, ended=True)
    assert 0 < ended.cpu_seconds - running.cpu_seconds < 1e-3
    assert bench.meter.measured(spec, 0, -5.0, ended=True).byte_seconds == 0.0


def test_slots_held_are_those_of_the_waits_in_hand(bench: Bench) -> None:
    waits = bench.hold(300)
    for _ in range(300):
        bench.second(30)
    assert bench.value("waitd_slots_held", mode="poke") == 300
    assert bench.value("waitd_slots_held", mode="reschedule") == pytest.approx(30 * 2.0, rel=0.02)
    assert bench.value("waitd_slots_held", mode="defer") < 10, "each ran once, five minutes ago"
    assert bench.value("waitd_slots_held", mode="waitd") == 0.0
    assert bench.value("waitd_slot_seconds_total", mode="poke") == pytest.approx(300 * 300 + 300 * 2)
    assert bench.value("waitd_slot_seconds_total", mode="reschedule") == pytest.approx(300 * 30 * 2)
    assert bench.value("waitd_memory_byte_seconds_total", mode="waitd") == pytest.approx(RSS * 300)
    bench.wait_counts.on_finished([_ended(wait) for wait in waits])
    bench.meter.on_finished([_ended(wait) for wait in waits])
    bench.second(0)
    assert bench.value("waitd_slots_held", mode="poke") == 0


def test_a_callback_that_resumes_runs_a_worker_once_more_and_set_state_does_not(bench: Bench) -> None:
    def cpu_with(mode: str) -> float:
        made = Bench()
        wait = waiting("w", 0.0)
        wait = replace(wait, spec=replace(wait.spec, sinks=({"kind": "airflow", "mode": mode},)))
        made.wait_counts.on_inserted([wait])
        made.meter.on_inserted([wait])
        made.second(0, cpu=0.0)
        made.wait_counts.on_finished([_ended(wait)])
        made.meter.on_finished([_ended(wait)])
        made.second(0, cpu=0.0)
        return made.value("waitd_cpu_seconds_total", mode="waitd")

    assert cpu_with("resume") == pytest.approx(0.1 + 0.5 + 0.01)
    assert cpu_with("set_state") == pytest.approx(0.1 + 0.01)
    assert cpu_with("dag_run") == 0.0


def test_money_is_told_in_its_currency_and_when_each_mode_pays_off(bench: Bench) -> None:
    bench.second(1000, cpu=3600.0)
    assert bench.value("waitd_cost_total", mode="waitd", currency="EUR") == pytest.approx(1.0)
    assert bench.value("waitd_break_even_poke_interval_seconds", kind="scripted") == float("inf")
    assert bench.value("waitd_break_even_duration_seconds", mode="defer", kind="scripted") == float("inf")


def test_many_kinds_are_learned_as_a_few_and_none_is_left_out(bench: Bench) -> None:
    kinds = [f"kind{n:02}" for n in range(40)]
    for n in range(200):
        for kind in kinds:
            bench.instruments.pokes.labels(kind, "pending").inc(n % 5 * 10)
            bench.instruments.poke_duration.labels(kind).counts[0] += n % 5 * 10
        bench.second(0, cpu=0.002 + 40 * (n % 5 * 10) * POKE)
    total = sum(bench.value("waitd_poke_cpu_seconds_total", kind=kind) for kind in kinds)
    assert total == pytest.approx(bench.cpu, rel=0.05)
    assert len(bench.meter._attribution._seen) <= OWN_KINDS + 2


def test_a_clock_that_stands_still_is_no_error(bench: Bench) -> None:
    bench.second(10)
    bench.meter.sample()
    assert bench.meter.overhead == bench.meter.overhead


def test_a_wait_weighs_what_it_takes_in_memory() -> None:
    """Against the size of a process: sixty thousand waits more, and what they added to it."""
    told = subprocess.run(
        [sys.executable, Path(__file__).with_name("memory_sizing_process.py")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    ours, grown = map(float, told.stdout.split())
    assert ours == pytest.approx(grown, rel=0.1)


def test_no_waits_weigh_nothing() -> None:
    assert bytes_each([]) == 0.0


def _ended(wait: Any) -> StoredOutcome:
    return StoredOutcome(
        replace(
            wait, state=WaitState.SUCCESS, outcome=Outcome(WaitState.SUCCESS), finished_at=wait.created_at
        ),
        frozenset(),
    )
