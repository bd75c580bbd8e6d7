"""Installs what tests need besides pip's packages. One process installs while the others wait.

What cannot be installed skips its tests with the reason, and fails them if `CI=true`.
"""

import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import NoReturn

import pytest

#: How many seconds apt waits for another program's lock, and how many an install may take.
LOCK_SECONDS, INSTALL_SECONDS = 300, 600


def not_installable(reason: str) -> NoReturn:
    """Skips the test, or fails it on CI."""
    if os.environ.get("CI") == "true":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


@contextmanager
def exclusively(lock: Path) -> Iterator[None]:
    """Runs the block in one process at a time."""
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def require_apt_package(package: str, is_installed: Callable[[], bool]) -> None:
    """Installs a missing Debian package. If that fails, skips the test, or fails it on CI."""
    if reason := install_apt_package(package, is_installed):
        not_installable(reason)


@cache
def install_apt_package(package: str, is_installed: Callable[[], bool]) -> str:
    """Installs a Debian package if it is missing. Returns the reason why that failed, else ""."""
    if is_installed():
        return ""
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return f"{package} is missing, and only root on Debian can run apt-get install {package}"
    with exclusively(Path(tempfile.gettempdir()) / "waitd-tests-apt.lock"):
        error = ""
        # A fresh image has no index of packages, and an old index names packages that are gone.
        for command in (["install", package], ["update"], ["install", package]):
            if is_installed():
                return ""
            error = _apt_get(*command)
    return "" if is_installed() else f"apt-get cannot install {package}: {error}"


def _apt_get(*command: str) -> str:
    """Runs apt-get and returns the end of what it says."""
    options = ["-y", "--no-install-recommends", "-o", f"DPkg::Lock::Timeout={LOCK_SECONDS}"]
    # With this run level, an installed service is not started.
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive", "RUNLEVEL": "1"}
    try:
        done = subprocess.run(
            ["apt-get", *options, *command],
            env=environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"apt-get {command[0]} took longer than {INSTALL_SECONDS} s"
    return done.stderr[-300:]
