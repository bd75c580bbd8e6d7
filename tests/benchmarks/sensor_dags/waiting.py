"""The same waits by every way of waiting, one task each; `tests/benchmarks/sensors.py` runs one DAG after the other.

A job answers 404 while it runs, and 200 when it is done: what Airflow's HttpSensor understands in all of its modes.
"""

import json
import os
import time
from typing import Any

from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, task

from waitd.airflow.sensors import WaitdHttpSensor

#: `waits`, `seconds`, `poke_interval`, `slots`.
LOAD = json.loads(os.environ["SENSORS_LOAD"])
WAYS: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "defer": {"deferrable": True},
    "waitd": {},
}

with DAG("warm_up", schedule=None):

    @task
    def run(index: int) -> None:
        """Long enough that no worker runs two of them."""
        time.sleep(10)

    run.expand(index=list(range(LOAD["slots"])))

for way, arguments in WAYS.items():
    with DAG(f"sensors_{way}", schedule=None):
        sensor = WaitdHttpSensor if way == "waitd" else HttpSensor
        sensor.partial(
            task_id="wait",
            http_conn_id="jobs",
            poke_interval=LOAD["poke_interval"],
            timeout=3600,
            **arguments,
        ).expand(endpoint=[f"/jobs/absent/{LOAD['seconds']}/{way}-{n}" for n in range(LOAD["waits"])])
