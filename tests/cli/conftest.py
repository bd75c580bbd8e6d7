"""The CLI is run as a person runs it: as a process, against a real daemon and a real job server."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from waitd.bench.children import free_port

Run = Callable[..., subprocess.CompletedProcess[str]]
Serve = Callable[..., AbstractContextManager[tuple[str, subprocess.Popen[str]]]]


def environment(**settings: str) -> dict[str, str]:
    ours = {
        name: value for name, value in os.environ.items() if not name.startswith(("WAITD_", "AIRFLOW_CONN_"))
    }
    return ours | {"NO_COLOR": "1", **settings}


@contextmanager
def process(*arguments: str, env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[str]]:
    with (
        log.open("w") as errors,
        subprocess.Popen(
            [sys.executable, "-m", *arguments],
            env=dict(env),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
        ) as started,
    ):
        try:
            yield started
        finally:
            started.kill()


@pytest.fixture(scope="session")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mapping[str, Any]]:
    """A job server: where it is served, and where its keys are."""
    log = tmp_path_factory.mktemp("fleet") / "log"
    with process("waitd.bench.job_server", "--s3", env=environment(), log=log) as fleet:
        assert fleet.stdout is not None
        yield json.loads(fleet.stdout.readline())


@pytest.fixture(scope="session")
def jobs(fleet: Mapping[str, Any]) -> str:
    """The URL of its jobs."""
    return str(fleet["urls"][0]) + "/jobs"


@pytest.fixture(scope="session")
def s3(fleet: Mapping[str, Any]) -> dict[str, str]:
    """The environment in which its keys are found, without a connection."""
    keys = {"AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b", "AWS_DEFAULT_REGION": "us-east-1"}
    return {"AWS_ENDPOINT_URL": str(fleet["s3"][0]), **keys}


@pytest.fixture
def bind() -> str:
    """An address where nobody listens yet."""
    return free_address()


@pytest.fixture
def other_bind() -> str:
    """Another one."""
    return free_address()


def free_address() -> str:
    return f"127.0.0.1:{free_port()}"


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a daemon."""
    with serving(tmp_path_factory.mktemp("daemon"), free_address()) as (url, served):
        yield url
        served.send_signal(signal.SIGTERM)
        assert served.wait(timeout=30) == 0


@pytest.fixture
def serve() -> Serve:
    """Starts another daemon: `with serve(directory, address) as (url, process)`."""
    return serving


@contextmanager
def serving(home: Path, bind: str, **settings: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A daemon, its URL and its process; killed at the end."""
    home.mkdir(exist_ok=True)
    arguments = ("waitd", "serve", "--bind", bind, "--state-dir", str(home))
    with process(*arguments, env=environment(**settings), log=home / "log") as served:
        deadline = time.monotonic() + 30
        while not _ready(f"http://{bind}/readyz"):
            assert served.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"http://{bind}", served


def _ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        pass
    return False


@pytest.fixture(scope="session")
def waitd() -> Run:
    """Runs `waitd ARGUMENTS`, with `input` on its standard input, for `seconds` at most, and more environment as keywords."""

    def run(
        *arguments: str,
        input: str = "",  # noqa: A002
        seconds: float = 60,
        **more: str,
    ) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "waitd", *arguments],
            input=input,
            env=environment(**more),
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
        )

    return run


@pytest.fixture
def nobody() -> str:
    """A URL where nobody listens."""
    return f"http://{free_address()}"
