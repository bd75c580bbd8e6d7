"""Runs functions inside Airflow's Python environment."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from waitd.bench.airflow.environment import link_provider


def run_inside(environment: Path, home: Path, *functions: str, **variables: str) -> Any:
    """The results of functions of `provider_inside`, by name."""
    done = subprocess.run(
        [str(environment / "bin" / "python"), str(Path(__file__).parent / "provider_inside.py"), *functions],
        env={
            "PATH": os.environ["PATH"],
            "PYTHONPATH": link_provider(home / "beside"),
            "AIRFLOW_HOME": str(home),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            **variables,
        },
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])
