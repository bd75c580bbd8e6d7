"""After waitd has lost its database, the waits of parked tasks are registered again."""

import asyncio
import json
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cli_process import run_waitd
from daemon import daemon
from provider_scene import ControlledJobServer, ProviderScene, connect_airflow

from waitd.bench.airflow.instance import Airflow

pytestmark = [pytest.mark.slow, pytest.mark.long]
MODES = ("resume", "set_state", "clear")


async def reconcile(settings: dict[str, Any], url: str, *options: str) -> list[dict[str, Any]]:
    """Runs `waitd airflow reconcile`, and returns its output for the tasks of the test's DAG."""
    command = ("airflow", "reconcile", "--conn-id", "airflow", "--url", url, "--json")
    done = await asyncio.to_thread(run_waitd, *command, *options, **settings)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    return sorted(
        (line for line in lines if line["dag_id"] == "provider_modes"), key=lambda line: str(line["task_id"])
    )


async def test_a_lost_database_is_restored_from_airflow(
    airflow: Airflow, daemon_settings: dict[str, Any], jobs: ControlledJobServer, tmp_path: Path
) -> None:
    settings = daemon_settings
    async with aiohttp.ClientSession() as client:
        async with daemon(tmp_path / "lost", **settings) as first:
            scene = ProviderScene(airflow, first, jobs, client)
            await connect_airflow(airflow, first.url)
            run = await scene.run("provider_modes", job="lost")
            await asyncio.gather(*(run.parked(mode) for mode in MODES))
            before = {wait["labels"]["task_id"]: wait for wait in await scene.waits(run)}
        async with daemon(tmp_path / "new", **settings) as second:
            scene = ProviderScene(airflow, second, jobs, client)
            listed = await reconcile(settings, second.url, "--dry-run")
            assert [(task["task_id"], task["kind"]) for task in listed] == [
                (mode, "http") for mode in sorted(MODES)
            ]
            assert await scene.waits(run) == []

            assert [task["status"] for task in await reconcile(settings, second.url)] == [201] * 3
            repeated = {task["status"] for task in await reconcile(settings, second.url)}
            assert repeated <= {200, 409}, "the waits already exist"
            after = {wait["labels"]["task_id"]: wait for wait in await scene.waits(run)}
            for mode in MODES:
                assert after[mode]["deadline"][:17] == before[mode]["deadline"][:17]
                assert (after[mode]["sinks"], after[mode]["params"]) == (
                    before[mode]["sinks"],
                    before[mode]["params"],
                )

            jobs.succeed("lost")
            ended = await asyncio.gather(*(run.ended(f"fetch_{mode}", seconds=120) for mode in MODES))
            assert [task["state"] for task in ended] == ["success"] * 3
