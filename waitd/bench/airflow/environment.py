"""A virtual environment for Airflow, created once for each set of pinned versions.

Creating it needs a package index and a minute or two. waitd is not installed in it: `link_provider`
makes the running waitd importable there.
"""

import hashlib
import sys
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

from waitd.bench.environments import PipFailed, ensure_environment

#: The pinned versions of Airflow, its providers, PostgreSQL and all their dependencies.
PINNED = Path(__file__).with_name("constraints.txt")
#: The Python versions that the pins are made for: from the first, below the last.
PYTHONS = ((3, 11), (3, 14))
#: The entry point by which Airflow finds the provider, as in pyproject.toml; an editable install
#: may lack it.
PROVIDER = "[apache_airflow_provider]\nprovider_info = waitd.airflow.provider_info:get_provider_info\n"


class AirflowFailed(Exception):  # noqa: N818 - reads as a sentence where it is raised
    """Airflow could not be installed, started or queried.

    The message says what to do, where that is known.
    """


class NotInstallable(AirflowFailed):
    """No reachable package index has the pinned versions."""


def airflow_environment(cache: Path, report: Callable[[str], None] = lambda _: None) -> Path:
    """The environment below `cache`, with Airflow, its providers and PostgreSQL.

    `report` is called if it has to be created.

    Raises:
        NotInstallable: it cannot be created.
        AirflowFailed: the pins do not support this Python.
    """
    key = hashlib.sha256(PINNED.read_bytes() + sys.version.encode()).hexdigest()[:12]
    environment = cache.absolute() / f"airflow-{key}"

    def on_create() -> None:
        _refuse_other_pythons()
        report(f"Installing Airflow into {environment}. This happens once and takes a minute or two.")

    try:
        return ensure_environment(environment, PINNED, on_create)
    except PipFailed as error:
        raise NotInstallable(
            "Airflow could not be installed. That needs 1 GB of disk and a package index; set PIP_INDEX_URL or PIP_PROXY.\n"
            f"The end of pip's output:\n{error}"
        ) from None


def _refuse_other_pythons() -> None:
    first, beyond = PYTHONS
    if not first <= sys.version_info[:2] < beyond:
        supported = ", ".join(f"3.{minor}" for minor in range(first[1], beyond[1]))
        raise AirflowFailed(
            f"The pinned Airflow needs Python {supported}; this is {sys.version.split()[0]}. Run waitd on one of those."
        )


def link_provider(directory: Path) -> str:
    """Links this waitd and its provider entry point, without its libraries, into `directory`.

    Returns it as a PYTHONPATH.
    """
    package, installed = Path(__file__).parents[2], distribution("waitd")
    metadata = directory / f"waitd-{installed.version}.dist-info"
    metadata.mkdir(parents=True)
    (directory / package.name).symlink_to(package)
    described = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    (metadata / "METADATA").write_text(described, "utf-8")
    (metadata / "entry_points.txt").write_text(PROVIDER, "utf-8")
    return str(directory)
