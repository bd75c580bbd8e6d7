"""Fixtures for tests with a real Airflow, which they share. Each has its own daemon."""

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from airflow_inside import run_inside
from airflow_runs import WaitClient
from daemon import Daemon, Jobs, daemon, serving
from installation import not_installable
from provider_scene import ControlledJobServer, ProviderScene, connect_airflow

from waitd.bench.airflow.environment import NotInstallable, airflow_environment
from waitd.bench.airflow.instance import Airflow

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def cache() -> Path:
    """WAITD_TEST_CACHE, by default `.cache` in the checkout."""
    return Path(os.environ.get("WAITD_TEST_CACHE") or HERE.parents[2] / ".cache")


@pytest.fixture(scope="session")
def environment(cache: Path) -> Path:
    """Airflow, installed once."""
    try:
        return airflow_environment(cache)
    except NotInstallable as error:
        if os.environ.get("WAITD_TEST_LONG"):
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
async def jobs() -> AsyncIterator[ControlledJobServer]:
    server = ControlledJobServer()
    async with serving("GET", "/jobs/{name}", server.handle) as server.url:
        yield server


@pytest.fixture
def daemon_settings(airflow: Airflow, jobs: ControlledJobServer) -> dict[str, Any]:
    """The connections to Airflow and to the job server, and fast deliveries."""
    connection = {"conn_type": "airflow", "host": airflow.url, "login": "waitd", "password": "waitd-pw"}
    return {
        "AIRFLOW_CONN_AIRFLOW": orjson.dumps(connection).decode(),
        "AIRFLOW_CONN_JOBS": orjson.dumps({"conn_type": "http", "host": jobs.url}).decode(),
        "WAITD_DELIVERY_RETRY_DELAYS": str([0.0, *[1.0] * 300]),  # Airflow takes a while to restart
    }


@pytest.fixture
async def scene(airflow: Airflow, waitd: Daemon, jobs: ControlledJobServer) -> AsyncIterator[ProviderScene]:
    async with aiohttp.ClientSession() as client:
        await connect_airflow(airflow, waitd.url)
        yield ProviderScene(airflow, waitd, jobs, client)


@pytest.fixture
async def waitd(tmp_path: Path, daemon_settings: dict[str, Any]) -> AsyncIterator[Daemon]:
    async with daemon(tmp_path, **daemon_settings) as running:
        yield running


@pytest.fixture
async def waits(waitd: Daemon) -> AsyncIterator[WaitClient]:
    async with (
        serving("GET", "/jobs/{name}", Jobs().handle) as jobs_url,
        aiohttp.ClientSession() as client,
    ):
        yield WaitClient(waitd, client, jobs_url)


@pytest.fixture(scope="session")
def facts(environment: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """All results that need no waitd, from one process: importing Airflow takes seconds."""
    functions = (
        "imports",
        "provider",
        "signatures",
        "parse_errors",
        "parameters",
        "templates",
        "mapped",
        "two_airflows",
        "patience",
        "ends",
    )
    variables = {
        "AIRFLOW_CONN_WAITD_DEFAULT": "waitd://127.0.0.1:1",
        "AIRFLOW__WAITD__OWN_KINDS": "other.job, acme.*",
    }
    return run_inside(environment, tmp_path_factory.mktemp("airflow"), *functions, **variables)
