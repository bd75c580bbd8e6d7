"""The same waits in every mode, one task each.

`tests/benchmarks/airflow_sensors.py` runs one DAG after another.

A job answers 404 while it runs and 200 when it has ended, which Airflow's HttpSensor understands in
all modes.
"""

import json
import os
import time
from typing import Any

from airflow.providers.http.sensors.http import HttpSensor
from airflow.sdk import DAG, task

from waitd.airflow.sensors import WaitdHttpSensor

#: Keys: `waits`, `seconds`, `poke_interval`, `slots`.
LOAD = json.loads(os.environ["SENSORS_LOAD"])
MODES: dict[str, dict[str, Any]] = {
    "poke": {"mode": "poke"},
    "reschedule": {"mode": "reschedule"},
    "defer": {"deferrable": True},
    "waitd": {},
}

with DAG("warm_up", schedule=None):

    @task
    def run(index: int) -> None:
        """Sleeps so long that no worker runs two of these tasks."""
        time.sleep(10)

    run.expand(index=list(range(LOAD["slots"])))

for mode, arguments in MODES.items():
    with DAG(f"sensors_{mode}", schedule=None):
        sensor = WaitdHttpSensor if mode == "waitd" else HttpSensor
        sensor.partial(
            task_id="wait",
            http_conn_id="jobs",
            poke_interval=LOAD["poke_interval"],
            timeout=3600,
            **arguments,
        ).expand(endpoint=[f"/jobs/absent/{LOAD['seconds']}/{mode}-{n}" for n in range(LOAD["waits"])])
