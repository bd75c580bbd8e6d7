"""The wheel is all that is needed: built from a clean copy, installed into an empty environment, and the demo runs."""

import json
import os
import shutil
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest
from manifests import ROOT

from waitd import __version__

pytestmark = pytest.mark.slow
PARTS = ("waitd", "pyproject.toml", "README.md")


def run(*command: str | Path, cwd: Path, **environment: str) -> str:
    """Standard output of a command that has to succeed, with none of this environment's settings."""
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


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    source, wheels = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheels")
    for part in PARTS:
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, source / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, source)
    run(sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, ".", cwd=source)
    (built,) = wheels.iterdir()
    return built


def test_every_file_of_the_package_is_in_the_wheel(wheel: Path) -> None:
    files = [f for f in (ROOT / "waitd").rglob("*") if f.is_file() and "__pycache__" not in f.parts]
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.startswith("waitd/")}
    assert packed == {str(file.relative_to(ROOT)) for file in files}


def test_with_the_wheel_alone_the_demo_loses_nothing(wheel: Path, tmp_path: Path) -> None:
    place = tmp_path / "venv"
    venv.create(place, with_pip=True)
    constraints = ROOT / "config" / "constraints.txt"
    run(place / "bin" / "pip", "install", "--quiet", "-c", constraints, wheel, cwd=tmp_path)
    waitd = place / "bin" / "waitd"
    said = run(waitd, "--version", cwd=tmp_path, WAITD_BUILD="0123abc")
    assert said == f"waitd {__version__} (build 0123abc)\n"
    account = json.loads(run(waitd, "demo", "--json", cwd=tmp_path, TMPDIR=str(tmp_path)))
    assert account["good"] is True
    assert account["lost"] == 0
