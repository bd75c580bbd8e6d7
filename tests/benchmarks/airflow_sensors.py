"""Compares the cost model with a real Airflow: the same waits with Airflow's sensors and waitd's.

    python tests/benchmarks/airflow_sensors.py                          all modes, half an hour
    python tests/benchmarks/airflow_sensors.py --waits 40 --only defer  fewer waits, one mode
    python tests/benchmarks/airflow_sensors.py --json                   for programs

Each mode runs on a new Airflow 3.3 with PostgreSQL (installed once, below `.cache`). The operating
system counts the CPU time of all its processes, less their idle rate. Twice a second the script
reads the number of task processes, their memory and that of their workers (proportional set size),
and the growth of Triggerer and waitd. Every worker has run a task before, so that its start is not
counted. The model (`waitd.core.costs.model`, default constants) gets what the job server saw: the
duration and the number of pokes of each wait.
"""

import argparse
import json
import os
import signal
import sys
import threading
import time
import urllib.request
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, Self

from lab import say
from rich.console import Console
from rich.table import Table

from waitd.bench.airflow.companions import WaitdDaemon, connection, job_server
from waitd.bench.airflow.environment import airflow_environment
from waitd.bench.airflow.instance import Airflow
from waitd.bench.airflow.processes import eventually
from waitd.bench.machine import machine, stat_fields
from waitd.core.costs.model import CostMode, ResourceUsage, WaitingTotals, resource_usage
from waitd.settings import CostSettings

HERE = Path(__file__).parent
DAGS = HERE / "sensor_dags"
CACHE = HERE.parents[1] / ".cache"
#: Worker slots: many where tasks only wait in them, few where each task computes.
SLOTS = {CostMode.POKE: 32, CostMode.RESCHEDULE: 6, CostMode.DEFER: 6, CostMode.WAITD: 6}
#: On two cores a few of Airflow's tasks fail, by late heartbeats or responses; more failures are an
#: error.
SUCCEEDED_AT_LEAST = 0.95
#: Seconds until Airflow is at rest, and for which its idle CPU rate is measured.
REST, IDLE = 20.0, 40.0
#: Seconds between two samples of memory and task processes.
SAMPLE_EVERY = 0.5
PATIENCE = 3600.0
_TICK = os.sysconf("SC_CLK_TCK")
_LOAD = ("waits", "seconds", "poke_interval")


class ModeCost(NamedTuple):
    """What one mode used and what the model says, both without what an idle Airflow uses."""

    mode: CostMode
    waiting: WaitingTotals
    wall: float
    measured: ResourceUsage
    modelled: ResourceUsage


class ResourceSampler:
    """Samples Airflow's processes in a thread; adds up slot-seconds and byte-seconds."""

    def __init__(self, airflow: Airflow, daemon: WaitdDaemon) -> None:
        self._airflow = airflow
        self._daemon = daemon
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.slot_seconds = self.byte_seconds = 0.0
        self._base = self._memory()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        before = time.monotonic()
        while not self._ended.wait(SAMPLE_EVERY):
            tasks = _tasks(self._airflow.pids()["scheduler"])
            held = sum(_size(task) + _size(worker) for task, worker in tasks.items())
            grown = self._memory() - self._base
            now = time.monotonic()
            self.slot_seconds += len(tasks) * (now - before)
            self.byte_seconds += (held + grown) * (now - before)
            before = now

    def _memory(self) -> int:
        """Memory of the processes that hold waits without a slot."""
        return sum(map(_size, [*self._airflow.pids().get("triggerer", []), *self._daemon.pids]))


def measure(mode: CostMode, load: Mapping[str, float], environment: Path) -> ModeCost:
    """Runs all waits in one mode. Blocks for minutes; raises AirflowFailed."""
    with TemporaryDirectory(prefix="waitd-sensors-") as home, job_server() as jobs_url:
        daemon = WaitdDaemon(Path(home), jobs_url)
        settings = {
            "SENSORS_LOAD": json.dumps({**load, "slots": SLOTS[mode]}),
            "AIRFLOW_CONN_JOBS": connection("http", jobs_url),
            "AIRFLOW_CONN_WAITD_DEFAULT": connection(
                "waitd", daemon.url, extra={"airflow_conn_id": "airflow"}
            ),
            "AIRFLOW__CORE__MAX_ACTIVE_TASKS_PER_DAG": str(int(load["waits"])),
        }
        airflow = Airflow(
            environment, DAGS, parallelism=SLOTS[mode], triggerer=mode is CostMode.DEFER, settings=settings
        )
        try:
            airflow.start()
            daemon.start(airflow.url)
            _run_dag(airflow, "warm_up", SLOTS[mode])
            say(f"{mode}: Airflow is warm; measuring its idle CPU rate")
            time.sleep(REST)
            idle = _cpu(airflow, daemon)
            time.sleep(IDLE)
            idle_rate = (_cpu(airflow, daemon) - idle) / IDLE
            start, used = time.monotonic(), _cpu(airflow, daemon)
            with ResourceSampler(airflow, daemon) as sampler:
                _run_dag(airflow, f"sensors_{mode}", int(load["waits"]))
            wall = time.monotonic() - start
            used = _cpu(airflow, daemon) - used - idle_rate * wall
            waiting = _waiting_totals(mode, _report(jobs_url))
            constants = CostSettings().constants
            bytes_held = sampler.byte_seconds
            if mode is CostMode.DEFER:  # the model adds a share of a full Triggerer to each trigger
                bytes_held += waiting.seconds * constants.triggerer_bytes / constants.triggerer_capacity
            measured = ResourceUsage(sampler.slot_seconds, used, bytes_held)
            say(f"{mode}: {measured} in {wall:.0f} s, idle {idle_rate:.3f} CPU s/s")
            modelled = _ledger(daemon) if mode is CostMode.WAITD else resource_usage(mode, waiting, constants)
            return ModeCost(mode, waiting, wall, measured, modelled)
        finally:
            daemon.stop()
            airflow.stop()


def _run_dag(airflow: Airflow, dag_id: str, waits: int) -> None:
    """Raises AssertionError: a task did not succeed."""
    path = f"/api/v2/dags/{dag_id}/dagRuns"
    status, answer = airflow.request("POST", path, {"dag_run_id": "measured", "logical_date": None})
    assert status == 200, answer

    def ended() -> bool:
        time.sleep(2)  # the API's CPU is counted, too
        return str(airflow.request("GET", f"{path}/measured")[1]["state"]) in {"success", "failed"}

    eventually(ended, PATIENCE, "the end of the run")
    counted = airflow.request("GET", f"{path}/measured/taskInstances?state=success&limit=1")[1][
        "total_entries"
    ]
    say(f"{dag_id}: {counted} of {waits} tasks succeeded")
    assert counted >= SUCCEEDED_AT_LEAST * waits


def _report(jobs_url: str) -> Any:
    with urllib.request.urlopen(f"{jobs_url}/report", timeout=60) as answer:
        return json.loads(answer.read())


def _ledger(daemon: WaitdDaemon) -> ResourceUsage:
    """What waitd's ledger says about the same waits; only the runs of their tasks are modelled."""
    total = daemon.get("/v1/cost")["total"][CostMode.WAITD]
    return ResourceUsage(total["slot_seconds"], total["cpu_seconds"], total["memory_byte_seconds"])


def _waiting_totals(mode: CostMode, report: Mapping[str, Any]) -> WaitingTotals:
    """What the job server saw of these waits."""
    jobs = [job for path, job in report["jobs"].items() if f"/{mode}-" in path]
    seconds, pokes = sum(job["polled_for"] for job in jobs), sum(job["requests"] for job in jobs)
    return WaitingTotals("http", len(jobs), seconds, pokes)


def _cpu(airflow: Airflow, daemon: WaitdDaemon) -> float:
    """CPU seconds of all processes of Airflow and waitd so far, including their ended children."""
    return sum(map(_cpu_of, [*daemon.pids, *(pid for pids in airflow.pids().values() for pid in pids)]))


def _cpu_of(pid: int) -> float:
    with suppress(OSError):
        return sum(map(int, stat_fields(pid)[11:15])) / _TICK
    return 0.0


def _size(pid: int) -> int:
    """Proportional set size of a process in bytes; 0 if it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _tasks(scheduler: Sequence[int]) -> dict[int, int]:
    """The task processes among the scheduler's descendants, each with its LocalExecutor worker."""
    root, *rest = scheduler or [0]
    parents = {pid: parent for pid in rest if (parent := _parent(pid)) is not None}
    return {pid: parent for pid, parent in parents.items() if parents.get(parent) == root}


def _parent(pid: int) -> int | None:
    with suppress(OSError):
        return int(stat_fields(pid)[1])
    return None


def print_table(costs: Sequence[ModeCost], load: Mapping[str, float]) -> None:
    """Prints a table."""
    table = Table("mode", "slots", "pokes", "", "slot-seconds", "CPU-seconds", "memory, MB·s")
    for cost in costs:
        table.add_row(
            str(cost.mode),
            str(SLOTS[cost.mode]),
            f"{cost.waiting.pokes:,.0f}",
            "measured",
            *_figures(cost.measured),
        )
        table.add_row("", "", "", "model", *_figures(cost.modelled))
        table.add_row("", "", "", "model is off by", *_deviations(cost), end_section=True)
    what = ", ".join(f"{name} {load[name]:g}" for name in _LOAD)
    Console().print(table)
    Console().print(f"{what}. {machine()}")


def _values(of: ResourceUsage) -> tuple[float, float, float]:
    return of.slot_seconds, of.cpu_seconds, of.memory_byte_seconds / 1e6


def _figures(of: ResourceUsage) -> list[str]:
    return [f"{value:,.0f}" if value >= 10 else f"{value:.2f}" for value in _values(of)]


def _deviations(cost: ModeCost) -> list[str]:
    pairs = zip(_values(cost.measured), _values(cost.modelled), strict=True)
    return [f"{modelled / measured - 1:+.0%}" if measured > 0 else "-" for measured, modelled in pairs]


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--waits", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each job runs")
    parser.add_argument("--poke-interval", type=float, default=10.0)
    parser.add_argument("--only", action="append", choices=[str(mode) for mode in CostMode])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: ends the child processes
    load = {name: getattr(options, name) for name in _LOAD}
    environment = airflow_environment(Path(os.environ.get("WAITD_TEST_CACHE") or CACHE), say)
    costs = [
        measure(mode, load, environment) for mode in CostMode if str(mode) in (options.only or list(CostMode))
    ]
    if options.json:
        json.dump(
            [
                cost._asdict() | {"measured": _values(cost.measured), "modelled": _values(cost.modelled)}
                for cost in costs
            ],
            sys.stdout,
        )
    else:
        print_table(costs, load)


if __name__ == "__main__":
    main()
