"""The demo on a real Airflow: the same waiting with Airflow's own sensor and with waitd's, on four worker slots and without a Triggerer.

What it does is here, what a person sees of it in `waitd.cli.demo_airflow`. It blocks; whoever interrupts it does so by an exception.
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
from waitd.bench.jobs import path_of
from waitd.bench.progress_display import ProgressDisplay

DAGS = Path(__file__).with_name("dags")
#: The DAGs that it runs, to read.
DAG_FILE = DAGS / "waitd_demo.py"
#: How many tasks Airflow runs at once.
SLOTS = 4
#: How many jobs are waited for: before, one on each slot; after, more than there are slots.
JOBS_BEFORE, JOBS_AFTER = SLOTS, 3 * SLOTS
MODES = ("resume", "set_state", "clear")
#: How long a job runs, in seconds: before, so that all slots are seen to be held; after, so that every task is parked before the first ends.
SECONDS_BEFORE, SECONDS_AFTER = 15.0, 75.0
#: Task instance states in which it holds a worker slot, and those in which it waits for somebody outside.
HOLDS_A_SLOT = frozenset({"running", "queued"})
PARKED = frozenset({"awaiting_input", "deferred"})
ENDED = frozenset({"success", "failed", "skipped", "upstream_failed"})
#: When a part of it must be over, in seconds.
PATIENCE = 300.0
_PAUSE = 0.5


@dataclass(frozen=True)
class SlotUse:
    """One way of waiting: how many tasks waited, and how many worker slots they held when all of them did."""

    tasks: int
    slots_held: int


@dataclass(frozen=True)
class ModeResult:
    """How a task went on in one of the modes: the state in which it was parked, its last state and try."""

    mode: str
    parked_as: str
    state: str
    try_number: int


@dataclass(frozen=True)
class AirflowDemoReport:
    """What Airflow's own API says came of it. `wrong` counts results that are another job's, or none."""

    before: SlotUse
    after: SlotUse
    modes: Sequence[ModeResult]
    succeeded: int
    tries: int
    wrong: int

    @property
    def good(self) -> bool:
        """Whether every task was parked without a slot and went on with its own job's result at its first try; over a kill of waitd."""
        parked = self.after.slots_held == 0 and self.before.slots_held == self.before.tasks == SLOTS
        ended = self.succeeded == self.tries == self.after.tasks and self.wrong == 0
        return parked and ended and all(mode.state == "success" for mode in self.modes)

    def as_json(self) -> dict[str, Any]:
        """For programs."""
        return {**asdict(self), "slots": SLOTS, "good": self.good}


def run(show: ProgressDisplay, cache: Path) -> AirflowDemoReport:
    """The whole demo; Airflow is installed below `cache`, once.

    Raises:
        AirflowFailed: it could not be installed, started or asked, or did not get on.
    """
    environment = airflow_environment(cache, show.step)
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
            show.step(f"The DAGs, to read: {DAG_FILE}")
            show.step(
                f"Starting Airflow with {SLOTS} worker slots, on a PostgreSQL of its own, without a Triggerer: half a minute."
            )
            airflow.start()
            daemon.start(airflow.url)
            show.step(f"Airflow answers at {airflow.url}, waitd at {daemon.url}.")
            return _AirflowDemo(show, airflow, daemon).run()
        finally:
            daemon.stop()
            airflow.stop()


class _AirflowDemo:
    """Airflow and waitd, both running."""

    def __init__(self, show: ProgressDisplay, airflow: Airflow, daemon: WaitdDaemon) -> None:
        self._show = show
        self._airflow = airflow
        self._daemon = daemon

    def run(self) -> AirflowDemoReport:
        before = self._before()
        path, modes = self._begin("after", JOBS_AFTER, SECONDS_AFTER), self._begin("modes", 1, SECONDS_AFTER)
        after, parked_as = self._park(path, modes)
        self._daemon.kill()
        self._show.broke("Killed waitd with SIGKILL. The tasks stay parked.")
        self._daemon.start(self._airflow.url)
        self._show.step("Started it again: every wait goes on.")
        self._watch([path, modes], ENDED, JOBS_AFTER + len(MODES) + 2, "ended")
        waited = [task for task in self._tasks(path) if task["task_id"] == "wait"]
        fetched = self._ask(f"{path}/taskInstances/fetch/xcomEntries/return_value")["value"]
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
            wrong=sum(found != _job("after", n) for n, found in enumerate(fetched)),
        )

    def _before(self) -> SlotUse:
        """Airflow's own sensors, in mode poke: how many slots they hold. Their run is ended as soon as that was seen."""
        path = self._begin("before", JOBS_BEFORE, SECONDS_BEFORE)
        self._show.step(f"Before: {JOBS_BEFORE} tasks wait with Airflow's HttpSensor.")
        self._watch([path], {"running"}, JOBS_BEFORE, "poking", "wait")
        held = self._held(path)
        self._show.step(f"They hold {held} of {SLOTS} worker slots.")
        self._watch([path], ENDED, JOBS_BEFORE + 1, "ended")
        return SlotUse(JOBS_BEFORE, held)

    def _park(self, *paths: str) -> tuple[SlotUse, dict[str, str]]:
        """The sensors of waitd, all parked: how many slots they hold, and in which state each task is."""
        count = JOBS_AFTER + len(MODES)
        self._show.step(f"After: {count} tasks wait with waitd's sensor.")
        self._watch(paths, PARKED, count, "parked")
        states = {task["task_id"]: task["state"] for path in paths for task in self._tasks(path)}
        held = sum(self._held(path) for path in paths)
        self._show.step(f"All are parked. They hold {held} of {SLOTS} worker slots, and no Triggerer runs.")
        return SlotUse(count - len(MODES), held), states

    def _begin(self, dag_id: str, jobs: int, seconds: float) -> str:
        """Runs a DAG on so many jobs; the run's path."""
        paths = [path_of("succeed", seconds, _job(dag_id, n)) for n in range(jobs)]
        body = {"dag_run_id": "demo", "logical_date": None, "conf": {"jobs": paths}}
        self._ask(f"/api/v2/dags/{dag_id}/dagRuns", "POST", body)
        return f"/api/v2/dags/{dag_id}/dagRuns/demo"

    def _watch(
        self,
        paths: Sequence[str],
        states: Collection[str],
        count: int,
        said: str,
        task_id: str = "",
    ) -> None:
        """Shows progress until so many task instances of these runs are in one of these states."""
        until = time.monotonic() + PATIENCE
        while True:
            tasks = [task for path in paths for task in self._tasks(path)]
            there = Counter(str(task["state"] or "scheduled") for task in tasks)
            reached = sum(task["state"] in states and task_id in {"", task["task_id"]} for task in tasks)
            self._show.progress(
                min(reached, count), count, ", ".join(f"{n} {state}" for state, n in sorted(there.items()))
            )
            if reached >= count:
                return
            if time.monotonic() >= until:
                raise AirflowFailed(
                    f"only {reached} of {count} tasks were {said} within {PATIENCE:g} s:\n{self._airflow.logs()}"
                )
            time.sleep(_PAUSE)

    def _held(self, path: str) -> int:
        return sum(task["state"] in HOLDS_A_SLOT for task in self._tasks(path))

    def _tasks(self, path: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._ask(f"{path}/taskInstances?limit=100")["task_instances"]
        return found

    def _ask(self, path: str, method: str = "GET", body: Any = None) -> Any:
        status, answer = self._airflow.ask(method, path, body)
        if status != 200:
            raise AirflowFailed(f"Airflow answered {status} to {method} {path}: {answer}")
        return answer


def _job(dag_id: str, n: int) -> str:
    return f"{dag_id}-{n:02d}"
