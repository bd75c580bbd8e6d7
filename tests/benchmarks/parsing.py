"""Compares how long Airflow takes to parse a DAG of waitd's sensors and one of its HttpSensors.

    python tests/benchmarks/parsing.py            100 sensors, 15 files of each
    python tests/benchmarks/parsing.py --sensors 1000

In Airflow's environment (installed once, below `.cache`), the code of Airflow's DAG processor
parses each file in a new process, which counts its CPU time: it executes the file and serializes
the DAG. Printed are medians: of the first parse, which imports the sensors, and of a later one.
"""

import argparse
import os
import subprocess
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

from lab import say

from waitd.bench.airflow.environment import airflow_environment, link_provider

CACHE = Path(__file__).parents[2] / ".cache"
SOURCES = {
    "HttpSensor": """
from airflow.sdk import DAG
from airflow.providers.http.sensors.http import HttpSensor
with DAG("theirs", schedule=None):
    for n in range(SENSORS):
        HttpSensor(task_id=f"wait_{n}", http_conn_id="api", endpoint=f"/jobs/{n}", poke_interval=30, timeout=3600)
""",
    "WaitdHttpSensor": """
from airflow.sdk import DAG
from waitd.airflow.sensors import WaitdHttpSensor
with DAG("ours", schedule=None):
    for n in range(SENSORS):
        WaitdHttpSensor(
            task_id=f"wait_{n}", http_conn_id="api", endpoint=f"/jobs/{n}", poke_interval=30, timeout=3600,
            success_when=f"body.state == 'DONE' && body.n >= {n}", failure_when="body.state in ['FAILED', 'KILLED']",
        )
""",
    "WaitdOperator": """
from airflow.sdk import DAG
from waitd.airflow.operators import WaitdOperator
with DAG("presets", schedule=None):
    for n in range(SENSORS):
        WaitdOperator(
            task_id=f"wait_{n}", kind="airbyte.job", wait_params={"job_id": "{{ params.job }}"}, poke_interval=30, timeout=3600
        )
""",
}
#: Prints the CPU seconds of the first parse, which imports, and of two later ones.
PROGRAM = """
import sys, time
from pathlib import Path
from types import SimpleNamespace
from airflow.dag_processing.processor import _parse_file
file = Path(sys.argv[1])
request = SimpleNamespace(file=str(file), bundle_path=file.parent, bundle_name="testing", callback_requests=[])
for _ in range(3):
    before = time.process_time()
    result = _parse_file(request, None)
    print(time.process_time() - before)
    assert not result.import_errors and len(result.serialized_dags) == 1, result
"""


def parse(python: Path, file: Path, environment: dict[str, str]) -> tuple[float, float]:
    """The CPU milliseconds of the first and of the fastest later parse."""
    done = subprocess.run(
        [str(python), "-c", PROGRAM, str(file)],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    first, *later = (1000 * float(line) for line in done.stdout.split()[-3:])
    return first, min(later)


def main() -> None:
    options = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    options.add_argument("--sensors", type=int, default=100)
    options.add_argument("--files", type=int, default=15)
    arguments = options.parse_args()
    cache = Path(os.environ.get("WAITD_TEST_CACHE") or CACHE)
    python = airflow_environment(cache, say) / "bin" / "python"
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in SOURCES}
    with TemporaryDirectory() as home:
        environment = {
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "ERROR",
            "PATH": os.environ["PATH"],
            "AIRFLOW_HOME": home,
            "PYTHONPATH": link_provider(Path(home, "beside")),
        }
        for name, source in [*SOURCES.items()] * arguments.files:
            file = Path(home, f"{name}.py")
            file.write_text(source.replace("SENSORS", str(arguments.sensors)), "utf-8")
            results[name].append(parse(python, file, environment))
    theirs = [median(column) for column in zip(*results["HttpSensor"], strict=True)]
    print(f"{arguments.sensors} sensors, CPU ms        with imports       imported")
    for name, times in results.items():
        columns = [median(column) for column in zip(*times, strict=True)]
        cells = [f"{ms:8.1f} ({ms / base:.2f} x)" for ms, base in zip(columns, theirs, strict=True)]
        print(f"{name:28}", *cells)


if __name__ == "__main__":
    main()
