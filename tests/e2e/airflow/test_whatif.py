"""`waitd cost whatif` with a real Airflow."""

import asyncio
import os
import subprocess
import sys
from typing import Any

import orjson
import pytest
from provider_scene import ProviderScene

pytestmark = [pytest.mark.slow, pytest.mark.airflow_long]


async def test_the_sensors_of_a_real_airflow_are_counted(
    scene: ProviderScene, daemon_settings: dict[str, Any]
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
    report = orjson.loads(done.stdout)
    rows = {row["name"]: row for row in report["rows"]}
    assert rows["provider_pattern"]["waits"] >= 1
    assert report["total"]["waits"] == sum(row["waits"] for row in report["rows"])
    assert report["total"]["poke"]["slot_seconds"] > 0
    assert b"tasks that are not sensors" in done.stderr, "submit and fetch are ignored"
