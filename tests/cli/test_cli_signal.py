"""`waitd signal`, and signals and submitted jobs in `waitd show` and `waitd export`."""

import json

import pytest
from cli_process import Run, assert_fails


def submit(waitd: Run, daemon: str, body: object) -> str:
    done = waitd("submit", "-", "--url", daemon, input=json.dumps(body))
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_signal_ends_the_wait_that_listens_for_it(waitd: Run, daemon: str) -> None:
    body = {"kind": "signal", "params": {"key": "cli/go", "success_when": "payload.ok"}}
    wait_id = submit(waitd, daemon, body)
    shown = waitd("show", wait_id, "--url", daemon).stdout
    assert "a signal arrives for cli/go and payload.ok" in " ".join(shown.split())
    done = waitd("signal", "cli/go", "--payload", '{"ok": true}', "--url", daemon)
    assert (done.returncode, done.stdout) == (0, "cli/go is stored; 1 wait listening now\n")
    ended = json.loads(waitd("watch", wait_id, "--json", "--url", daemon).stdout.splitlines()[-1])
    assert ended["outcome"]["payload"] == {"ok": True}


@pytest.mark.parametrize("payload", ["{", "nonsense"])
def test_an_invalid_payload_is_a_usage_error(waitd: Run, unused_url: str, payload: str) -> None:
    assert_fails(waitd("signal", "k", "--payload", payload, "--url", unused_url), 2, "--payload is not JSON")


def test_show_and_export_contain_the_jobs_handle(waitd: Run, daemon: str, jobs: str, unused_url: str) -> None:
    body = {
        "kind": "http",
        "params": {"endpoint": f"{jobs}/endless/3600/{{handle}}", "success_when": "false"},
        "submit": {
            "endpoint": f"{unused_url}/jobs",
            "handle": "body.id",
            "resume": {"state": "submitted", "handle": "x1"},
        },
        "wake_on": "cli/hint",
    }
    wait_id = submit(waitd, daemon, body)
    assert "Its job is submitted: x1." in " ".join(waitd("show", wait_id, "--url", daemon).stdout.split())
    lines = map(json.loads, waitd("export", "--url", daemon).stdout.splitlines())
    [line] = [line for line in lines if line["id"] == wait_id]
    exported = line["wait"]["submit"]
    assert exported["resume"] == {"state": "submitted", "handle": "x1", "attempts": 0}
    assert (exported["idempotency_key"], line["wait"]["wake_on"]) == (wait_id, "cli/hint")
    waitd("cancel", wait_id, "--url", daemon)
