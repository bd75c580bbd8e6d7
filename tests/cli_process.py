"""Runs the command line and daemons as processes, as a user does."""

import json
import os
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from waitd.bench.children import free_port

#: The type of the fixture `waitd`.
Run = Callable[..., subprocess.CompletedProcess[str]]
#: The type of the fixture `serve`.
Serve = Callable[..., AbstractContextManager[tuple[str, subprocess.Popen[str]]]]


def environment(**settings: str) -> dict[str, str]:
    """The environment without settings and connections of the user, and with `settings`."""
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("WAITD_", "AIRFLOW_CONN_", "COLUMNS"))
    }
    return inherited | {"NO_COLOR": "1", **settings}


@contextmanager
def process(*arguments: str, env: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[str]]:
    """A process of `python -m ARGUMENTS`, which is killed at the end."""
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


@contextmanager
def serving(home: Path, bind: str, **settings: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """A daemon's URL and its process, which is killed at the end."""
    home.mkdir(exist_ok=True)
    arguments = ("waitd", "serve", "--bind", bind, "--state-dir", str(home))
    with process(*arguments, env=environment(**settings), log=home / "log") as daemon:
        deadline = time.monotonic() + 90
        while not _is_ready(f"http://{bind}/readyz"):
            assert daemon.poll() is None, (home / "log").read_text()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield f"http://{bind}", daemon


def _is_ready(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=5):
            return True
    except urllib.error.HTTPError as error:
        error.close()
    except OSError:
        pass
    return False


def run_waitd(
    *arguments: str,
    input: str = "",  # noqa: A002 - as subprocess.run names it
    seconds: float = 60,
    **variables: str,
) -> subprocess.CompletedProcess[str]:
    """Runs `waitd ARGUMENTS` with `input` on standard input, for at most `seconds`."""
    return subprocess.run(
        [sys.executable, "-m", "waitd", *arguments],
        input=input,
        env=environment(**variables),
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def assert_fails(done: subprocess.CompletedProcess[str], code: int, *messages: str) -> None:
    """The command ended with this exit code, no result, and an error message with these texts."""
    assert (done.returncode, done.stdout) == (code, ""), done.stderr
    for message in messages:
        assert message in done.stderr, done.stderr
    assert "Traceback" not in done.stderr


def json_of(done: subprocess.CompletedProcess[str]) -> Any:
    """The JSON document that a command printed, which must have succeeded."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def is_running(pid: int) -> bool:
    """Whether the process exists and is not a zombie, which its new parent may reap late."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def free_address() -> str:
    """An address on which nothing listens."""
    return f"127.0.0.1:{free_port()}"
