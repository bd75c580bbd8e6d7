"""Generated connections are read as Airflow's own two classes read them."""

import json
import os
import random
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from waitd.connections.airflow_formats import parse_connection

pytestmark = pytest.mark.slow

NUMBER = 2000


def test_generated_connections_are_read_as_airflow_reads_them(environment: Path, tmp_path: Path) -> None:
    """Where the classes differ, each field, and each extra, is as one of them reads it."""
    seed, output = random.randrange(2**32), tmp_path / "connections"
    command = [environment / "bin/python", Path(__file__).with_name("generated_connections.py")]
    run = subprocess.run(
        [*command, str(seed), str(NUMBER), output],
        env={"PATH": os.environ["PATH"], "AIRFLOW_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-2000:]
    lines = [json.loads(line) for line in output.read_text("utf-8").splitlines()]
    different = [line for line in lines if not is_read_as_in_airflow(**line)]
    assert len(lines) == NUMBER
    assert not different, f"seed {seed}: {len(different)} differ, among them {different[:3]}"


def is_read_as_in_airflow(value: str, core: dict[str, Any] | None, sdk: dict[str, Any] | None) -> bool:
    readings = [reading for reading in (core, sdk) if reading is not None]
    try:
        connection = parse_connection("c", value)
    except ValueError:  # waitd refuses an @ in a host, which Airflow takes as part of its name
        return len(readings) < 2 or "@" in (readings[0]["host"] or "")
    return any(readings) and all(
        as_one_of(name, getattr(connection, name), [reading[name] for reading in readings])
        for name in readings[0]
    )


def as_one_of(name: str, read: Any, readings: list[Any]) -> bool:
    if name != "extra":
        return read in readings
    extras: list[Mapping[str, Any]] = [reading or {} for reading in readings]
    return all(read.keys() == extra.keys() for extra in extras) and all(
        read[key] in [extra[key] for extra in extras] for key in read
    )
