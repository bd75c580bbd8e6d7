"""`waitd cost whatif` with a real Airflow."""

import asyncio
from typing import Any

import pytest
from cli_process import json_of, run_waitd
from provider_scene import ProviderScene

pytestmark = [pytest.mark.slow, pytest.mark.long]


async def test_the_sensors_of_a_real_airflow_are_counted(
    scene: ProviderScene, daemon_settings: dict[str, Any]
) -> None:
    run = await scene.run("provider_pattern", job="whatif")
    await run.parked()
    scene.jobs.succeed("whatif")
    await run.ended("fetch")
    options = ("--airflow-conn-id", "airflow", "--json", "--poke-interval", "0.3")
    done = await asyncio.to_thread(run_waitd, "cost", "whatif", *options, **daemon_settings)
    report = json_of(done)
    rows = {row["name"]: row for row in report["rows"]}
    assert rows["provider_pattern"]["waits"] >= 1
    assert report["total"]["waits"] == sum(row["waits"] for row in report["rows"])
    assert report["total"]["poke"]["slot_seconds"] > 0
    assert "tasks that are not sensors" in done.stderr, "submit and fetch are ignored"
