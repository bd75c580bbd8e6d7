"""`waitd keys` with a daemon that requires authentication."""

import json
from pathlib import Path

import pytest
from cli_process import Run, Serve, assert_fails, json_of


def create_offline(waitd: Run, role: str = "admin", *more: str) -> dict[str, str]:
    created: dict[str, str] = json_of(waitd("keys", "create", "--role", role, "--offline", "--json", *more))
    return created


def test_a_key_is_created_used_listed_and_revoked(
    waitd: Run, serve: Serve, bind: str, tmp_path: Path
) -> None:
    first = create_offline(waitd)
    file = tmp_path / "api-keys"
    file.write_text(f"# the first\n{first['line']}\n")
    assert first["key"] not in file.read_text()
    with serve(tmp_path / "state", bind, WAITD_API_KEYS_FILE=str(file)) as (url, _):
        unauthenticated = waitd("list", "--url", url)
        assert_fails(unauthenticated, 1, "WAITD_API_KEY")
        admin = {"WAITD_URL": url, "WAITD_API_KEY": first["key"]}
        created = json.loads(waitd("keys", "create", "--role", "viewer", "--json", **admin).stdout)
        viewer = {"WAITD_URL": url, "WAITD_API_KEY": created["key"]}
        assert waitd("list", **viewer).returncode == 0
        refused = waitd("keys", "list", **viewer)
        assert (refused.returncode, "admin" in refused.stderr) == (1, True)
        listed = json.loads(waitd("keys", "list", "--json", **admin).stdout)
        assert [(key["id"], key["state"]) for key in listed] == [
            (created["id"], "active"),
            (first["id"], "active"),
        ]
        assert created["id"] in waitd("keys", "list", **admin).stdout
        assert waitd("keys", "revoke", created["id"], **admin).stdout == f"{created['id']} revoked\n"
        assert waitd("list", **viewer).returncode == 1
        for done in (unauthenticated, refused):
            assert created["key"] not in done.stdout + done.stderr
    log = (tmp_path / "state" / "log").read_text()
    assert "revoke_key" in log
    for key in (first["key"], created["key"]):
        assert key.rpartition("_")[2] not in log


def test_a_key_can_be_read_from_a_file(waitd: Run, serve: Serve, bind: str, tmp_path: Path) -> None:
    first = create_offline(waitd, "submitter", "--namespace", "team_a", "--expires-in", "1d")
    assert first["line"].rpartition(" expires=")[0].endswith(" submitter team_a")
    (tmp_path / "api-keys").write_text(first["line"])
    (tmp_path / "key").write_text(first["key"] + "\n")
    settings = {"WAITD_API_KEYS_FILE": str(tmp_path / "api-keys")}
    with serve(tmp_path / "state", bind, **settings) as (url, _):
        assert waitd("--api-key-file", str(tmp_path / "key"), "list", "--url", url).returncode == 0
        assert waitd("list", "--url", url, WAITD_API_KEY_FILE=str(tmp_path / "key")).returncode == 0
        bad = waitd("--api-key-file", str(tmp_path / "nowhere"), "list", "--url", url)
        assert (bad.returncode, "nowhere" in bad.stderr) == (2, True)


def test_the_key_is_the_only_line_on_standard_output(waitd: Run) -> None:
    done = waitd("keys", "create", "--role", "admin", "--offline")
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("waitd_")
    assert "_sha256:" in done.stderr
    assert done.stdout.strip() not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--role", "root"), "viewer, submitter"),
        (("--role", "admin", "--namespace", "a/b"), "namespace"),
        (("--role", "admin", "--expires-in", "soon"), "90d"),
        (("--role", "admin", "--expires-in", "0d"), "90d"),
        (("--role", "admin", "--expires-in", "99999999d"), "a hundred years at most"),
    ],
)
def test_invalid_arguments_of_create_are_usage_errors(
    waitd: Run, arguments: tuple[str, ...], message: str
) -> None:
    assert_fails(waitd("keys", "create", "--offline", *arguments), 2, message)
