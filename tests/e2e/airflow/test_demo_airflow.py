"""`waitd demo --airflow` as a process."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from cli_process import assert_fails, is_running, json_of, run_waitd

from waitd.bench.airflow.demo import DAG_FILE, JOBS_AFTER, SLOTS
from waitd.bench.airflow.processes import eventually
from waitd.bench.machine import descendants

pytestmark = [pytest.mark.slow, pytest.mark.long]
DEMO = [sys.executable, "-m", "waitd", "demo", "--airflow"]


@pytest.fixture
def scratch() -> Iterator[Path]:
    """A TMPDIR that other users may enter: for root, PostgreSQL runs as another user."""
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        yield Path(directory)


def variables(environment: Path, tmp_path: Path, scratch: Path) -> Mapping[str, str]:
    """The environment of the demo, which uses the cache of the tests."""
    (tmp_path / "waitd").symlink_to(environment.parent)
    return {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(scratch), "WAITD_BIND": "nonsense"}


def test_waiting_tasks_hold_no_slot_and_finish_in_task_their_results(
    environment: Path, tmp_path: Path, scratch: Path
) -> None:
    settings = variables(environment, tmp_path, scratch)
    done = run_waitd("demo", "--airflow", "--json", seconds=900, **settings)
    report = json_of(done)
    assert report["good"] is True
    assert report["before"] == {"tasks": SLOTS, "slots_held": SLOTS}
    assert report["after"] == {"tasks": JOBS_AFTER, "slots_held": 0}
    assert (report["succeeded"], report["tries"], report["wrong"]) == (JOBS_AFTER, JOBS_AFTER, 0)
    assert [(mode["mode"], mode["parked_as"], mode["try_number"]) for mode in report["modes"]] == [
        ("resume", "awaiting_input", 1),
        ("set_state", "deferred", 1),
        ("clear", "deferred", 2),
    ]
    assert str(DAG_FILE) in done.stderr
    assert "SIGKILL" in done.stderr
    assert list(scratch.iterdir()) == []


@pytest.mark.parametrize(
    ("number", "step"),
    [(signal.SIGINT, "Starting Airflow"), (signal.SIGTERM, "Before"), (signal.SIGHUP, "Starting Airflow")],
    ids=lambda value: value.name if isinstance(value, signal.Signals) else "",
)
def test_an_interrupted_demo_leaves_nothing_behind(
    environment: Path, tmp_path: Path, scratch: Path, number: signal.Signals, step: str
) -> None:
    with subprocess.Popen(
        DEMO,
        env=variables(environment, tmp_path, scratch),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stderr is not None
        lines = [demo.stderr.readline()]
        while step not in lines[-1]:
            assert lines[-1], lines
            lines.append(demo.stderr.readline())
        eventually(lambda: len(list(descendants(demo.pid))) >= 5, 120, "PostgreSQL")
        started = set(descendants(demo.pid))
        demo.send_signal(number)
        rest = demo.stderr.read()
        assert demo.wait(timeout=60) == 130
    assert "Traceback" not in rest
    assert list(scratch.iterdir()) == []
    eventually(lambda: not any(map(is_running, started)), 10, "the end of all processes")


def test_without_a_package_index_the_error_says_what_to_do(tmp_path: Path) -> None:
    nowhere = {"PIP_INDEX_URL": "http://127.0.0.1:1/simple", "PIP_CONFIG_FILE": os.devnull}
    done = run_waitd("demo", "--airflow", seconds=120, XDG_CACHE_HOME=str(tmp_path), **nowhere)
    assert_fails(done, 1, "set PIP_INDEX_URL or PIP_PROXY")
