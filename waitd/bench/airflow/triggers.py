"""A comparator: Airflow's own TriggerRunner with an HttpSensorTrigger per wait.

Runs on Airflow's interpreter.

    AIRFLOW_PYTHON triggers.py WAITS ENDS

The interface is that of `waitd.bench.task_per_wait`. The runner is a child process of Airflow's own
supervisor. The supervisor works on a list in memory instead of a database, so this costs less than
a real Triggerer.
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
    """Airflow's settings as environment variables.

    Only errors are logged: logging costs a fifth of a poke.
    """
    return {
        "AIRFLOW_HOME": str(home),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__DATABASE__SQL_ALCHEMY_CONN": f"sqlite:///{home}/airflow.db",
        "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
        "AIRFLOW__USAGE_DATA_COLLECTION__ENABLED": "False",
    }


def conn_id_of(endpoint: str) -> str:
    """The connection of an origin."""
    return f"bench_{urlsplit(endpoint).port}"


def connections(waits: list[dict[str, Any]]) -> dict[str, str]:
    """A connection for each origin, as environment variables."""
    variables = {}
    for endpoint in {wait["endpoint"].partition("/jobs/")[0] for wait in waits}:
        url = urlsplit(endpoint)
        variables[f"AIRFLOW_CONN_{conn_id_of(endpoint).upper()}"] = json.dumps(
            {"conn_type": "http", "host": url.hostname, "port": url.port, "schema": url.scheme}
        )
    return variables


class HeldTriggers:
    """The waits that are held, by trigger id, and the file of those that have ended."""

    def __init__(self, waits: list[dict[str, Any]], ends: TextIO) -> None:
        self.held: dict[int, dict[str, Any]] = {}
        self._pending = waits
        self._ends = ends
        self._started = False

    def begin(self) -> None:
        """Makes `current_ids` hold the waits."""
        self._started = True

    def current_ids(self) -> set[int]:
        """The ids of the waits that are held.

        Ends those whose timeout is over, as Airflow's scheduler does.
        """
        if self._started and self._pending:
            now = time.time()
            self.held = {
                n: {**wait, "until": now + wait["timeout"]} for n, wait in enumerate(self._pending, 1)
            }
            self._pending = []
        for number in [number for number, wait in self.held.items() if wait["until"] <= time.time()]:
            self.end(number, "timeout")
        return set(self.held)

    def end(self, number: int, state: str) -> None:
        """Records the end of a wait."""
        wait = self.held.pop(number, None)
        if wait is not None:
            self._ends.write(f"{wait['path']}\t{state}\t{time.time()}\n")
            self._ends.flush()


def supervisor_of(waits: HeldTriggers) -> Any:
    """Airflow's supervisor class, with a list in memory instead of a database."""
    # Imported late, because Airflow reads its settings at import.
    from airflow.executors import workloads  # noqa: PLC0415
    from airflow.jobs.triggerer_job_runner import TriggerRunnerSupervisor  # noqa: PLC0415
    from airflow.models.trigger import Trigger  # noqa: PLC0415

    class Supervisor(TriggerRunnerSupervisor):  # type: ignore[misc]  # Airflow is not in this environment
        def load_triggers(self) -> None:
            self.update_triggers(waits.current_ids())

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
            """Does nothing: there is no database."""

        def heartbeat(self) -> None:
            """Does nothing: without a database, no heartbeat is checked."""

        def metric_tags(self) -> dict[str, str]:
            return {"hostname": "bench"}

    return Supervisor


def main(waits_file: Path, ends_file: Path) -> None:
    """Runs all waits until standard input ends."""
    waits_to_run = [json.loads(line) for line in waits_file.read_text("utf-8").splitlines()]
    os.environ.update(settings(ends_file.absolute().parent / "airflow") | connections(waits_to_run))
    with ends_file.open("a", encoding="utf-8") as ends:
        waits = HeldTriggers(waits_to_run, ends)
        supervisor = supervisor_of(waits).start(capacity=len(waits_to_run) + 1)

        def listen() -> None:
            """A line on standard input starts the waits; its end stops the supervisor."""
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
