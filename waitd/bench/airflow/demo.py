"""The demo on a real Airflow: tasks wait with Airflow's own sensor, then with waitd's.

Airflow has four worker slots and no Triggerer. What a person sees of the demo is in
`waitd.cli.demo_airflow`. All functions block.
"""

import time
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from waitd.bench.airflow.companions import WaitdDaemon, connection, job_server
from waitd.bench.airflow.environment import AirflowFailed, airflow_environment
from waitd.bench.airflow.instance import Airflow
from waitd.bench.jobs import job_path
from waitd.bench.progress_display import ProgressDisplay

DAGS = Path(__file__).with_name("dags")
#: The DAGs of the demo.
DAG_FILE = DAGS / "waitd_demo.py"
#: Airflow's worker slots.
SLOTS = 4
#: The number of jobs: with Airflow's sensor one per slot, with waitd's more than there are slots.
JOBS_BEFORE, JOBS_AFTER = SLOTS, 3 * SLOTS
MODES = ("resume", "set_state", "clear")
#: Seconds that a job runs: with Airflow's sensor long enough that all slots are held at once, with
#: waitd's long enough that every task is parked before the first job ends.
SECONDS_BEFORE, SECONDS_AFTER = 15.0, 75.0
#: States of a task instance: it holds a worker slot; it is parked until an event from outside; it
#: has ended.
HOLDS_A_SLOT = frozenset({"running", "queued"})
PARKED = frozenset({"awaiting_input", "deferred"})
ENDED = frozenset({"success", "failed", "skipped", "upstream_failed"})
#: Seconds within which each part must finish.
PATIENCE = 300.0
_PAUSE = 0.5


@dataclass(frozen=True)
class SlotUse:
    """The number of tasks that waited, and the worker slots they held while all of them waited."""

    tasks: int
    slots_held: int


@dataclass(frozen=True)
class ModeResult:
    """A task in one callback mode: its state while parked, its final state and try number."""

    mode: str
    parked_as: str
    state: str
    try_number: int


@dataclass(frozen=True)
class AirflowDemoReport:
    """The result, by Airflow's own API.

    `wrong` counts results that are missing or another job's.
    """

    before: SlotUse
    after: SlotUse
    modes: Sequence[ModeResult]
    succeeded: int
    tries: int
    wrong: int

    @property
    def good(self) -> bool:
        """Whether every task was parked without a slot and resumed with its own job's result."""
        parked = self.after.slots_held == 0 and self.before.slots_held == self.before.tasks == SLOTS
        ended = self.succeeded == self.tries == self.after.tasks and self.wrong == 0
        return parked and ended and all(mode.state == "success" for mode in self.modes)

    def as_json(self) -> dict[str, Any]:
        """All values, for JSON."""
        return {**asdict(self), "slots": SLOTS, "good": self.good}


def run(display: ProgressDisplay, cache: Path) -> AirflowDemoReport:
    """Runs the demo; the first run installs Airflow below `cache`.

    Raises:
        AirflowFailed: Airflow could not be installed, started or queried, or made no progress.
    """
    environment = airflow_environment(cache, display.step)
    with TemporaryDirectory(prefix="waitd-demo-") as home, job_server() as jobs_url:
        daemon = WaitdDaemon(Path(home), jobs_url)
        settings = {
            "AIRFLOW_CONN_JOBS": connection("http", jobs_url),
            "AIRFLOW_CONN_WAITD_DEFAULT": connection(
                "waitd", daemon.url, extra={"airflow_conn_id": "airflow"}
            ),
        }
        airflow = Airflow(environment, DAGS, parallelism=SLOTS, settings=settings)
        try:
            display.step(f"The DAGs are in {DAG_FILE}.")
            display.step(
                f"Starting Airflow on PostgreSQL, with {SLOTS} worker slots and without a Triggerer. This takes half a minute."
            )
            airflow.start()
            daemon.start(airflow.url)
            display.step(f"Airflow runs at {airflow.url}, waitd at {daemon.url}.")
            return _AirflowDemo(display, airflow, daemon).run()
        finally:
            daemon.stop()
            airflow.stop()


class _AirflowDemo:
    """The demo on a running Airflow and a running waitd."""

    def __init__(self, display: ProgressDisplay, airflow: Airflow, daemon: WaitdDaemon) -> None:
        self._display = display
        self._airflow = airflow
        self._daemon = daemon

    def run(self) -> AirflowDemoReport:
        before = self._before()
        path, modes = (
            self._trigger("after", JOBS_AFTER, SECONDS_AFTER),
            self._trigger("modes", 1, SECONDS_AFTER),
        )
        after, parked_as = self._park(path, modes)
        self._daemon.kill()
        self._display.broke("Killed waitd with SIGKILL. The tasks stay parked.")
        self._daemon.start(self._airflow.url)
        self._display.step("Started it again. All waits continue.")
        self._watch([path, modes], ENDED, JOBS_AFTER + len(MODES) + 2, "ended")
        waited = [task for task in self._tasks(path) if task["task_id"] == "wait"]
        results = self._request(f"{path}/taskInstances/fetch/xcomEntries/return_value")["value"]
        ended = {task["task_id"]: task for task in self._tasks(modes)}
        return AirflowDemoReport(
            before,
            after,
            [
                ModeResult(mode, parked_as[mode], ended[mode]["state"], ended[mode]["try_number"])
                for mode in MODES
            ],
            succeeded=sum(task["state"] == "success" for task in waited),
            tries=sum(task["try_number"] for task in waited),
            wrong=sum(result != _job("after", n) for n, result in enumerate(results)),
        )

    def _before(self) -> SlotUse:
        """Counts the slots that Airflow's own sensors hold, in mode poke."""
        path = self._trigger("before", JOBS_BEFORE, SECONDS_BEFORE)
        self._display.step(f"Before: {JOBS_BEFORE} tasks wait with Airflow's HttpSensor.")
        self._watch([path], {"running"}, JOBS_BEFORE, "poking", "wait")
        held = self._slots_held(path)
        self._display.step(f"They hold {held} of {SLOTS} worker slots.")
        self._watch([path], ENDED, JOBS_BEFORE + 1, "ended")
        return SlotUse(JOBS_BEFORE, held)

    def _park(self, *paths: str) -> tuple[SlotUse, dict[str, str]]:
        """Waits until all of waitd's sensors are parked.

        Counts their slots and returns the state of each task.
        """
        count = JOBS_AFTER + len(MODES)
        self._display.step(f"After: {count} tasks wait with waitd's sensor.")
        self._watch(paths, PARKED, count, "parked")
        states = {task["task_id"]: task["state"] for path in paths for task in self._tasks(path)}
        held = sum(self._slots_held(path) for path in paths)
        self._display.step(
            f"All are parked. They hold {held} of {SLOTS} worker slots, and there is no Triggerer."
        )
        return SlotUse(count - len(MODES), held), states

    def _trigger(self, dag_id: str, jobs: int, seconds: float) -> str:
        """Triggers a DAG with so many jobs; returns the path of the run."""
        paths = [job_path("succeed", seconds, _job(dag_id, n)) for n in range(jobs)]
        body = {"dag_run_id": "demo", "logical_date": None, "conf": {"jobs": paths}}
        self._request(f"/api/v2/dags/{dag_id}/dagRuns", "POST", body)
        return f"/api/v2/dags/{dag_id}/dagRuns/demo"

    def _watch(
        self,
        paths: Sequence[str],
        states: Collection[str],
        count: int,
        word: str,
        task_id: str = "",
    ) -> None:
        """Shows progress until `count` task instances of these runs are in one of these states."""
        until = time.monotonic() + PATIENCE
        while True:
            tasks = [task for path in paths for task in self._tasks(path)]
            counts = Counter(str(task["state"] or "scheduled") for task in tasks)
            reached = sum(task["state"] in states and task_id in {"", task["task_id"]} for task in tasks)
            self._display.progress(
                min(reached, count), count, ", ".join(f"{n} {state}" for state, n in sorted(counts.items()))
            )
            if reached >= count:
                return
            if time.monotonic() >= until:
                raise AirflowFailed(
                    f"Only {reached} of {count} tasks were {word} within {PATIENCE:g} s:\n{self._airflow.logs()}"
                )
            time.sleep(_PAUSE)

    def _slots_held(self, path: str) -> int:
        return sum(task["state"] in HOLDS_A_SLOT for task in self._tasks(path))

    def _tasks(self, path: str) -> list[dict[str, Any]]:
        tasks: list[dict[str, Any]] = self._request(f"{path}/taskInstances?limit=100")["task_instances"]
        return tasks

    def _request(self, path: str, method: str = "GET", body: Any = None) -> Any:
        status, response = self._airflow.request(method, path, body)
        if status != 200:
            raise AirflowFailed(f"Airflow answered {status} to {method} {path}: {response}")
        return response


def _job(dag_id: str, n: int) -> str:
    return f"{dag_id}-{n:02d}"
