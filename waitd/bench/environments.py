"""Environments of their own for what waitd is shown or tested with and whose dependencies are not waitd's: made once, and kept."""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class PipFailed(Exception):  # noqa: N818 - reads as a sentence where it is raised
    """There is no index of packages that can be reached, or none that has these versions; the message is what was said last."""


def ensure_environment(environment: Path, pins: Path, preparing: Callable[[], None] = lambda: None) -> Path:
    """`environment`, a directory, with exactly what a file of requirements pins. `preparing` is called only if it must be made.

    Raises:
        PipFailed: it is not there and cannot be made.
    """
    environment.parent.mkdir(parents=True, exist_ok=True)
    with environment.with_name(f"{environment.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two at once make it once
        complete = environment / "complete"
        if not complete.exists():
            preparing()
            shutil.rmtree(environment, ignore_errors=True)
            _run(sys.executable, "-m", "venv", environment)
            pip = (environment / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check")
            _run(*pip, "--quiet", "--retries", "1", "--no-compile", "--no-deps", "-r", pins)
            complete.touch()
    return environment


def _run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)  # noqa: S603 - our own words
    if done.returncode != 0:
        raise PipFailed("\n".join((done.stderr or done.stdout).strip().splitlines()[-3:]))
