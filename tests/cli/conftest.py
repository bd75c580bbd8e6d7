"""Fixtures for the command line as a process, with a real daemon and a job server."""

import json
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from cli_process import Run, Serve, environment, free_address, process, run_waitd, serving


@pytest.fixture(scope="session")
def job_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """The URLs of a job server and of its S3 server."""
    log = tmp_path_factory.mktemp("job_server") / "log"
    with process("waitd.bench.job_server", "--s3", env=environment(), log=log) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())


@pytest.fixture(scope="session")
def jobs(job_server: Mapping[str, Any]) -> str:
    """The URL of the job server's jobs."""
    return str(job_server["urls"][0]) + "/jobs"


@pytest.fixture(scope="session")
def s3(job_server: Mapping[str, Any]) -> dict[str, str]:
    """Environment variables that make the job server the default S3 endpoint."""
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    return {"AWS_ENDPOINT_URL": str(job_server["s3"][0]), **keys}


@pytest.fixture
def bind() -> str:
    """An address on which nothing listens yet."""
    return free_address()


@pytest.fixture
def other_bind() -> str:
    """Another address on which nothing listens yet."""
    return free_address()


@pytest.fixture
def unused_url() -> str:
    """A URL where nothing listens."""
    return f"http://{free_address()}"


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a daemon that the tests share."""
    with serving(tmp_path_factory.mktemp("daemon"), free_address()) as (url, running):
        yield url
        running.send_signal(signal.SIGTERM)
        assert running.wait(timeout=30) == 0


@pytest.fixture
def serve() -> Serve:
    """Starts another daemon: `with serve(directory, address) as (url, process)`."""
    return serving


@pytest.fixture(scope="session")
def waitd() -> Run:
    """Runs `waitd ARGUMENTS`; see `cli_process.run_waitd`."""
    return run_waitd
