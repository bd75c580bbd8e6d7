"""Virtual environments for programs whose dependencies must not mix with waitd's.

Created once and kept.
"""

import fcntl
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


class PipFailed(Exception):  # noqa: N818 - reads as a sentence where it is raised
    """pip could not install the pinned versions; the message is the end of its output."""


def ensure_environment(environment: Path, pins: Path, on_create: Callable[[], None] = lambda: None) -> Path:
    """Creates a virtual environment with exactly the pinned requirements, unless it exists.

    Returns it.

    Args:
        environment: its directory.
        pins: a requirements file.
        on_create: is called if it has to be created.

    Raises:
        PipFailed: it could not be created.
    """
    environment.parent.mkdir(parents=True, exist_ok=True)
    with environment.with_name(f"{environment.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # of two processes, one waits for the other
        complete = environment / "complete"
        if not complete.exists():
            on_create()
            shutil.rmtree(environment, ignore_errors=True)
            _run(sys.executable, "-m", "venv", environment)
            pip = (environment / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check")
            _run(*pip, "--quiet", "--retries", "1", "--no-compile", "--no-deps", "-r", pins)
            complete.touch()
    return environment


def _run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)  # noqa: S603 - the command is built here
    if done.returncode != 0:
        raise PipFailed("\n".join((done.stderr or done.stdout).strip().splitlines()[-3:]))
