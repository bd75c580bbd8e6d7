"""`waitd demo` as a process."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from cli_process import is_running, json_of, run_waitd

from waitd.bench.machine import descendants

pytestmark = pytest.mark.slow
DEMO = [sys.executable, "-m", "waitd", "demo"]


def test_the_demo_loses_nothing(tmp_path: Path) -> None:
    settings = {"TMPDIR": str(tmp_path), "WAITD_DATABASE_URL": "nonsense://", "WAITD_BIND": "nonsense"}
    done = run_waitd("demo", "--waits", "100", "--json", seconds=120, **settings)
    report = json_of(done)
    assert report["good"] is True
    assert (report["submitted"], report["delivered"], report["lost"], report["wrong"]) == (100, 100, 0, 0)
    assert (report["succeeded"], report["failed"], report["timed_out"]) == (72, 16, 12)
    assert report["kinds"] == {"http": 80, "s3_key": 18, "s3_keys_unchanged": 2}
    assert report["refused"] > 0
    assert "SIGKILL" in done.stderr
    assert "SlowDown" in done.stderr
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP], ids=lambda n: n.name)
def test_an_interrupted_demo_leaves_no_process_and_no_file_behind(
    tmp_path: Path, number: signal.Signals
) -> None:
    with subprocess.Popen(
        DEMO,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as demo:
        assert demo.stderr is not None
        lines = [demo.stderr.readline()]
        while "submitted and on disk" not in lines[-1]:
            assert lines[-1], lines
            lines.append(demo.stderr.readline())
        children = set(descendants(demo.pid))
        assert len(children) == 2
        demo.send_signal(number)
        rest = demo.stderr.read()
        assert demo.wait(timeout=30) == 130
    assert "Traceback" not in rest
    assert not any(map(is_running, children))
    assert list(tmp_path.iterdir()) == []
