"""The wheel beside each Airflow moves none of its packages and brings none of the daemon's."""

import sys
import venv
from pathlib import Path

import pytest
from own_environment import own_environment
from wheel import build_wheel, run

from waitd import __version__
from waitd.bench.airflow.environment import PINNED, PROVIDER

pytestmark = [pytest.mark.slow, pytest.mark.long]
PINS = Path(__file__).parents[1] / "pins"
#: Lists the provider and the packages, imports the sensors, and says which mode is the best one.
PROGRAM = """
from airflow.providers_manager import ProvidersManager
from waitd.airflow.sensors import WaitdHttpSensor
manager = ProvidersManager()
print(manager.providers["waitd"].version, manager.hooks["waitd"].hook_name)
print(WaitdHttpSensor(task_id="wait", endpoint="/x").callback_mode)
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_wheel(tmp_path_factory.mktemp("wheel"))


@pytest.mark.parametrize(
    ("pins", "best"),
    [
        (PINS / "airflow-3.0.txt", "clear"),
        (PINS / "airflow-3.1.txt", "clear"),
        (PINS / "airflow-3.2.txt", "clear"),
        (PINNED, "resume"),
    ],
)
def test_the_provider_is_all_that_the_wheel_brings(
    wheel: Path, tmp_path: Path, request: pytest.FixtureRequest, pins: Path, best: str
) -> None:
    shared = request.getfixturevalue("environment") if pins == PINNED else own_environment(pins)
    # An environment on top, so that the shared one stays as it is whatever pip does.
    venv.create(tmp_path / "venv", symlinks=True)
    python = tmp_path / "venv" / "bin" / "python"
    [packages] = (tmp_path / "venv" / "lib").glob("python*/site-packages")
    [below] = (shared / "lib").glob("python*/site-packages")
    (packages / "airflow.pth").write_text(f"{below}\n")
    pip = (sys.executable, "-m", "pip", "--python", python)

    def freeze() -> set[str]:
        return set(run(*pip, "freeze", cwd=tmp_path).splitlines())

    before = freeze()
    assert f"apache-airflow=={_pinned(pins)}" in before
    for requirement in (wheel, f"{wheel}[airflow]"):
        run(*pip, "install", "--quiet", requirement, cwd=tmp_path)
        [added] = freeze() - before
        assert before <= freeze()
        assert added.startswith("waitd @ ")
    run(*pip, "check", cwd=tmp_path)
    [entry_points] = packages.glob("waitd-*.dist-info/entry_points.txt")
    assert PROVIDER in entry_points.read_text()
    lines = run(python, "-W", "ignore", "-c", PROGRAM, cwd=tmp_path, AIRFLOW_HOME=str(tmp_path)).splitlines()
    assert lines[-2:] == [f"{__version__} waitd", best]


def _pinned(pins: Path) -> str:
    [line] = [line for line in pins.read_text().splitlines() if line.startswith("apache-airflow==")]
    return line.partition("==")[2]
