"""The meter with a scripted CPU clock and memory: to what it attributes them, without loss."""

import asyncio
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fakes import MemoryStore, ScriptedProbe, waiting
from msgspec.structs import replace

from waitd.core.costs.model import CostConstants, Prices
from waitd.core.waits.verdict import Pending
from waitd.core.waits.wait import Outcome, WaitState
from waitd.engine.clock import Clock
from waitd.engine.memory_sizing import bytes_each
from waitd.engine.meter import OWN_KINDS, Meter
from waitd.engine.poker import Poker
from waitd.engine.wait_counts import WaitCounts
from waitd.metrics import Instruments
from waitd.ports import StoredOutcome, StoredWait

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


class ManualClock(Clock):
    """A clock that stands still until a test sets `at`."""

    at = 1_000.0

    def now(self) -> float:
        return 1_800_000_000.0 + self.at

    def monotonic(self) -> float:
        return self.at

    async def sleep_until(self, when: float, wakeup: asyncio.Event) -> None:
        raise AssertionError("the meter does not run")


class MeterHarness:
    """A meter with a real poker that is not running; tests fill the instruments themselves."""

    def __init__(self) -> None:
        self.clock = ManualClock()
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

    def insert(self, *waits: StoredWait) -> None:
        self.wait_counts.on_inserted(waits)
        self.poker.adopt(waits)
        self.meter.on_inserted(waits)

    def finish(self, *waits: StoredWait) -> None:
        outcomes = [
            StoredOutcome(
                replace(
                    wait,
                    state=WaitState.SUCCESS,
                    outcome=Outcome(WaitState.SUCCESS),
                    finished_at=wait.created_at,
                ),
                frozenset(),
            )
            for wait in waits
        ]
        self.wait_counts.on_finished(outcomes)
        self.meter.on_finished(outcomes)

    def sample_second(self, pokes: int, *, requests: int | None = None, cpu: float | None = None) -> None:
        """Samples a second with so many pokes, in as many requests unless that is given."""
        self.instruments.pokes.labels("scripted", "pending").inc(pokes)
        durations = self.instruments.poke_duration.labels("scripted")
        durations.counts[0] += pokes if requests is None else requests
        self.cpu += 0.002 + pokes * POKE if cpu is None else cpu
        self.clock.at += 1.0
        self.meter.sample()

    def value(self, name: str, **labels: str) -> float:
        self.meter.refresh_gauges()
        value = self.instruments.registry.get_sample_value(name, labels)
        assert value is not None, name
        return value

    def cpu_of_pokes(self) -> float:
        return self.value("waitd_poke_cpu_seconds_total", kind="scripted")


@pytest.fixture
def harness() -> MeterHarness:
    return MeterHarness()


def test_the_cost_of_a_poke_is_the_slope_of_cpu_over_pokes_and_the_rest_is_overhead(
    harness: MeterHarness,
) -> None:
    rates = [0, 500, 1000, 2000, 4000] * 40
    for pokes in rates:
        harness.sample_second(pokes, cpu=0.02 + pokes * POKE)
    assert harness.meter.poke_cpu_seconds("scripted") == pytest.approx(POKE, rel=0.02)
    before, overhead = harness.cpu_of_pokes(), harness.meter.overhead.cpu_seconds
    for pokes in rates:
        harness.sample_second(pokes, cpu=0.02 + pokes * POKE)
    assert harness.cpu_of_pokes() - before == pytest.approx(sum(rates) * POKE, rel=0.02)
    assert harness.meter.overhead.cpu_seconds - overhead == pytest.approx(len(rates) * 0.02, rel=0.1)


def test_all_cpu_is_accounted_for_once(harness: MeterHarness) -> None:
    chance = random.Random(5)
    for _ in range(600):
        pokes = int(chance.uniform(0, 3000))
        harness.sample_second(pokes, cpu=max(0.0, 0.005 + pokes * POKE * chance.gauss(1, 0.2)))
    accounted = harness.cpu_of_pokes() + harness.value("waitd_overhead_cpu_seconds_total")
    assert accounted == pytest.approx(harness.cpu, rel=0.03)
    assert harness.value("waitd_cpu_seconds_total", mode="waitd") == pytest.approx(harness.cpu)


def test_waits_that_share_a_request_share_its_cpu(harness: MeterHarness) -> None:
    for _ in range(200):
        for requests in (0, 100, 300):
            harness.sample_second(
                requests * 10, requests=requests, cpu=0.002 + requests * POKE + requests * 9 * 20e-6
            )
    assert harness.meter.poke_cpu_seconds("scripted") == pytest.approx((POKE + 9 * 20e-6) / 10, rel=0.05)


def test_an_ended_wait_is_charged_its_pokes_memory_end_and_deliveries(harness: MeterHarness) -> None:
    wait = waiting("w", harness.clock.now())
    harness.insert(wait)
    for pokes in [0, 1000, 2000, 4000] * 30:
        harness.sample_second(pokes)
    running = harness.meter.measured(wait.spec, 50, 600.0, ended=False)
    assert running.byte_seconds == pytest.approx(600 * harness.meter.wait_bytes)
    assert running.cpu_seconds == pytest.approx(50 * POKE, rel=0.05, abs=150e-6)
    ended = harness.meter.measured(wait.spec, 50, 600.0, ended=True)
    assert 0 < ended.cpu_seconds - running.cpu_seconds < 1e-3
    assert harness.meter.measured(wait.spec, 0, -5.0, ended=True).byte_seconds == 0.0


def test_slots_held_follow_the_held_waits(harness: MeterHarness) -> None:
    waits = [waiting(f"w{n}", harness.clock.now()) for n in range(300)]
    harness.insert(*waits)
    for _ in range(300):
        harness.sample_second(30)
    assert harness.value("waitd_slots_held", mode="poke") == 300
    assert harness.value("waitd_slots_held", mode="reschedule") == pytest.approx(30 * 2.0, rel=0.02)
    assert harness.value("waitd_slots_held", mode="defer") < 10, "each ran once, five minutes ago"
    assert harness.value("waitd_slots_held", mode="waitd") == 0.0
    assert harness.value("waitd_slot_seconds_total", mode="poke") == pytest.approx(300 * 300 + 300 * 2)
    assert harness.value("waitd_slot_seconds_total", mode="reschedule") == pytest.approx(300 * 30 * 2)
    assert harness.value("waitd_memory_byte_seconds_total", mode="waitd") == pytest.approx(RSS * 300)
    harness.finish(*waits)
    harness.sample_second(0)
    assert harness.value("waitd_slots_held", mode="poke") == 0


@pytest.mark.parametrize(
    ("mode", "cpu"), [("resume", 0.1 + 0.5 + 0.01), ("set_state", 0.1 + 0.01), ("dag_run", 0.0)]
)
def test_a_wait_costs_its_deferral_and_a_resumed_task_its_worker(
    harness: MeterHarness, mode: str, cpu: float
) -> None:
    wait = waiting("w", 0.0)
    wait = replace(wait, spec=replace(wait.spec, sinks=({"kind": "airflow", "mode": mode},)))
    harness.insert(wait)
    harness.sample_second(0, cpu=0.0)
    harness.finish(wait)
    harness.sample_second(0, cpu=0.0)
    assert harness.value("waitd_cpu_seconds_total", mode="waitd") == pytest.approx(cpu)


def test_money_has_its_currency_and_each_mode_its_break_even(harness: MeterHarness) -> None:
    harness.sample_second(1000, cpu=3600.0)
    assert harness.value("waitd_cost_total", mode="waitd", currency="EUR") == pytest.approx(1.0)
    assert harness.value("waitd_break_even_poke_interval_seconds", kind="scripted") == float("inf")
    assert harness.value("waitd_break_even_duration_seconds", mode="defer", kind="scripted") == float("inf")


def test_many_kinds_share_few_costs_and_each_is_accounted_for(harness: MeterHarness) -> None:
    kinds = [f"kind{n:02}" for n in range(40)]
    for n in range(200):
        for kind in kinds:
            harness.instruments.pokes.labels(kind, "pending").inc(n % 5 * 10)
            harness.instruments.poke_duration.labels(kind).counts[0] += n % 5 * 10
        harness.sample_second(0, cpu=0.002 + 40 * (n % 5 * 10) * POKE)
    total = sum(harness.value("waitd_poke_cpu_seconds_total", kind=kind) for kind in kinds)
    assert total == pytest.approx(harness.cpu, rel=0.05)
    assert len(harness.meter._attribution._seen) <= OWN_KINDS + 2


def test_a_sample_without_elapsed_time_changes_nothing(harness: MeterHarness) -> None:
    harness.sample_second(10)
    overhead = harness.meter.overhead
    harness.meter.sample()
    assert harness.meter.overhead == overhead


def test_the_measured_size_of_a_wait_is_what_the_process_grows_by() -> None:
    """Compares it with the growth of a process by sixty thousand waits."""
    result = subprocess.run(
        [sys.executable, Path(__file__).with_name("memory_sizing_process.py")],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        check=True,
    )
    measured, grown = map(float, result.stdout.split())
    assert measured == pytest.approx(grown, rel=0.1)


def test_no_waits_have_no_size() -> None:
    assert bytes_each([]) == 0.0
