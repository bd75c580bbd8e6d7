"""What waitd is compared with: Airflow's own TriggerRunner with an HttpSensorTrigger for each wait. Runs on Airflow's interpreter.

`PYTHON airflow_triggers.py WAITS ENDS`, as `waitd.bench.task_per_wait`. The runner is a process of its own, under Airflow's own supervisor,
over Airflow's own channel; what the supervisor does with the database, is done in memory here, so Airflow has less to do than it would.
"""

import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

CLASSPATH = "airflow.providers.http.triggers.http.HttpSensorTrigger"


def settings(home: Path) -> dict[str, str]:
    """Airflow's, by their variables: a home of its own, and as quiet as it gets, because logs cost a fifth of a poke."""
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def conn_id_of(endpoint: str) -> str:
    """The connection for an origin."""
    return f"bench_{urlsplit(endpoint).port}"


def connections(waits: list[dict[str, Any]]) -> dict[str, str]:
    """As variables hold them: one for each origin."""
    found = {}
    for endpoint in {wait["endpoint"].partition("/jobs/")[0] for wait in waits}:
        url = urlsplit(endpoint)
        found[f"AIRFLOW_CONN_{conn_id_of(endpoint).upper()}"] = json.dumps(
            {"conn_type": "http", "host": url.hostname, "port": url.port, "schema": url.scheme}
        )
    return found


class HeldTriggers:
    """The waits in hand, by a number as Airflow's database would give it, and the file of those that have ended."""

    def __init__(self, waits: list[dict[str, Any]], ends: TextIO) -> None:
        self.held: dict[int, dict[str, Any]] = {}
        self._given = waits
        self._ends = ends
        self._told = False

    def begin(self) -> None:
        """From now on they are held."""
        self._told = True

    def now(self) -> set[int]:
        """Those to be held; the others have ended meanwhile, some because their time is over, as the scheduler sees to it."""
        if self._told and self._given:
            started = time.time()
            self.held = {
                n: {**wait, "until": started + wait["timeout"]} for n, wait in enumerate(self._given, 1)
            }
            self._given = []
        for number in [number for number, wait in self.held.items() if wait["until"] <= time.time()]:
            self.end(number, "timeout")
        return set(self.held)

    def end(self, number: int, state: str) -> None:
        """One is over."""
        wait = self.held.pop(number, None)
        if wait is not None:
            self._ends.write(f"{wait['path']}\t{state}\t{time.time()}\n")
            self._ends.flush()


def supervisor_of(waits: HeldTriggers) -> Any:
    """Airflow's supervisor, with a list in memory where it has a database."""
    # Here and not above: Airflow reads its settings when it is imported.
    from airflow.executors import workloads  # noqa: PLC0415
    from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor  # noqa: PLC0415
    from airflow.models.trigger import Trigger  # noqa: PLC0415

    class Supervisor(TriggerRunnerSupervisor):  # type: ignore[misc]  # Airflow is not in this environment
        def load_triggers(self) -> None:
            self.update_triggers(waits.now())

        def build_trigger_workloads(self, new_trigger_ids: set[int]) -> list[Any]:
            return [self.workload(number) for number in sorted(new_trigger_ids)]

        def workload(self, number: int) -> Any:
            wait = waits.held[number]
            kwargs = {
                "endpoint": wait["path"],
                "http_conn_id": conn_id_of(wait["endpoint"]),
                "poke_interval": wait["poke_interval"],
            }
            return workloads.RunTrigger(
                id=number, classpath=CLASSPATH, encrypted_kwargs=Trigger.encrypt_kwargs(kwargs)
            )

        def on_trigger_event(self, trigger_id: int, event: Any) -> None:  # noqa: ARG002 - the only one is success
            waits.end(trigger_id, "success")

        def on_trigger_failure(self, trigger_id: int, exc: Any) -> None:  # noqa: ARG002 - Airflow's shape
            waits.end(trigger_id, "failed")

        def clean_unused(self) -> None:
            """There is no database."""

        def heartbeat(self) -> None:
            """Nobody would look."""

        def metric_tags(self) -> dict[str, str]:
            return {"hostname": "bench"}

    return Supervisor


def main(waits_file: Path, ends_file: Path) -> None:
    """Everything, until standard input ends."""
    given = [json.loads(line) for line in waits_file.read_text("utf-8").splitlines()]
    os.environ.update(settings(ends_file.absolute().parent / "airflow") | connections(given))
    with ends_file.open("a", encoding="utf-8") as ends:
        waits = HeldTriggers(given, ends)
        supervisor = supervisor_of(waits).start(capacity=len(given) + 1)

        def listen() -> None:
            """Our parent says when to begin, and is gone when its end of the pipe is."""
            while sys.stdin.buffer.readline():
                waits.begin()
            supervisor.stop = True

        threading.Thread(target=listen, daemon=True).start()
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        try:
            supervisor.run()
        finally:
            supervisor.kill(force=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
