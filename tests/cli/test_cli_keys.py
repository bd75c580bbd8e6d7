"""`waitd keys` against a daemon that asks who calls, from its first key on."""

import json
from pathlib import Path

import pytest
from cli_process import Run, Serve


def made_offline(waitd: Run, role: str = "admin", *more: str) -> dict[str, str]:
    done = waitd("keys", "create", "--role", role, "--offline", "--json", *more)
    assert done.returncode == 0, done.stderr
    made: dict[str, str] = json.loads(done.stdout)
    return made


def test_from_the_first_key_to_a_revoked_one(waitd: Run, serve: Serve, bind: str, tmp_path: Path) -> None:
    first = made_offline(waitd)
    file = tmp_path / "api-keys"
    file.write_text(f"# the first\n{first['line']}\n")
    assert first["key"] not in file.read_text()
    with serve(tmp_path / "state", bind, WAITD_API_KEYS_FILE=str(file)) as (url, _):
        stranger = waitd("list", "--url", url)
        assert stranger.returncode == 1
        assert "WAITD_API_KEY" in stranger.stderr
        admin = {"WAITD_URL": url, "WAITD_API_KEY": first["key"]}
        made = json.loads(waitd("keys", "create", "--role", "viewer", "--json", **admin).stdout)
        viewer = {"WAITD_URL": url, "WAITD_API_KEY": made["key"]}
        assert waitd("list", **viewer).returncode == 0
        refused = waitd("keys", "list", **viewer)
        assert (refused.returncode, "admin" in refused.stderr) == (1, True)
        listed = json.loads(waitd("keys", "list", "--json", **admin).stdout)
        assert [(key["id"], key["state"]) for key in listed] == [
            (made["id"], "active"),
            (first["id"], "active"),
        ]
        assert made["id"] in waitd("keys", "list", **admin).stdout
        assert waitd("keys", "revoke", made["id"], **admin).stdout == f"{made['id']} revoked\n"
        assert waitd("list", **viewer).returncode == 1
        for said in (stranger, refused):
            assert made["key"] not in said.stdout + said.stderr
    log = (tmp_path / "state" / "log").read_text()
    assert "revoke_key" in log
    for key in (first["key"], made["key"]):
        assert key.rpartition("_")[2] not in log


def test_the_key_may_stand_in_a_file(waitd: Run, serve: Serve, bind: str, tmp_path: Path) -> None:
    first = made_offline(waitd, "submitter", "--namespace", "team_a", "--expires-in", "1d")
    assert first["line"].rpartition(" expires=")[0].endswith(" submitter team_a")
    (tmp_path / "api-keys").write_text(first["line"])
    (tmp_path / "key").write_text(first["key"] + "\n")
    settings = {"WAITD_API_KEYS_FILE": str(tmp_path / "api-keys")}
    with serve(tmp_path / "state", bind, **settings) as (url, _):
        assert waitd("--api-key-file", str(tmp_path / "key"), "list", "--url", url).returncode == 0
        assert waitd("list", "--url", url, WAITD_API_KEY_FILE=str(tmp_path / "key")).returncode == 0
        bad = waitd("--api-key-file", str(tmp_path / "nowhere"), "list", "--url", url)
        assert (bad.returncode, "nowhere" in bad.stderr) == (2, True)


def test_people_see_the_key_on_its_own_line(waitd: Run) -> None:
    done = waitd("keys", "create", "--role", "admin", "--offline")
    assert done.stdout.count("\n") == 1
    assert done.stdout.startswith("waitd_")
    assert "_sha256:" in done.stderr
    assert done.stdout.strip() not in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--role", "root"), "viewer, submitter"),
        (("--role", "admin", "--namespace", "a/b"), "namespace"),
        (("--role", "admin", "--expires-in", "soon"), "90d"),
        (("--role", "admin", "--expires-in", "0d"), "90d"),
    ],
)
def test_a_wrong_wish_is_a_usage_error(waitd: Run, arguments: tuple[str, ...], said: str) -> None:
    done = waitd("keys", "create", "--offline", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert said in done.stderr
