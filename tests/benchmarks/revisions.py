"""Copies of revisions of waitd that run side by side."""

import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]


class Revision(NamedTuple):
    """A copy of one revision and the interpreter that runs it."""

    name: str
    checkout: Path
    python: str

    @property
    def environment(self) -> dict[str, str]:
        """Makes its processes import the copy.

        PYTHONSAFEPATH keeps `-m` from importing the current folder first.
        """
        return {"PYTHONPATH": str(self.checkout), "PYTHONSAFEPATH": "1"}


def copy_revision(revision: str | None, folder: Path, python: str) -> Revision:
    """Copies a revision, None for the working tree, to a folder and compiles it."""
    folder.mkdir()
    if revision is None:
        name = "working tree"
        shutil.copytree(ROOT / "waitd", folder / "waitd", ignore=shutil.ignore_patterns("__pycache__"))
    else:
        name = _output("git", "rev-parse", "--short", f"{revision}^{{commit}}").decode().strip()
        archive = _output("git", "archive", "--format=tar", name, "waitd")
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
    copy = Revision(name, folder, python)
    _output(python, "-m", "compileall", "-q", str(folder))
    imported = _output(python, "-c", "import waitd; print(waitd.__file__)", environment=copy.environment)
    if not imported.startswith(str(folder).encode()):
        raise SystemExit(f"{python} imports waitd from {imported.decode().strip()}, not from the checkout")
    return copy


def _output(*command: str, environment: Mapping[str, str] | None = None) -> bytes:
    variables = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=ROOT, env=variables, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {done.returncode}")
    return done.stdout
