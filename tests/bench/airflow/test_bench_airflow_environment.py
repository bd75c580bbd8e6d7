"""The environment for Airflow, without installing it. The rest is in `e2e/airflow`."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from waitd import __version__
from waitd.bench.airflow import environment as airflow_env
from waitd.bench.airflow.environment import AirflowFailed, airflow_environment, link_provider


def test_airflow_and_every_library_is_pinned() -> None:
    lines = [line for line in airflow_env.PINNED.read_text("utf-8").splitlines() if not line.startswith("#")]
    assert "apache-airflow==3.3.2" in lines
    assert all("==" in line for line in lines)


def test_another_python_is_refused_with_the_supported_ones(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(airflow_env, "PYTHONS", ((3, 1), (3, 3)))
    with pytest.raises(AirflowFailed, match=r"needs Python 3\.1, 3\.2; this is 3\."):
        airflow_environment(tmp_path)


def test_airflow_imports_this_waitd_and_none_of_its_libraries(tmp_path: Path) -> None:
    path = link_provider(tmp_path / "provider")
    assert sorted(entry.name for entry in Path(path).iterdir()) == ["waitd", f"waitd-{__version__}.dist-info"]
    program = (
        "from importlib.metadata import entry_points, version; import waitd; "
        "print(version('waitd'), [e.value for e in entry_points(group='apache_airflow_provider')], waitd.__file__)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", program],
        env={**os.environ, "PYTHONPATH": path},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    expected = f"{__version__} ['waitd.airflow.provider_info:get_provider_info'] {path}/waitd/__init__.py\n"
    assert done.stdout == expected
