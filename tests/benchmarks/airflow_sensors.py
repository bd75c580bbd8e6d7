"""The ledger's model against reality: the same waits by Airflow's own sensors on a real Airflow, and by waitd's, measured from outside.

    python tests/benchmarks/sensors.py                        200 waits of 30 s, poked every 10 s: about half an hour
    python tests/benchmarks/sensors.py --waits 40 --only defer   fewer of them, one way of waiting; --only may be given more than once
    python tests/benchmarks/sensors.py --json                 for programs

Each way of waiting gets an Airflow 3.3 of its own (installed once, below `.cache`) on a PostgreSQL of its own. What it uses is what the
system counts: CPU time of all its processes, ended ones included, less what they use when nothing is to be done; and, looked at twice a
second, task processes, their memory and that of the workers over them (proportional set size), and by how much Triggerer and waitd have
grown. Every worker has run a task before, so that none is counted that only starts. Beside it stands what `waitd.core.costs.model` says of
the same waits, by its default constants: it is given what the job server saw, how long each wait lasted and how often it was poked.
"""

import argparse
import json
import os
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
from waitd.bench.machine import machine
from waitd.core.costs.model import CostMode, ResourceUsage, WaitingTotals, resource_usage
from waitd.settings import CostSettings

HERE = Path(__file__).parent
DAGS = HERE / "sensor_dags"
CACHE = HERE.parents[1] / ".cache"
#: How many tasks Airflow runs at once: many where they only hold their slots, few where each computes.
SLOTS = {CostMode.POKE: 32, CostMode.RESCHEDULE: 6, CostMode.DEFER: 6, CostMode.WAITD: 6}
#: Of Airflow's own tasks on two cores some fail now and then (a heartbeat that is late, an answer that does not come); more would be wrong.
SUCCEEDED_AT_LEAST = 0.95
#: What it uses when nothing is to be done is measured for so long, seconds, after it has come to rest.
REST, IDLE = 20.0, 40.0
#: How often memory and task processes are looked at, seconds.
LOOK = 0.5
PATIENCE = 3600.0
_TICK = os.sysconf("SC_CLK_TCK")
_LOAD = ("waits", "seconds", "poke_interval")


class Found(NamedTuple):
    """What one way of waiting used, and what the model says of the same waits; both without what Airflow uses anyway."""

    mode: CostMode
    waiting: WaitingTotals
    wall: float
    measured: ResourceUsage
    modelled: ResourceUsage


class Watch:
    """Looks at Airflow's processes in a thread of its own: slot-seconds and byte-seconds since the start."""

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
        while not self._ended.wait(LOOK):
            tasks = _tasks(self._airflow.pids()["scheduler"])
            held = sum(_size(task) + _size(worker) for task, worker in tasks.items())
            grown = self._memory() - self._base
            now = time.monotonic()
            self.slot_seconds += len(tasks) * (now - before)
            self.byte_seconds += (held + grown) * (now - before)
            before = now

    def _memory(self) -> int:
        """Of the processes that hold waits without a slot."""
        return sum(map(_size, [*self._airflow.pids().get("triggerer", []), *self._daemon.pids]))


def measure(mode: CostMode, load: Mapping[str, float], environment: Path) -> Found:
    """Runs the waits one way. Blocks for minutes; raises AirflowFailed."""
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
            say(f"{mode}: Airflow is warm; it comes to rest, and is looked at while it does nothing")
            time.sleep(REST)
            idle = _cpu(airflow, daemon)
            time.sleep(IDLE)
            idle_rate = (_cpu(airflow, daemon) - idle) / IDLE
            start, used = time.monotonic(), _cpu(airflow, daemon)
            with Watch(airflow, daemon) as watch:
                _run_dag(airflow, f"sensors_{mode}", int(load["waits"]))
            wall = time.monotonic() - start
            used = _cpu(airflow, daemon) - used - idle_rate * wall
            waiting = _waited(mode, _report(jobs_url))
            constants = CostSettings().constants
            bytes_held = watch.byte_seconds
            if mode is CostMode.DEFER:  # the model gives each trigger its share of a Triggerer that is full
                bytes_held += waiting.seconds * constants.triggerer_bytes / constants.triggerer_capacity
            found = ResourceUsage(watch.slot_seconds, used, bytes_held)
            say(f"{mode}: {found} in {wall:.0f} s, idle {idle_rate:.3f} CPU s/s")
            said = _ledger(daemon) if mode is CostMode.WAITD else resource_usage(mode, waiting, constants)
            return Found(mode, waiting, wall, found, said)
        finally:
            daemon.stop()
            airflow.stop()


def _run_dag(airflow: Airflow, dag_id: str, waits: int) -> None:
    """Raises AssertionError: a task did not succeed."""
    path = f"/api/v2/dags/{dag_id}/dagRuns"
    status, answer = airflow.ask("POST", path, {"dag_run_id": "measured", "logical_date": None})
    assert status == 200, answer

    def ended() -> bool:
        time.sleep(2)  # its API's CPU is counted, too
        return str(airflow.ask("GET", f"{path}/measured")[1]["state"]) in {"success", "failed"}

    eventually(ended, PATIENCE, "the end of the run")
    counted = airflow.ask("GET", f"{path}/measured/taskInstances?state=success&limit=1")[1]["total_entries"]
    say(f"{dag_id}: {counted} of {waits} tasks have succeeded")
    assert counted >= SUCCEEDED_AT_LEAST * waits


def _report(jobs_url: str) -> Any:
    with urllib.request.urlopen(f"{jobs_url}/report", timeout=60) as answer:
        return json.loads(answer.read())


def _ledger(daemon: WaitdDaemon) -> ResourceUsage:
    """What waitd's own ledger says of the same waits: measured, but for the runs of their tasks."""
    told = daemon.ask("/v1/cost")["total"][CostMode.WAITD]
    return ResourceUsage(told["slot_seconds"], told["cpu_seconds"], told["memory_byte_seconds"])


def _waited(mode: CostMode, report: Mapping[str, Any]) -> WaitingTotals:
    """What the job server saw of these waits."""
    jobs = [job for path, job in report["jobs"].items() if f"/{mode}-" in path]
    seconds, pokes = sum(job["asked_for"] for job in jobs), sum(job["requests"] for job in jobs)
    return WaitingTotals("http", len(jobs), seconds, pokes)


# ---------------------------------------------------------------- what the system says


def _cpu(airflow: Airflow, daemon: WaitdDaemon) -> float:
    """CPU seconds of all of Airflow's processes and waitd's so far, and of those that they have started and seen end."""
    return sum(map(_cpu_of, [*daemon.pids, *(pid for pids in airflow.pids().values() for pid in pids)]))


def _cpu_of(pid: int) -> float:
    with suppress(OSError):
        fields = Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()
        return sum(map(int, fields[11:15])) / _TICK
    return 0.0


def _size(pid: int) -> int:
    """Memory of a process in bytes; what it shares is shared out. 0 where it has ended."""
    with suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text("utf-8").splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    return 0


def _tasks(scheduler: Sequence[int]) -> dict[int, int]:
    """Of the scheduler's descendants those that run a task, each with the LocalExecutor's worker that has started it."""
    root, *rest = scheduler or [0]
    parents = {pid: parent for pid in rest if (parent := _parent(pid)) is not None}
    return {pid: parent for pid, parent in parents.items() if parents.get(parent) == root}


def _parent(pid: int) -> int | None:
    with suppress(OSError):
        return int(Path(f"/proc/{pid}/stat").read_text("utf-8").rpartition(")")[2].split()[1])
    return None


# ---------------------------------------------------------------- what is shown


def show(found: Sequence[Found], load: Mapping[str, float]) -> None:
    """A table for people."""
    table = Table("way", "slots", "pokes", "", "slot-seconds", "CPU-seconds", "memory, MB·s")
    for one in found:
        table.add_row(
            str(one.mode),
            str(SLOTS[one.mode]),
            f"{one.waiting.pokes:,.0f}",
            "measured",
            *_figures(one.measured),
        )
        table.add_row("", "", "", "model", *_figures(one.modelled))
        table.add_row("", "", "", "model is off by", *_deviations(one), end_section=True)
    what = ", ".join(f"{name} {load[name]:g}" for name in _LOAD)
    Console().print(table)
    Console().print(f"{what}. {machine()}")


def _values(of: ResourceUsage) -> tuple[float, float, float]:
    return of.slot_seconds, of.cpu_seconds, of.memory_byte_seconds / 1e6


def _figures(of: ResourceUsage) -> list[str]:
    return [f"{value:,.0f}" if value >= 10 else f"{value:.2f}" for value in _values(of)]


def _deviations(one: Found) -> list[str]:
    pairs = zip(_values(one.measured), _values(one.modelled), strict=True)
    return [f"{modelled / measured - 1:+.0%}" if measured > 0 else "-" for measured, modelled in pairs]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--waits", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=30.0, help="how long each job runs")
    parser.add_argument("--poke-interval", type=float, default=10.0)
    parser.add_argument("--only", action="append", choices=[str(mode) for mode in CostMode])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    load = {name: getattr(options, name) for name in _LOAD}
    environment = airflow_environment(Path(os.environ.get("WAITD_TEST_CACHE") or CACHE), say)
    found = [
        measure(mode, load, environment) for mode in CostMode if str(mode) in (options.only or list(CostMode))
    ]
    if options.json:
        json.dump(
            [
                one._asdict() | {"measured": _values(one.measured), "modelled": _values(one.modelled)}
                for one in found
            ],
            sys.stdout,
        )
    else:
        show(found, load)


if __name__ == "__main__":
    main()
