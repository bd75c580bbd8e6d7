"""Builds the wheel, and runs programs of environments without waitd's and Python's variables."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]
_PARTS = ("waitd", "pyproject.toml", "README.md", "LICENSE")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """The output of a command that must succeed, run without waitd's and Python's variables."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("WAITD_", "PYTHON"))
    }
    done = subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def build_wheel(directory: Path) -> Path:
    """Builds the wheel of the checkout below a directory, and returns it."""
    source, wheels = directory / "source", directory / "wheels"
    for part in _PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, ".", cwd=source)
    (built,) = wheels.iterdir()
    return built
