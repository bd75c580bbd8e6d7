import json
from pathlib import Path

import pytest
from cli_process import Run, assert_fails


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "waitd.toml"
    path.write_text('capacity = 7\nbind = "127.0.0.1:9000"\ndelivery_retry_delays = [0, 1]\n')
    return path


def test_each_setting_is_shown_with_its_source(waitd: Run, file: Path) -> None:
    done = waitd("config", "check", "--config", str(file), "--json", WAITD_BIND="127.0.0.1:9001")
    settings = json.loads(done.stdout)
    assert done.returncode == 0
    assert settings["capacity"] == {"value": 7, "source": "file"}
    assert settings["bind"] == {"value": "127.0.0.1:9001", "source": "environment"}
    assert settings["log_level"] == {"value": "info", "source": "default"}
    assert settings["delivery_retry_delays"] == {"value": [0.0, 1.0], "source": "file"}


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_no_secret_is_shown(waitd: Run, form: tuple[str, ...]) -> None:
    done = waitd(
        "config",
        "check",
        *form,
        WAITD_WEBHOOK_SECRET="whsec_c2VjcmV0",
        WAITD_DATABASE_URL="postgresql+asyncpg://waitd:hunter2@db/waitd",
    )
    assert done.returncode == 0
    assert "***" in done.stdout
    assert "c2VjcmV0" not in done.stdout + done.stderr
    assert "hunter2" not in done.stdout + done.stderr


@pytest.mark.parametrize(
    "command", [("config", "check"), ("serve",), ("until", "http", "http://127.0.0.1:1/")]
)
def test_an_invalid_setting_is_named_and_ends_every_command_with_2(
    waitd: Run, command: tuple[str, ...]
) -> None:
    assert_fails(
        waitd(*command, WAITD_BIND="nonsense", WAITD_CAPACITY="-1"),
        2,
        "bind (WAITD_BIND): must be HOST:PORT",
        "capacity (WAITD_CAPACITY)",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("capacty = 7", "capacty"),
        ("capacity = ", "cannot read the settings"),
        ("capacity = 'x'", "WAITD_CAPACITY"),
    ],
)
def test_the_mistake_in_a_settings_file_is_named(waitd: Run, tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "waitd.toml").write_text(text)
    assert_fails(waitd("config", "check", "--config", str(tmp_path / "waitd.toml")), 2, message)


def test_a_missing_settings_file_is_named(waitd: Run) -> None:
    assert_fails(waitd("serve", "--config", "/nowhere/waitd.toml"), 2, "/nowhere/waitd.toml")


def test_a_misspelt_variable_is_refused_with_a_suggestion(waitd: Run) -> None:
    done = waitd("config", "check", WAITD_CAPACTIY="7", WAITD_URL="http://127.0.0.1:8795")
    assert done.returncode == 2
    assert "WAITD_CAPACTIY is not a setting; did you mean WAITD_CAPACITY?" in done.stderr
    assert "WAITD_URL" not in done.stderr


def test_serve_refuses_the_old_name_of_a_setting_and_names_the_new_one(waitd: Run) -> None:
    assert_fails(
        waitd("serve", WAITD_LADDER="[0, 1]"), 2, "  WAITD_LADDER is now WAITD_DELIVERY_RETRY_DELAYS"
    )


def test_an_invalid_secret_is_not_quoted(waitd: Run) -> None:
    done = waitd("config", "check", WAITD_DELIVERY_RETRY_DELAYS="[hunter2", WAITD_WEBHOOK_SECRET="hunter3")
    assert_fails(done, 2)
    assert "hunter3" not in done.stderr


@pytest.mark.parametrize(("text", "why"), [(None, "FileNotFoundError"), ("a = 'http://h'\nb = ", "line 2")])
def test_a_connections_file_that_cannot_be_read_is_an_error_at_once(
    waitd: Run, tmp_path: Path, text: str | None, why: str
) -> None:
    file = tmp_path / "connections.toml"
    if text is not None:
        file.write_text(text)
    settings = {"WAITD_CONNECTIONS_FILE": str(file), "WAITD_STATE_DIR": str(tmp_path)}
    for command, code in ((("config", "check"), 2), (("serve", "--bind", "127.0.0.1:0"), 1)):
        done = waitd(*command, **settings)
        assert done.returncode == code, done
        assert str(file) in done.stdout + done.stderr
        assert why in done.stdout + done.stderr


def test_a_broken_entry_of_the_connections_file_is_named(waitd: Run, tmp_path: Path) -> None:
    file = tmp_path / "connections.toml"
    file.write_text("fine = 'http://h'\nbroken = 'http://planted@planted@h:port'\nnumber = 7\n")
    done = waitd("config", "check", WAITD_CONNECTIONS_FILE=str(file), WAITD_STATE_DIR=str(tmp_path))
    assert done.returncode == 2
    output = done.stdout + done.stderr
    assert "broken in" in output
    assert "number in" in output
    assert "fine in" not in output
    assert "planted" not in output
