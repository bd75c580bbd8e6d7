import subprocess
import sys
from importlib.metadata import version

import pytest
from cli_process import Run

from waitd.cli import app
from waitd.cli.console import EXIT_CODE_MEANINGS

COMMANDS = [
    tuple(name.split())
    for name in (
        "serve", "submit", "list", "show", "watch", "cancel", "redeliver", "until http", "until s3", "cost", "cost whatif", "demo", "bench", "export", "import",
        "keys create", "keys list", "keys revoke", "config check", "migrate", "docs", "presets", "presets show", "presets check", "signal", "airflow reconcile",
    )
]  # fmt: skip

#: A daemon answers over its API, and an export is JSON already.
NO_JSON = {("serve",), ("export",)}


def test_no_command_is_left_out_here() -> None:
    found: set[tuple[str, ...]] = set()
    for command in app.registered_commands:
        assert command.callback is not None
        found.add((command.name or command.callback.__name__.replace("_", "-"),))
    for group in app.registered_groups:
        assert group.typer_instance is not None
        found |= {
            (str(group.name), str(command.name or command.callback.__name__))
            for command in group.typer_instance.registered_commands
            if command.callback
        }
        own = group.typer_instance.registered_callback
        if own is not None and own.invoke_without_command is True:
            found.add((str(group.name),))
    assert found == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(waitd: Run, command: tuple[str, ...]) -> None:
    done = waitd(*command, "--help")
    assert done.returncode == 0
    tail = done.stdout.partition("Examples")[2]
    assert f"waitd {' '.join(command)}" in tail
    for code, meaning in EXIT_CODE_MEANINGS.items():
        assert f"{code.value} {meaning}" in " ".join(tail.split())


@pytest.mark.parametrize("command", [command for command in COMMANDS if command not in NO_JSON], ids=" ".join)
def test_every_command_answers_programs_in_json(waitd: Run, command: tuple[str, ...]) -> None:
    assert "--json" in waitd(*command, "--help").stdout


def test_the_help_names_every_command_and_the_exit_codes(waitd: Run) -> None:
    done = waitd("--help")
    assert done.returncode == 0
    assert all(command[0] in done.stdout for command in COMMANDS)
    assert "124" in done.stdout.partition("Exit codes")[2]


def test_the_version_is_that_of_the_package(waitd: Run) -> None:
    done = waitd("--version")
    assert (done.returncode, done.stdout) == (0, f"waitd {version('waitd')}\n")


@pytest.mark.parametrize("arguments", [("nonsense",), ("show",), ("list", "--limit", "0"), ("until", "http")])
def test_wrong_usage_is_exit_code_2_and_said_on_standard_error(
    waitd: Run, arguments: tuple[str, ...]
) -> None:
    done = waitd(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr


def test_help_loads_no_heavy_library() -> None:
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
def test_a_daemon_that_is_not_there_is_69_and_one_sentence_that_says_what_to_do(
    waitd: Run, unused_url: str, arguments: tuple[str, ...]
) -> None:
    done = waitd(*arguments, input="{}", WAITD_URL=unused_url)
    assert (done.returncode, done.stdout) == (69, "")
    assert unused_url in done.stderr
    assert "waitd serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_url_that_is_none_is_wrong_usage(waitd: Run) -> None:
    done = waitd("list", "--url", "127.0.0.1:8795")
    assert done.returncode == 2
    assert "is not the URL" in done.stderr


def test_a_server_that_is_no_daemon_is_said_to_be_none(waitd: Run, jobs: str) -> None:
    for command in (("list",), ("show", "a")):
        done = waitd(*command, "--url", f"{jobs}/succeed/0/x")
        assert done.returncode == 1
        assert "as a waitd daemon does" in done.stderr
