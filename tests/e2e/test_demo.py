"""`waitd demo`, as a person runs it."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
DEMO = [sys.executable, "-m", "waitd", "demo"]


def running() -> dict[int, int]:
    """The parent of each process of this machine that runs, by process."""
    found = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, parent = stat.read_text().rpartition(")")[2].split()[:2]
        except OSError:  # it ended meanwhile
            continue
        if state != "Z":
            found[int(stat.parent.name)] = int(parent)
    return found


def test_the_demo_loses_nothing_and_says_so(tmp_path: Path) -> None:
    done = subprocess.run(
        [*DEMO, "--waits", "100", "--json"],
        env={
            **os.environ,
            "TMPDIR": str(tmp_path),
            "WAITD_DATABASE_URL": "nonsense://",
            "WAITD_BIND": "nonsense",
        },
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    account = json.loads(done.stdout)
    assert account["good"] is True
    assert (account["submitted"], account["delivered"], account["lost"], account["wrong"]) == (100, 100, 0, 0)
    assert (account["succeeded"], account["failed"], account["timed_out"]) == (72, 16, 12)
    assert account["kinds"] == {"http": 80, "s3_key": 18, "s3_keys_unchanged": 2}
    assert account["refused"] > 0
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
        said = [demo.stderr.readline()]
        while "submitted and on disk" not in said[-1]:
            assert said[-1], said
            said.append(demo.stderr.readline())
        children = {pid for pid, parent in running().items() if parent == demo.pid}
        assert len(children) == 2
        demo.send_signal(number)
        rest = demo.stderr.read()
        assert demo.wait(timeout=30) == 130
    assert "Traceback" not in rest
    assert children.isdisjoint(running())
    assert list(tmp_path.iterdir()) == []
