import json
import time
from pathlib import Path
from typing import Any

import pytest
from cli_process import Run, Serve, assert_fails

from waitd.cli.export_import import wait_from_line
from waitd.core.waits.event import rfc3339


def waits(jobs: str) -> str:
    def body(job: str, **fields: Any) -> str:
        params = {"endpoint": f"{jobs}/{job}", "success_when": "body.status == 'SUCCEEDED'"}
        return json.dumps({"kind": "http", "params": params, "poke_interval": 0.5, **fields})

    unchanged = {"bucket_name": "bucket", "prefix": "jobs/endless/0/q/"}
    return "\n".join(
        [
            body(
                "endless/0/a", timeout=5000, labels={"dag_id": "orders"}, soft_fail=True, supersede_key="one"
            ),
            body("endless/0/b", timeout=6000, exponential_backoff=True, max_wait=60.0, silent_fail=True),
            body("succeed/0/c"),
            json.dumps({"kind": "s3_keys_unchanged", "params": unchanged}),
        ]
    )


def waiting_waits(waitd: Run, url: str) -> dict[str, dict[str, Any]]:
    """The waiting waits of a daemon, by their params."""
    lines = waitd("list", "--state", "waiting", "--url", url, "--json").stdout.splitlines()
    return {json.dumps(wait["params"]): wait for wait in map(json.loads, lines)}


#: Fields that may differ after an import.
CHANGING_FIELDS = {
    "cost",
    "id",
    "timeout",
    "created_at",
    "next_poke_at",
    "waiting_on",
    "last_poke_at",
    "pokes",
    "last_verdict",
}


@pytest.mark.slow
@pytest.mark.parametrize("offline", [False, True])
def test_waits_are_imported_once_with_their_deadlines(
    waitd: Run,
    serve: Serve,
    bind: str,
    other_bind: str,
    jobs: str,
    s3: dict[str, str],
    tmp_path: Path,
    offline: bool,
) -> None:
    with serve(tmp_path / "from", bind, **s3) as (source, daemon):
        ids = waitd("submit", "-", "--url", source, input=waits(jobs)).stdout.split()
        waitd("watch", ids[2], "--url", source)
        before = waiting_waits(waitd, source)
        if offline:
            daemon.kill()
            daemon.wait()
            exported = waitd("export", "--offline", WAITD_STATE_DIR=str(tmp_path / "from"))
        else:
            exported = waitd("export", "--url", source)
        assert exported.returncode == 0, exported.stderr
        assert len(exported.stdout.splitlines()) == len(before) == 3
        assert "3 waits written. Not exported: ids" in exported.stderr
        assert "1 of kind s3_keys_unchanged restart their inactivity_period" in exported.stderr
        if not offline:
            assert_fails(waitd("import", "-", "--url", source, input=exported.stdout), 2, "itself")
    with serve(tmp_path / "to", other_bind, **s3) as (target, _):
        done = waitd("import", "-", "--url", target, input=exported.stdout)
        assert (done.returncode, done.stdout) == (0, "3 waits imported, 0 already there, 0 refused\n")
        after = waiting_waits(waitd, target)
        assert after.keys() == before.keys()
        for params, wait in before.items():
            imported = after[params]
            assert {k: v for k, v in imported.items() if k not in {*CHANGING_FIELDS, "deadline"}} == {
                k: v for k, v in wait.items() if k not in {*CHANGING_FIELDS, "deadline"}
            }
            assert abs(unix_seconds(imported["deadline"]) - unix_seconds(wait["deadline"])) < 2
        again = waitd("import", "-", "--url", target, "--json", input=exported.stdout)
        assert again.returncode == 0
        answers = [json.loads(line) for line in again.stdout.splitlines()]
        assert sorted(answer["from"] for answer in answers) == sorted(w["id"] for w in before.values())
        assert {answer["status"] for answer in answers} == {409}
        assert len(waiting_waits(waitd, target)) == 3


def unix_seconds(time: str) -> float:
    from datetime import datetime

    return datetime.fromisoformat(time).timestamp()


def test_ended_waits_can_be_exported_but_not_imported(
    waitd: Run, daemon: str, other_bind: str, jobs: str, tmp_path: Path
) -> None:
    wait_id = waitd(
        "submit", "-", "--wait", "--url", daemon, input=waits(jobs).splitlines()[2]
    ).stdout.split()[0]
    exported = waitd("export", "--state", "success", "--url", daemon)
    ended = [line for line in exported.stdout.splitlines() if json.loads(line)["id"] == wait_id]
    assert len(ended) == 1
    done = waitd("import", "-", "--url", f"http://{other_bind}", input=ended[0])
    assert (done.returncode, done.stdout) == (1, "0 waits imported, 0 already there, 0 refused\n")
    assert "1 wait that had ended; outcomes cannot be imported" in done.stderr


def test_refused_waits_are_reported_and_the_others_imported(waitd: Run, daemon: str, jobs: str) -> None:
    good, bad = ({**line(jobs, n), **fields} for n, fields in ((1, {}), (2, {"wait": {"kind": "nonsense"}})))
    done = waitd("import", "-", "--url", daemon, input=json.dumps(good) + "\n" + json.dumps(bad))
    assert (done.returncode, done.stdout) == (1, "1 wait imported, 0 already there, 1 refused\n")
    assert "wait 2: " in done.stderr


def line(jobs: str, n: int, **fields: Any) -> dict[str, Any]:
    return {
        "id": f"0197a1f0-8f3c-7d2e-9b51-3f6a2c4d5e6{n}",
        "state": "waiting",
        "deadline": rfc3339(time.time() + 3600),
        "wait": {
            "kind": "http",
            "params": {"endpoint": f"{jobs}/endless/0/{n}"},
            "idempotency_key": f"import-{n}",
        },
        **fields,
    }


@pytest.mark.parametrize(
    "text",
    [
        '{"kind": "http"}',
        '{"id": "a", "state": "waiting", "deadline": "soon", "wait": {}}',
        '{"id": "a", "deadline": 1}',
        '{"id": 7, "state": "waiting", "deadline": "2026-01-01T00:00:00Z", "wait": {}}',
    ],
)
def test_other_input_is_refused_before_anything_is_sent(waitd: Run, unused_url: str, text: str) -> None:
    assert_fails(waitd("import", "-", "--url", unused_url, input=text), 2, "line 1 was not written by")


def test_the_timeout_is_the_time_left_and_a_passed_deadline_leaves_one_poke() -> None:
    line = {"deadline": "1970-01-01T00:10:00.000Z", "wait": {"kind": "http"}}
    assert wait_from_line(line, 400.0) == {"kind": "http", "timeout": 200.0}
    assert 0 < wait_from_line(line, 700.0)["timeout"] < 0.1


def test_an_offline_export_is_refused_while_a_daemon_uses_the_database(
    waitd: Run, serve: Serve, bind: str, tmp_path: Path
) -> None:
    with serve(tmp_path, bind):
        assert_fails(waitd("export", "--offline", WAITD_STATE_DIR=str(tmp_path)), 1, "in use")


def test_config_needs_offline(waitd: Run, tmp_path: Path) -> None:
    assert waitd("export", "--config", str(tmp_path / "x.toml")).returncode == 2
