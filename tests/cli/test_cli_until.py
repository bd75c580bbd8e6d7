import json
import re
import signal
import subprocess
import sys

import pytest
from cli_process import Run, assert_fails

CONDITIONS = ("--success-when", "body.status == 'SUCCEEDED'", "--failure-when", "body.status == 'FAILED'")
FAST = ("--poke-interval", "0.1", "--request-timeout", "0.5")


@pytest.fixture
def until(waitd: Run) -> Run:
    return lambda *arguments, **options: waitd("until", "http", *arguments, **options)


@pytest.mark.parametrize(
    ("job", "timeout", "code", "state"),
    [
        ("succeed/0.3", "20", 0, "success"),
        ("unavailable/0", "20", 0, "success"),
        ("throttled/0", "20", 0, "success"),
        ("hangs/0.3", "20", 0, "success"),
        ("resets/0", "20", 0, "success"),
        ("truncates/0", "20", 0, "success"),
        ("slow/0", "20", 0, "success"),
        ("fail/0.3", "20", 1, "failed"),
        ("forbidden/0", "20", 1, "failed"),
        ("endless/0", "0.5", 124, "timeout"),
        ("dead/0", "0.5", 124, "timeout"),
    ],
)
def test_the_exit_code_is_the_outcome(
    until: Run, jobs: str, job: str, timeout: str, code: int, state: str
) -> None:
    done = until(f"{jobs}/{job}/until", *CONDITIONS, *FAST, "--timeout", timeout, "--json")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (code, state), done.stderr


def test_an_unreachable_target_is_poked_until_the_timeout(until: Run, unused_url: str) -> None:
    assert_fails(until(unused_url, *FAST, "--timeout", "0.5"), 124, "unreachable")


def test_only_the_result_is_on_standard_output(until: Run, jobs: str) -> None:
    done = until(f"{jobs}/succeed/0/result", *CONDITIONS, "--result", "body.job")
    assert (done.returncode, done.stdout) == (0, '"result"\n')
    assert "success" in done.stderr


def test_a_result_is_printed_once_until_it_changes(until: Run, jobs: str) -> None:
    done = until(f"{jobs}/endless/0/results", *CONDITIONS, *FAST, "--timeout", "1")
    assert done.stderr.count("pending ·") == 1 + len(re.findall("(once|times) pending", done.stderr))


def test_the_results_before_a_failure_are_counted(until: Run, jobs: str) -> None:
    done = until(f"{jobs}/fail/0.5/counted", *CONDITIONS, *FAST, "--timeout", "20")
    assert_fails(done, 1)
    assert re.search(r"^  (once|[1-9][0-9]* times) pending · ", done.stderr, re.MULTILINE), done.stderr
    assert "  once failure · " in done.stderr


def test_a_404_means_not_yet_unless_another_status_is_allowed(until: Run, jobs: str) -> None:
    done = until(f"{jobs}/absent/0.4/allowed", *FAST, "--timeout", "20", "--json")
    assert (done.returncode, json.loads(done.stdout)["state"]) == (0, "success")
    assert (
        until(f"{jobs}/absent/60/refused", *FAST, "--timeout", "20", "--allow-status", "409").returncode == 1
    )


def test_silent_fail_pokes_a_refusal_again(until: Run, jobs: str) -> None:
    assert until(f"{jobs}/forbidden/0/silent", *FAST, "--timeout", "0.5", "--silent-fail").returncode == 124


def test_a_connection_has_the_host_and_the_argument_the_path(until: Run, jobs: str) -> None:
    host = jobs.removeprefix("http://").removesuffix("/jobs")
    done = until(
        "/jobs/succeed/0/conn", *CONDITIONS, "--http-conn-id", "batch", AIRFLOW_CONN_BATCH=f"http://{host}"
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("http://127.0.0.1:1/", "--success-when", "body.status =="), "--success-when"),
        (("http://127.0.0.1:1/", "--success-when", "size(text)"), "--success-when"),
        (("http://127.0.0.1:1/", "--poke-interval", "0.001"), "--poke-interval"),
        (("http://127.0.0.1:1/", "--timeout", "-1"), "--timeout"),
        (("http://127.0.0.1:1/", "--timeout", "1e300"), "--timeout"),
        (("http://127.0.0.1:1/", "--header", "nonsense"), "--header"),
        (("http://127.0.0.1:1/", "--header", "Authorization: x"), "--header"),
        (("http://user:secret@127.0.0.1:1/",), "URL"),
        (("ftp://127.0.0.1:1/",), "URL"),
    ],
)
def test_invalid_options_are_named_before_anything_is_poked(
    until: Run, arguments: tuple[str, ...], message: str
) -> None:
    done = until(*arguments)
    assert_fails(done, 2, message)
    assert "secret@" not in done.stderr


def test_ctrl_c_ends_it_with_130_and_no_traceback(jobs: str) -> None:
    command = [sys.executable, "-m", "waitd", "until", "http", f"{jobs}/endless/0/ctrl-c", *CONDITIONS, *FAST]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as running:
        assert running.stderr is not None
        assert "pending" in running.stderr.readline()
        running.send_signal(signal.SIGINT)
        rest = running.stderr.read()
        assert running.wait(timeout=30) == 130
    assert "Traceback" not in rest
