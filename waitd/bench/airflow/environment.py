"""An environment of its own for Airflow, since its dependencies are not waitd's: made once for each set of pinned versions, and kept.

Making it takes a minute or two and an index of packages, finding it nothing. waitd itself is not in it: `link_provider` shows it to
Airflow as it stands here.
"""

import hashlib
import sys
from collections.abc import Callable
from importlib.metadata import distribution
from pathlib import Path

from waitd.bench.environments import PipFailed, ensure_environment

#: Airflow, its providers and PostgreSQL, complete and pinned.
PINNED = Path(__file__).with_name("constraints.txt")
#: The Pythons that these versions are made for, from the first to before the last.
PYTHONS = ((3, 11), (3, 14))
#: By what Airflow finds the provider; as pyproject.toml has it, which an editable install may be older than.
PROVIDER = "[apache_airflow_provider]\nprovider_info = waitd.airflow.provider_info:get_provider_info\n"


class AirflowFailed(Exception):  # noqa: N818 - reads as a sentence where it is raised
    """Airflow could not be installed, started or asked; the message says what to do, where that is known."""


class NotInstallable(AirflowFailed):
    """There is no index of packages that can be reached, or none that has these versions."""


def airflow_environment(cache: Path, said: Callable[[str], None] = lambda _: None) -> Path:
    """The directory of the environment below `cache`, with Airflow, its providers and PostgreSQL. `said` hears that it must be made.

    Raises:
        NotInstallable: it is not there and cannot be made.
        AirflowFailed: this Python is none that it can be made with.
    """
    key = hashlib.sha256(PINNED.read_bytes() + sys.version.encode()).hexdigest()[:12]
    environment = cache.absolute() / f"airflow-{key}"

    def preparing() -> None:
        _refuse_other_pythons()
        said(f"Installing Airflow into {environment}: once, a minute or two.")

    try:
        return ensure_environment(environment, PINNED, preparing)
    except PipFailed as error:
        raise NotInstallable(
            "Airflow could not be installed. It needs an index of packages, as pip is configured (PIP_INDEX_URL, PIP_PROXY), and\n"
            f"1 GB of disk. pip said:\n{error}"
        ) from None


def _refuse_other_pythons() -> None:
    first, beyond = PYTHONS
    if not first <= sys.version_info[:2] < beyond:
        known = ", ".join(f"3.{minor}" for minor in range(first[1], beyond[1]))
        raise AirflowFailed(
            f"The pinned Airflow runs on Python {known}; this is {sys.version.split()[0]}. Run waitd with one of those."
        )


def link_provider(directory: Path) -> str:
    """A PYTHONPATH, below `directory`, that shows Airflow the waitd which runs here, entry point included, and none of its libraries."""
    package, installed = Path(__file__).parents[2], distribution("waitd")
    metadata = directory / f"waitd-{installed.version}.dist-info"
    metadata.mkdir(parents=True)
    (directory / package.name).symlink_to(package)
    described = installed.read_text("METADATA") or installed.read_text("PKG-INFO") or ""
    (metadata / "METADATA").write_text(described, "utf-8")
    (metadata / "entry_points.txt").write_text(PROVIDER, "utf-8")
    return str(directory)
