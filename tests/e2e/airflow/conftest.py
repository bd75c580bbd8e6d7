"""One Airflow for all tests here; a waitd for each."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from airflow_runs import Waits
from daemon import Daemon, Jobs, daemon, serving
from installation import not_installable
from provider_scene import JobServer, Scene

from waitd.bench.airflow.environment import NotInstallable, airflow_environment
from waitd.bench.airflow.instance import HEARTBEAT, Airflow

HERE = Path(__file__).parent
LONG = "WAITD_TEST_AIRFLOW_LONG"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """What takes many minutes on a real Airflow runs where it is asked for: `.ci/run` does."""
    for item in items:
        if HERE in item.path.parents and item.get_closest_marker("airflow_long") and not os.environ.get(LONG):
            item.add_marker(pytest.mark.skip(reason=f"takes minutes on a real Airflow; {LONG}=1 runs it"))


@pytest.fixture(scope="session")
def environment() -> Path:
    """Airflow, installed once into `.cache` of the checkout, or where WAITD_TEST_CACHE says."""
    try:
        return airflow_environment(Path(os.environ.get("WAITD_TEST_CACHE") or HERE.parents[2] / ".cache"))
    except NotInstallable as error:
        if os.environ.get(LONG):
            raise
        not_installable(str(error))


@pytest.fixture(scope="session")
def airflow(environment: Path) -> Iterator[Airflow]:
    running = Airflow(environment, HERE / "dags")
    try:
        running.start()
        yield running
    finally:
        running.stop()


@pytest.fixture
async def jobs() -> AsyncIterator[JobServer]:
    server = JobServer()
    async with serving("GET", "/jobs/{name}", server.answer) as server.url:
        yield server


@pytest.fixture
def daemon_settings(airflow: Airflow, jobs: JobServer) -> dict[str, Any]:
    """What a waitd needs to speak to it, and to the job server."""
    connection = {"conn_type": "airflow", "host": airflow.url, "login": "waitd", "password": "waitd-pw"}
    return {
        "AIRFLOW_CONN_AIRFLOW": orjson.dumps(connection).decode(),
        "AIRFLOW_CONN_JOBS": orjson.dumps({"conn_type": "http", "host": jobs.url}).decode(),
        "WAITD_AIRFLOW_HOLD_OFF": str(HEARTBEAT + 5),
        "WAITD_DELIVERY_RETRY_DELAYS": str([0.0, *[1.0] * 300]),  # Airflow needs its time to come back
    }


@pytest.fixture
async def scene(airflow: Airflow, waitd: Daemon, jobs: JobServer) -> AsyncIterator[Scene]:
    async with aiohttp.ClientSession() as client:
        scene = Scene(airflow, waitd, jobs, client)
        await scene.point_airflow(waitd.url)
        yield scene


@pytest.fixture
async def waitd(tmp_path: Path, daemon_settings: dict[str, Any]) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, **daemon_settings) as running:
        yield running


@pytest.fixture
async def waits(waitd: Daemon) -> AsyncIterator[Waits]:
    async with (
        serving("GET", "/jobs/{name}", Jobs().handle) as jobs_url,
        aiohttp.ClientSession() as client,
    ):
        yield Waits(waitd, client, jobs_url)
