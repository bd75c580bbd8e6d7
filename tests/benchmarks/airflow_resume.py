"""Measures how soon after its outcome a parked task is resumed, on a real Airflow 3.3.

    python tests/benchmarks/airflow_resume.py              100 tasks, five minutes
    python tests/benchmarks/airflow_resume.py --waits 20   fewer tasks
    python tests/benchmarks/airflow_resume.py --celery     CeleryExecutor instead of LocalExecutor

All tasks wait at the same time, with Airflow's default heartbeat of 5 s, with which a task is held
off for 10 s after it parked. A task is resumed when Airflow has stored waitd's
response.
"""

import argparse
import json
import os
import signal
import time
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from celery_airflow import CeleryAirflow, celery_libraries, redis_server
from figures import Figure, print_figures
from lab import say

from waitd.bench.airflow.companions import WaitdDaemon, connection, job_server
from waitd.bench.airflow.environment import airflow_environment
from waitd.bench.airflow.instance import Airflow
from waitd.bench.airflow.processes import eventually
from waitd.bench.machine import machine
from waitd.bench.quantiles import quantile

HERE = Path(__file__).parent
DAGS = HERE / "sensor_dags"
CACHE = HERE.parents[1] / ".cache"
RUN = "/api/v2/dags/sensors_waitd/dagRuns"
#: Worker slots, how long each job runs and the poke interval, in seconds.
SLOTS, SECONDS, INTERVAL = 6, 45.0, 1.0
#: Only a task that parked for longer than its hold-off is resumed at once, in seconds.
LEAST_WAITED = 30.0
PATIENCE = 1800.0


def measure(waits: int, environment: Path, *, celery: Path | None) -> Sequence[Figure]:
    """Runs the tasks, with `celery`'s libraries if it is given.

    Blocks for minutes; raises AirflowFailed.
    """
    with (
        TemporaryDirectory(prefix="waitd-resume-") as home,
        job_server() as jobs_url,
        redis_server() as redis,
    ):
        daemon = WaitdDaemon(Path(home), jobs_url)
        load = {"waits": waits, "seconds": SECONDS, "poke_interval": INTERVAL, "slots": SLOTS}
        waitd = connection("waitd", daemon.url, extra={"airflow_conn_id": "airflow"})
        settings = {
            "SENSORS_LOAD": json.dumps(load),
            "AIRFLOW_CONN_JOBS": connection("http", jobs_url),
            "AIRFLOW_CONN_WAITD_DEFAULT": waitd,
            "AIRFLOW__WORKERS__MIN_HEARTBEAT_INTERVAL": "5",
        }
        if celery is None:
            airflow = Airflow(environment, DAGS, parallelism=SLOTS, settings=settings)
        else:
            airflow = CeleryAirflow(
                environment, DAGS, libraries=celery, redis=redis, parallelism=SLOTS, settings=settings
            )
        try:
            say("starting Airflow")
            airflow.start()
            daemon.start(airflow.url)
            say(f"running {waits} tasks that wait for {SECONDS:g} s")
            return _figures(airflow, daemon, waits)
        finally:
            daemon.stop()
            airflow.stop()


def _figures(airflow: Airflow, daemon: WaitdDaemon, waits: int) -> Sequence[Figure]:
    status, answer = airflow.request("POST", RUN, {"dag_run_id": "measured", "logical_date": None})
    assert status == 200, answer

    def has_ended() -> bool:
        time.sleep(2)
        return str(airflow.request("GET", f"{RUN}/measured")[1]["state"]) in {"success", "failed"}

    eventually(has_ended, PATIENCE, "the end of the run")
    tasks = airflow.request("GET", f"{RUN}/measured/taskInstances?state=success&limit=1000")[1][
        "task_instances"
    ]
    at_once = [task for task in tasks if task["try_number"] == 1]
    responded = {
        detail["task_instance"]["map_index"]: _time(detail["responded_at"])
        for detail in airflow.request("GET", f"{RUN}/measured/hitlDetails?limit=1000")[1]["hitl_details"]
    }
    ended = {int(wait["labels"]["map_index"]): wait for wait in daemon.get("/v1/waits?limit=1000")["waits"]}
    delays = [
        responded[index] - _time(wait["finished_at"])
        for index, wait in ended.items()
        if _time(wait["finished_at"]) - _time(wait["created_at"]) >= LEAST_WAITED
    ]
    note = f"{len(delays)} tasks; p50 {quantile(delays, 0.5):.2f} s, p99 {quantile(delays, 0.99):.2f} s"
    return [
        Figure("tasks that succeeded at their first try", len(at_once), f"of {waits}", at_least=waits),
        Figure("outcome to resumed, at most", max(delays), "s", at_most=1.5, note=note),
    ]


def _time(text: str) -> float:
    return datetime.fromisoformat(text).timestamp()


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--waits", type=int, default=100, help="the number of tasks, at most 1,000")
    parser.add_argument("--celery", action="store_true", help="use the CeleryExecutor")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: ends the child processes
    cache = Path(os.environ.get("WAITD_TEST_CACHE") or CACHE)
    environment = airflow_environment(cache, say)
    celery = celery_libraries(environment, cache) if options.celery else None
    facts: dict[str, Any] = dict(machine())
    print_figures(measure(options.waits, environment, celery=celery), facts, as_json=options.json)


if __name__ == "__main__":
    main()
