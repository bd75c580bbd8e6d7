"""Pokes with Airflow's own HttpSensor and writes what each poke says.

Runs in Airflow's own Python: `python http_sensors.py URL POKES ANSWERS`. The file POKES has a JSON
list of objects: `path`, `extra` of the connection, and `check`, a Python expression on `response`,
or null. ANSWERS gets a list of `true`, `false` or `error`.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from airflow.providers.http.sensors.http import HttpSensor


def poke(url: str, number: int, path: str, extra: dict[str, Any], check: str | None) -> str:
    """What one poke of the sensor says."""
    connection = {"conn_type": "http", "host": url, "extra": extra}
    os.environ[f"AIRFLOW_CONN_API_{number}"] = json.dumps(connection)
    sensor = HttpSensor(
        task_id=f"wait_{number}",
        http_conn_id=f"api_{number}",
        endpoint=path,
        response_check=check and (lambda response: bool(eval(check, {"response": response}))),
    )
    try:
        return str(bool(sensor.poke({}))).lower()
    except Exception:  # noqa: BLE001 - any ends the task
        return "error"


if __name__ == "__main__":
    url, pokes, answers = sys.argv[1:]
    cases = json.loads(Path(pokes).read_text("utf-8"))
    said = [poke(url, number, **case) for number, case in enumerate(cases)]
    Path(answers).write_text(json.dumps(said), "utf-8")
