import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from threading import Timer
from typing import Any

import pytest
from cli_process import Run, Serve, assert_fails


def body(url: str, **fields: Any) -> str:
    conditions = {"success_when": "body.status == 'SUCCEEDED'", "failure_when": "body.status == 'FAILED'"}
    return json.dumps(
        {"kind": "http", "params": {"endpoint": url, **conditions}, "poke_interval": 0.2, **fields}
    )


@contextmanager
def watching(url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A process of `waitd watch` that is connected to the daemon."""
    command = [sys.executable, "-m", "waitd", "watch", "--url", url, *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    ) as watch:
        timeout = Timer(60, watch.kill)  # reading then returns
        timeout.start()
        try:
            assert read_message(watch) == f"Watching {url}\n"
            yield watch
        finally:
            timeout.cancel()
            watch.kill()


def read_message(watch: subprocess.Popen[str]) -> str:
    assert watch.stderr is not None
    return watch.stderr.readline()


def read_outcome(watch: subprocess.Popen[str]) -> str:
    assert watch.stdout is not None
    return watch.stdout.readline()


def test_outcomes_are_printed_as_they_happen(waitd: Run, daemon: str, jobs: str) -> None:
    with watching(daemon) as watch:
        text = body(f"{jobs}/succeed/0/w", labels={"dag_id": "orders"})
        wait_id = waitd("submit", "-", "--url", daemon, input=text).stdout.strip()
        line = read_outcome(watch)
    for word in (wait_id, "success", "http after", "1 poke", "dag_id=orders"):
        assert word in line
    assert "\x1b" not in line


def test_json_prints_the_events_that_match_the_filter(waitd: Run, daemon: str, jobs: str) -> None:
    filters = ("--state", "failed", "--label", "dag_id=mine", "--kind", "http", "--json")
    with watching(daemon, *filters) as watch:
        waits = [
            body(f"{jobs}/{end}/0/x", labels={"dag_id": dag})
            for end, dag in (("succeed", "mine"), ("fail", "other"), ("fail", "mine"))
        ]
        ids = waitd("submit", "-", "--url", daemon, input="\n".join(waits)).stdout.split()
        event = json.loads(read_outcome(watch))
        assert (event["id"], event["type"], event["specversion"]) == (ids[2], "waitd.wait.failed", "1.0")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=30) == 130
        assert read_message(watch) == ""


@pytest.mark.slow
def test_watching_resumes_after_a_kill_without_gaps_or_duplicates(
    waitd: Run, serve: Serve, bind: str, jobs: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        with serve(tmp_path, bind) as (url, daemon):
            watch = stack.enter_context(watching(url, "--json"))
            waits = [body(f"{jobs}/succeed/{seconds}/killed") for seconds in (0, 0, 2, 2)]
            ids = waitd("submit", "-", "--url", url, input="\n".join(waits)).stdout.split()
            assert {json.loads(read_outcome(watch))["id"] for _ in range(2)} == set(ids[:2])
            watch.send_signal(signal.SIGSTOP)  # so that the waits end before it reconnects
            daemon.kill()
        with serve(tmp_path, bind):
            for wait_id in ids[2:]:
                assert waitd("watch", wait_id, "--url", url).returncode == 0
            watch.send_signal(signal.SIGCONT)
            assert read_message(watch) == "The daemon does not answer; trying again\n"
            assert {json.loads(read_outcome(watch))["id"] for _ in range(2)} == set(ids[2:])
            assert read_message(watch) == f"Watching {url}\n"


@pytest.mark.slow
def test_missing_outcomes_are_reported(
    waitd: Run, serve: Serve, bind: str, jobs: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        with serve(tmp_path / "one", bind) as (url, daemon):
            watch = stack.enter_context(watching(url))
            waitd("submit", "-", "--wait", "--url", url, input=body(f"{jobs}/succeed/0/gone"))
            assert "success" in read_outcome(watch)
            daemon.kill()
        assert "does not answer" in read_message(watch)
        with serve(tmp_path / "two", bind):  # another database, without these events
            assert "outcomes are missing" in read_message(watch)
            assert read_message(watch) == f"Watching {url}\n"


def test_watching_one_wait_exits_with_the_code_of_its_outcome(waitd: Run, daemon: str, jobs: str) -> None:
    for job, code, state in (("succeed/1", 0, "success"), ("fail/0", 1, "failed")):
        wait_id = waitd("submit", "-", "--url", daemon, input=body(f"{jobs}/{job}/one")).stdout.strip()
        done = waitd("watch", wait_id, "--url", daemon)
        assert done.returncode == code
        assert f"{wait_id} · {state}" in done.stdout
        again = waitd("watch", wait_id, "--url", daemon, "--json")
        assert (again.returncode, json.loads(again.stdout)["state"]) == (code, state)


def test_the_result_of_one_wait_is_printed_when_it_changes(waitd: Run, daemon: str, jobs: str) -> None:
    text = body(f"{jobs}/endless/0/results")
    wait_id = waitd("submit", "-", "--url", daemon, input=text).stdout.strip()
    command = [sys.executable, "-m", "waitd", "watch", wait_id, "--url", daemon]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        assert read_message(watch).startswith("pending · http_202")
        waitd("cancel", wait_id, "--url", daemon)
        assert watch.wait(timeout=30) == 1
        assert read_outcome(watch).startswith(f"{wait_id} · cancelled")


def test_an_unreachable_daemon_ends_it_at_once(waitd: Run, unused_url: str) -> None:
    assert waitd("watch", "--url", unused_url).returncode == 69


def test_filters_do_not_go_with_an_id(waitd: Run, daemon: str) -> None:
    assert_fails(waitd("watch", "some-id", "--state", "failed", "--url", daemon), 2)
