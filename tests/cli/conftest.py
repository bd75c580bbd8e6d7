"""The CLI is run as a person runs it: as a process, against a real daemon and a real job server."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]


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
def jobs(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a job server."""
    log = tmp_path_factory.mktemp("fleet") / "log"
    with process("waitd.bench.fleet", env=environment(), log=log) as fleet:
        assert fleet.stdout is not None
        yield json.loads(fleet.stdout.readline())["urls"][0] + "/jobs"


@pytest.fixture(scope="session")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The URL of a daemon."""
    home = tmp_path_factory.mktemp("daemon")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        bind = f"127.0.0.1:{probe.getsockname()[1]}"
    with process(
        "waitd", "serve", "--bind", bind, "--state-dir", str(home), env=environment(), log=home / "log"
    ) as served:
        deadline = time.monotonic() + 30
        while not _ready(f"http://{bind}/readyz"):
            assert served.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"http://{bind}"
        served.send_signal(signal.SIGTERM)
        assert served.wait(timeout=30) == 0, (home / "log").read_text()


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
    """Runs `waitd ARGUMENTS`, with `input` on its standard input and more environment as keywords."""

    def run(*arguments: str, input: str = "", **more: str) -> subprocess.CompletedProcess[str]:  # noqa: A002
        return subprocess.run(
            [sys.executable, "-m", "waitd", *arguments],
            input=input,
            env=environment(**more),
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    return run


@pytest.fixture
def nobody() -> str:
    """A URL where nobody listens."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}"
