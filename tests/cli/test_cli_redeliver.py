import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from cli_process import Run, Serve, assert_fails


def body(jobs: str, unused_url: str, name: str) -> str:
    sink = {"kind": "webhook", "url": f"{unused_url}/callback"}
    params = {"endpoint": f"{jobs}/succeed/0/{name}"}
    return json.dumps({"kind": "http", "params": params, "poke_interval": 0.2, "sinks": [sink]})


def states(waitd: Run, url: str, wait_id: str) -> list[str]:
    wait = json.loads(waitd("show", wait_id, "--json", "--url", url).stdout)
    return sorted(delivery["state"] for delivery in wait["deliveries"])


def exit_code_at_prompt(url: str, react: Callable[[subprocess.Popen[bytes], int], object]) -> int:
    """The exit code of `redeliver --dead` at a terminal, where `react` answers the prompt."""
    person, terminal = os.openpty()
    command = [sys.executable, "-m", "waitd", "redeliver", "--dead", "--url", url]
    process = subprocess.Popen(command, stdin=terminal, stderr=terminal, stdout=terminal)
    try:
        output = b""
        while b"[y/N]" not in output:
            assert select.select([person], [], [], 30)[0], output
            output += os.read(person, 1000)
        react(process, person)
        return process.wait(timeout=30)
    finally:
        process.kill()
        process.wait()
        os.close(person)
        os.close(terminal)


@pytest.mark.slow
def test_dead_deliveries_are_queued_again_once(
    waitd: Run, serve: Serve, bind: str, jobs: str, unused_url: str, tmp_path: Path
) -> None:
    with serve(tmp_path, bind, WAITD_DELIVERY_RETRY_DELAYS="[0]") as (url, _):
        text = "\n".join(body(jobs, unused_url, str(n)) for n in range(3))
        ids = waitd("submit", "-", "--wait", "--url", url, input=text).stdout.split("\n")[:3]
        ids = [line.split()[0] for line in ids]
        limit = time.monotonic() + 90
        while any(states(waitd, url, wait_id) != ["dead"] for wait_id in ids):
            assert time.monotonic() < limit
        assert "Dead deliveries: 1;" in waitd("show", ids[0], "--url", url).stdout

        def redeliver(*arguments: str) -> subprocess.CompletedProcess[str]:
            return waitd("redeliver", "--dead", *arguments, "--url", url)

        assert redeliver("--sink", "kafka", "--yes").stdout == "nothing to deliver again\n"
        assert_fails(redeliver(), 2, "--yes")
        assert exit_code_at_prompt(url, lambda process, _: process.send_signal(signal.SIGINT)) == 130
        assert exit_code_at_prompt(url, lambda _, person: os.write(person, b"n\n")) == 1
        assert all(len(states(waitd, url, wait_id)) == 1 for wait_id in ids)
        done = redeliver("--sink", "webhook", "--yes")
        assert (done.returncode, done.stdout) == (0, "3 dead deliveries queued again\n")
        assert all(len(states(waitd, url, wait_id)) == 2 for wait_id in ids)


@pytest.mark.parametrize(
    "arguments", [(), ("some-id", "--dead"), ("some-id", "--yes"), ("some-id", "--sink", "webhook")]
)
def test_redeliver_takes_either_ids_or_dead(waitd: Run, unused_url: str, arguments: tuple[str, ...]) -> None:
    assert_fails(waitd("redeliver", *arguments, "--url", unused_url), 2)


def test_no_dead_delivery_is_not_an_error(waitd: Run, serve: Serve, bind: str, tmp_path: Path) -> None:
    with serve(tmp_path, bind) as (url, _):
        done = waitd("redeliver", "--dead", "--json", "--url", url)
        assert (done.returncode, json.loads(done.stdout)) == (0, {"redelivered": 0})
