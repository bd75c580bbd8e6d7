"""`waitd cost whatif`, asked of a real Airflow."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import orjson
import pytest
from provider_scene import Scene

pytestmark = [pytest.mark.slow, pytest.mark.airflow_long]


async def test_what_the_sensors_of_a_real_airflow_would_have_cost(
    scene: Scene, daemon_settings: dict[str, Any]
) -> None:
    run = await scene.run("provider_pattern", job="whatif")
    await run.parked()
    scene.jobs.succeed("whatif")
    await run.ended("fetch")
    command = (sys.executable, "-m", "waitd", "cost", "whatif", "--airflow-conn-id", "airflow", "--json")
    done = await asyncio.to_thread(
        subprocess.run,
        [*command, "--poke-interval", "0.3"],
        env={**os.environ, **daemon_settings},
        capture_output=True,
        check=True,
    )
    found = orjson.loads(done.stdout)
    rows = {row["name"]: row for row in found["rows"]}
    assert rows["provider_pattern"]["waits"] >= 1
    assert found["total"]["waits"] == sum(row["waits"] for row in found["rows"])
    assert found["total"]["poke"]["slot_seconds"] > 0
    assert b"tasks that are no sensors" in done.stderr, "submit and fetch are left out"
