"""Pokes with Airflow's own sensors of S3 and writes what the last poke of each says.

Runs in Airflow's own Python: `python s3_sensors.py URL POKES ANSWERS`. The file POKES has a JSON
list of objects: `params` of the sensor, `check`, a Python expression on `files`, or null, and how
many `pokes`; S3KeysUnchangedSensor is the one with a `prefix`. ANSWERS gets a list of `true`,
`false` or `error`.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

from airflow.providers.amazon.aws.sensors.s3 import S3KeySensor, S3KeysUnchangedSensor


def last_poke(number: int, params: dict[str, Any], check: str | None, pokes: int) -> str:
    """What the last of so many pokes of a sensor says."""
    if "prefix" in params:
        sensor = S3KeysUnchangedSensor(task_id=f"wait_{number}", **params)
    else:
        check_fn = check and (lambda files: bool(eval(check, {"files": files})))
        sensor = S3KeySensor(task_id=f"wait_{number}", check_fn=check_fn, **params)
    try:
        return str(bool([sensor.poke({}) for _ in range(pokes)][-1])).lower()
    except Exception:  # noqa: BLE001 - any ends the task
        return "error"


if __name__ == "__main__":
    url, asked, answers = sys.argv[1:]
    os.environ["AIRFLOW_CONN_AWS_DEFAULT"] = json.dumps(
        {
            "conn_type": "aws",
            "login": "AKIA",
            "password": "secret",
            "extra": {"endpoint_url": url, "region_name": "us-east-1"},
        }
    )
    cases = json.loads(Path(asked).read_text("utf-8"))
    said = [last_poke(number, **case) for number, case in enumerate(cases)]
    Path(answers).write_text(json.dumps(said), "utf-8")
