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

LONG = "WAITD_TEST_AIRFLOW_LONG"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    why_not = pytest.mark.skip(reason=f"takes minutes; {LONG}=1 runs it, as .ci/run does")
    for item in items:
        if item.get_closest_marker("airflow_long") and not os.environ.get(LONG):
            item.add_marker(why_not)


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
