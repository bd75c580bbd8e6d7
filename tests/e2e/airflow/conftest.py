"""One Airflow for all tests here; a waitd for each."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from airflow_environment import airflow_environment
from airflow_processes import HEARTBEAT, Airflow
from airflow_runs import Waits
from daemon import Daemon, Jobs, daemon, serving

HERE = Path(__file__).parent
REAL, LONG = "WAITD_TEST_AIRFLOW", "WAITD_TEST_AIRFLOW_LONG"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """A real Airflow is several processes and minutes: these run where they are asked for."""
    for item in items:
        if HERE not in item.path.parents:
            continue
        wanted = LONG if item.get_closest_marker("airflow_long") else REAL
        if not (os.environ.get(LONG) or os.environ.get(wanted)):
            item.add_marker(pytest.mark.skip(reason=f"takes minutes on a real Airflow; {wanted}=1 runs it"))


@pytest.fixture(scope="session")
def airflow() -> Iterator[Airflow]:
    running = Airflow(airflow_environment())
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
def daemon_settings(airflow: Airflow) -> dict[str, Any]:
    """What a waitd needs to speak to it."""
    connection = {"conn_type": "airflow", "host": airflow.url, "login": "waitd", "password": "waitd-pw"}
    return {
        "AIRFLOW_CONN_AIRFLOW": orjson.dumps(connection).decode(),
        "WAITD_AIRFLOW_HOLD_OFF": str(HEARTBEAT + 5),
        "WAITD_LADDER": str([0.0, *[1.0] * 300]),  # Airflow needs its time to come back
    }


@pytest.fixture
async def waitd(tmp_path: Path, daemon_settings: dict[str, Any]) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, **daemon_settings) as running:
        yield running


@pytest.fixture
async def waits(waitd: Daemon) -> AsyncIterator[Waits]:
    async with (
        serving("GET", "/jobs/{name}", Jobs().answer) as jobs_url,
        aiohttp.ClientSession() as client,
    ):
        yield Waits(waitd, client, jobs_url)
