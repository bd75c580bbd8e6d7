"""`waitd connections check` with a daemon that has connections in its environment and in a file."""

import json
from pathlib import Path

from cli_process import Run, Serve, assert_fails, json_of


def test_a_connection_is_described_tried_and_refused(
    waitd: Run, serve: Serve, bind: str, jobs: str, tmp_path: Path
) -> None:
    base, _, path = jobs.rpartition("/")
    good = {"conn_type": "http", "host": base, "login": "planted-login", "password": "planted-password"}
    good["extra"] = {"apikey": "planted-key", "stream": True, "max_redirects": 3}  # type: ignore[assignment]
    bad = {"conn_type": "http", "host": "https://h", "extra": {"verify": "/missing/ca.crt"}}
    file = tmp_path / "connections.yaml"
    file.write_text(
        json.dumps({"bad/tls": bad, "aws": "aws://?role_arn=arn&assume_role_method=planted-method"})
    )
    settings = {"AIRFLOW_CONN_GOOD": json.dumps(good), "WAITD_CONNECTIONS_FILE": str(file)}
    with serve(tmp_path / "state", bind, **settings) as (url, _):
        there = {"WAITD_URL": url}
        shown = waitd("connections", "check", "good", "--try", f"/{path}/unknown", **there)
        assert shown.returncode == 1, shown  # no such job
        assert "tried: HTTP 400" in shown.stdout
        assert "***" in shown.stdout
        view = json_of(waitd("connections", "check", "good", "--json", **there))
        assert (view["resolver"], view["problem"], view["tried"]) == ("environment", None, None)
        assert view["url"] == base
        uses = {extra["name"]: extra["use"] for extra in view["extras"]}
        assert uses == {"apikey": "header", "stream": "ignored", "max_redirects": "read"}
        refused = waitd("connections", "check", "bad/tls", "--json", **there)
        assert refused.returncode == 1
        assert json.loads(refused.stdout)["resolver"] == "file"
        assert "'/missing/ca.crt'" in json.loads(refused.stdout)["problem"]
        role = waitd("connections", "check", "aws", **there)
        assert "assume_role_method" in role.stdout
        assert_fails(waitd("connections", "check", "unknown", **there), 1, "there is no connection")
        for done in (shown, refused, role):
            assert "planted" not in done.stdout + done.stderr
        assert "planted" not in json.dumps(view)
