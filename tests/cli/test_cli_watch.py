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
from cli_process import Run, Serve


def body(url: str, **more: Any) -> str:
    conditions = {"success_when": "body.status == 'SUCCEEDED'", "failure_when": "body.status == 'FAILED'"}
    return json.dumps(
        {"kind": "http", "params": {"endpoint": url, **conditions}, "poke_interval": 0.2, **more}
    )


@contextmanager
def watching(url: str, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """`waitd watch`, once it follows."""
    command = [sys.executable, "-m", "waitd", "watch", "--url", url, *arguments]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "NO_COLOR": "1"},
    ) as watch:
        patience = Timer(60, watch.kill)  # then what is read ends
        patience.start()
        try:
            assert said(watch) == f"Watching {url}\n"
            yield watch
        finally:
            patience.cancel()
            watch.kill()


def said(watch: subprocess.Popen[str]) -> str:
    assert watch.stderr is not None
    return watch.stderr.readline()


def shown(watch: subprocess.Popen[str]) -> str:
    assert watch.stdout is not None
    return watch.stdout.readline()


def test_outcomes_are_shown_a_line_each_as_they_come(waitd: Run, daemon: str, jobs: str) -> None:
    with watching(daemon) as watch:
        text = body(f"{jobs}/succeed/0/w", labels={"dag_id": "orders"})
        wait_id = waitd("submit", "-", "--url", daemon, input=text).stdout.strip()
        line = shown(watch)
    for word in (wait_id, "success", "http after", "1 poke", "dag_id=orders"):
        assert word in line
    assert "\x1b" not in line


def test_in_json_each_line_is_the_event_and_only_what_was_asked_for_is_shown(
    waitd: Run, daemon: str, jobs: str
) -> None:
    choice = ("--state", "failed", "--label", "dag_id=mine", "--kind", "http", "--json")
    with watching(daemon, *choice) as watch:
        waits = [
            body(f"{jobs}/{end}/0/x", labels={"dag_id": dag})
            for end, dag in (("succeed", "mine"), ("fail", "other"), ("fail", "mine"))
        ]
        ids = waitd("submit", "-", "--url", daemon, input="\n".join(waits)).stdout.split()
        event = json.loads(shown(watch))
        assert (event["id"], event["type"], event["specversion"]) == (ids[2], "waitd.wait.failed", "1.0")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=30) == 130
        assert said(watch) == ""


@pytest.mark.slow
def test_a_daemon_that_was_killed_is_asked_again_and_nothing_is_missed_or_shown_twice(
    waitd: Run, serve: Serve, bind: str, jobs: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        with serve(tmp_path, bind) as (url, daemon):
            watch = stack.enter_context(watching(url, "--json"))
            waits = [body(f"{jobs}/succeed/{seconds}/killed") for seconds in (0, 0, 2, 2)]
            ids = waitd("submit", "-", "--url", url, input="\n".join(waits)).stdout.split()
            assert {json.loads(shown(watch))["id"] for _ in range(2)} == set(ids[:2])
            watch.send_signal(signal.SIGSTOP)  # so that everything has ended before it comes back
            daemon.kill()
        with serve(tmp_path, bind):
            for wait_id in ids[2:]:
                assert waitd("watch", wait_id, "--url", url).returncode == 0
            watch.send_signal(signal.SIGCONT)
            assert said(watch) == "The daemon does not answer; trying again\n"
            assert {json.loads(shown(watch))["id"] for _ in range(2)} == set(ids[2:])
            assert said(watch) == f"Watching {url}\n"


@pytest.mark.slow
def test_outcomes_that_are_gone_when_it_comes_back_are_said_to_be_missing(
    waitd: Run, serve: Serve, bind: str, jobs: str, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        with serve(tmp_path / "one", bind) as (url, daemon):
            watch = stack.enter_context(watching(url))
            waitd("submit", "-", "--wait", "--url", url, input=body(f"{jobs}/succeed/0/gone"))
            assert "success" in shown(watch)
            daemon.kill()
        assert "does not answer" in said(watch)
        with serve(tmp_path / "two", bind):  # another database, which knows nothing of it
            assert "outcomes are missing" in said(watch)
            assert said(watch) == f"Watching {url}\n"


def test_one_wait_is_watched_until_it_ends_and_its_outcome_is_the_exit_code(
    waitd: Run, daemon: str, jobs: str
) -> None:
    for job, code, state in (("succeed/1", 0, "success"), ("fail/0", 1, "failed")):
        wait_id = waitd("submit", "-", "--url", daemon, input=body(f"{jobs}/{job}/one")).stdout.strip()
        done = waitd("watch", wait_id, "--url", daemon)
        assert done.returncode == code
        assert f"{wait_id} · {state}" in done.stdout
        again = waitd("watch", wait_id, "--url", daemon, "--json")
        assert (again.returncode, json.loads(again.stdout)["state"]) == (code, state)


def test_what_one_wait_sees_is_said_when_it_changes(waitd: Run, daemon: str, jobs: str) -> None:
    text = body(f"{jobs}/endless/0/said")
    wait_id = waitd("submit", "-", "--url", daemon, input=text).stdout.strip()
    command = [sys.executable, "-m", "waitd", "watch", wait_id, "--url", daemon]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as watch:
        assert said(watch).startswith("pending · http_202")
        waitd("cancel", wait_id, "--url", daemon)
        assert watch.wait(timeout=30) == 1
        assert shown(watch).startswith(f"{wait_id} · cancelled")


def test_a_daemon_that_is_not_there_ends_it_at_once(waitd: Run, unused_url: str) -> None:
    assert waitd("watch", "--url", unused_url).returncode == 69


def test_choices_do_not_go_with_a_named_wait(waitd: Run, daemon: str) -> None:
    done = waitd("watch", "some-id", "--state", "failed", "--url", daemon)
    assert (done.returncode, done.stdout) == (2, "")
