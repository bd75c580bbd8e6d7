"""Environments of their own for what tests need and whose dependencies are not waitd's: made once for each set of pins, and kept.

They lie in `.cache` of the checkout, or where WAITD_TEST_CACHE says. Making one takes a minute or two, finding it nothing.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def own_environment(pins: Path) -> Path:
    """The directory of the environment that holds exactly what a file of requirements pins. Without an index of packages the test is skipped."""
    cache = Path(os.environ.get("WAITD_TEST_CACHE") or ROOT / ".cache").absolute()
    key = hashlib.sha256(pins.read_bytes() + sys.version.encode() + str(cache).encode()).hexdigest()[:12]
    environment = cache / f"{pins.stem}-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{environment.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once make it once
        complete = environment / "complete"
        if not complete.exists():
            shutil.rmtree(environment, ignore_errors=True)
            _run(sys.executable, "-m", "venv", environment)
            pip = (environment / "bin" / "python", "-m", "pip", "install", "--disable-pip-version-check")
            _run(*pip, "--quiet", "--retries", "1", "--no-deps", "-r", pins)
            complete.touch()
    return environment


def _run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        last = " ".join((done.stderr or done.stdout).strip().splitlines()[-3:])
        pytest.skip(f"pip could not install {command[-1]}: {last}")
