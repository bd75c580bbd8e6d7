"""An environment of its own for Airflow, since its dependencies are not waitd's: made once for each set of pinned versions, and kept.

It lies in `.cache` of the checkout, or where WAITD_TEST_CACHE says. Making it takes most of a minute, finding it nothing.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[3]
PINNED = ROOT / "config" / "airflow-constraints.txt"


def airflow_environment() -> Path:
    """The directory of the environment: Airflow, its providers, PostgreSQL, and this checkout's waitd."""
    cache = Path(os.environ.get("WAITD_TEST_CACHE") or ROOT / ".cache").absolute()
    key = hashlib.sha256(PINNED.read_bytes() + sys.version.encode() + str(ROOT).encode()).hexdigest()[:12]
    environment = cache / f"airflow-{key}"
    cache.mkdir(parents=True, exist_ok=True)
    checkout = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    with (cache / f"airflow-{key}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two test runs at once make it once
        complete = environment / "complete"
        if not complete.exists():
            shutil.rmtree(environment, ignore_errors=True)
            _run(sys.executable, "-m", "venv", environment)
            _install(environment, "--no-compile", "-r", PINNED)
            complete.touch()
        if complete.read_text() != checkout:  # its entry points may be others
            _install(environment, "-e", ROOT)
            complete.write_text(checkout)
    return environment


def _install(environment: Path, *what: object) -> None:
    pip = (environment / "bin" / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
    _run(*pip, "--no-deps", *what)


def _run(*command: object) -> None:
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command} failed:\n{done.stdout}\n{done.stderr}"
