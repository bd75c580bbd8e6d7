import socket
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
from cli_process import Run, assert_fails, json_of

from waitd.cli import app
from waitd.cli.console import EXIT_CODE_MEANINGS

COMMANDS = [
    tuple(name.split())
    for name in (
        "serve", "submit", "list", "show", "watch", "cancel", "redeliver", "until http", "until s3", "check", "cost", "cost whatif", "demo", "bench", "export", "import",
        "keys create", "keys list", "keys revoke", "config check", "connections check", "limits", "migrate", "docs", "presets", "presets show", "presets check", "signal", "airflow reconcile",
    )
]  # fmt: skip

#: `serve` prints no result, and `export` always prints JSON.
WITHOUT_JSON = {("serve",), ("export",)}


def test_the_list_of_commands_is_complete() -> None:
    registered: set[tuple[str, ...]] = set()
    for command in app.registered_commands:
        assert command.callback is not None
        registered.add((command.name or command.callback.__name__.replace("_", "-"),))
    for group in app.registered_groups:
        assert group.typer_instance is not None
        registered |= {
            (str(group.name), str(command.name or command.callback.__name__))
            for command in group.typer_instance.registered_commands
            if command.callback
        }
        own = group.typer_instance.registered_callback
        if own is not None and own.invoke_without_command is True:
            registered.add((str(group.name),))
    assert registered == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_examples_and_exit_codes_and_a_json_option(
    waitd: Run, command: tuple[str, ...]
) -> None:
    done = waitd(*command, "--help")
    assert done.returncode == 0
    usage, _, tail = done.stdout.partition("Examples")
    assert f"waitd {' '.join(command)}" in tail
    for code, meaning in EXIT_CODE_MEANINGS.items():
        assert f"{code.value} {meaning}" in " ".join(tail.split())
    assert ("--json" in usage) is (command not in WITHOUT_JSON)


def test_a_port_in_use_is_a_sentence(waitd: Run, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        done = waitd("serve", "--bind", address, WAITD_STATE_DIR=str(tmp_path))
    assert done.returncode == 1
    assert done.stderr.endswith("listens there: name another address with --bind.\n")


def test_the_help_names_every_command_and_the_exit_codes(waitd: Run) -> None:
    done = waitd("--help")
    assert done.returncode == 0
    assert all(command[0] in done.stdout for command in COMMANDS)
    assert "124" in done.stdout.partition("Exit codes")[2]


def test_the_version_is_that_of_the_package(waitd: Run) -> None:
    done = waitd("--version")
    assert (done.returncode, done.stdout) == (0, f"waitd {version('waitd')}\n")


@pytest.mark.parametrize("arguments", [("nonsense",), ("show",), ("list", "--limit", "0"), ("until", "http")])
def test_invalid_usage_is_exit_code_2_with_a_message_on_standard_error(
    waitd: Run, arguments: tuple[str, ...]
) -> None:
    done = waitd(*arguments)
    assert_fails(done, 2)
    assert done.stderr


def test_help_imports_no_slow_library() -> None:
    heavy = "{'aiohttp', 'sqlalchemy', 'pydantic_settings', 'uvloop', 'cel_expr_python', 'alembic'}"
    code = f"import sys, waitd.cli; sys.exit(' '.join({heavy} & set(sys.modules)) or 0)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "arguments",
    [
        ("list",),
        ("show", "x"),
        ("cancel", "x"),
        ("redeliver", "x"),
        ("submit", "-"),
        ("watch",),
        ("watch", "x"),
        ("export",),
        ("redeliver", "--dead", "--yes"),
    ],
    ids=lambda a: a[0],
)
def test_an_unreachable_daemon_is_69_with_a_message_that_says_what_to_do(
    waitd: Run, unused_url: str, arguments: tuple[str, ...]
) -> None:
    assert_fails(waitd(*arguments, input="{}", WAITD_URL=unused_url), 69, unused_url, "waitd serve")


def test_an_invalid_url_is_a_usage_error(waitd: Run) -> None:
    assert_fails(waitd("list", "--url", "127.0.0.1:8795"), 2, "is not the URL")


def test_a_server_that_is_not_waitd_is_reported(waitd: Run, jobs: str) -> None:
    for command in (("list",), ("show", "a")):
        assert_fails(waitd(*command, "--url", f"{jobs}/succeed/0/x"), 1, "as a waitd daemon does")


def test_global_options_are_taken_before_and_after_the_command(
    waitd: Run, daemon: str, unused_url: str, tmp_path: Path
) -> None:
    assert json_of(waitd("--url", daemon, "--json", "limits", WAITD_URL=unused_url))
    assert_fails(waitd("--url", daemon, "list", "--url", unused_url), 69, unused_url)
    assert_fails(waitd("--url", unused_url, "check", "true", "--wait", "x"), 69, unused_url)
    missing = str(tmp_path / "nowhere")
    assert_fails(waitd("list", "--url", daemon, "--ca-file", missing), 2, missing)
    assert_fails(waitd("show", "x", "--api-key-file", missing, WAITD_URL=daemon), 2, missing)
    for option in (
        "--ca-file",
        "--api-key-file",
    ):  # the environment's does not replace one before the command
        variable = {"WAITD_" + option[2:].upper().replace("-", "_"): str(tmp_path / "other")}
        assert_fails(waitd(option, missing, "list", "--url", daemon, **variable), 2, missing)


def test_the_body_in_the_help_of_submit_is_accepted(waitd: Run, daemon: str) -> None:
    example = waitd("submit", "--help").stdout.partition("A wait")[2].partition("Examples")[0]
    body = example[example.index("{") : example.rindex("}") + 1]
    done = waitd("submit", "-", "--url", daemon, input=body)
    assert done.returncode == 0, done.stderr
    waitd("cancel", done.stdout.strip(), "--url", daemon)
