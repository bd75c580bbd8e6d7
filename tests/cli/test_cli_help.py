import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version

import pytest

Run = Callable[..., subprocess.CompletedProcess[str]]

COMMANDS = [
    ("serve",), ("submit",), ("list",), ("show",), ("cancel",), ("redeliver",), ("until", "http"), ("demo",), ("config", "check"),
]  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help_with_an_example_of_itself(waitd: Run, command: tuple[str, ...]) -> None:
    done = waitd(*command, "--help")
    assert done.returncode == 0
    assert f"waitd {' '.join(command)}" in done.stdout.partition("Examples")[2]


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
    [("list",), ("show", "x"), ("cancel", "x"), ("redeliver", "x"), ("submit", "-")],
    ids=lambda a: a[0],
)
def test_a_daemon_that_is_not_there_is_69_and_one_sentence_that_says_what_to_do(
    waitd: Run, nobody: str, arguments: tuple[str, ...]
) -> None:
    done = waitd(*arguments, input="{}", WAITD_URL=nobody)
    assert (done.returncode, done.stdout) == (69, "")
    assert nobody in done.stderr
    assert "waitd serve" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_url_that_is_none_is_wrong_usage(waitd: Run) -> None:
    done = waitd("list", "--url", "127.0.0.1:8795")
    assert done.returncode == 2
    assert "is no URL" in done.stderr


def test_a_server_that_is_no_daemon_is_said_to_be_none(waitd: Run, jobs: str) -> None:
    for command in (("list",), ("show", "a")):
        done = waitd(*command, "--url", f"{jobs}/succeed/0/x")
        assert done.returncode == 1
        assert "as a waitd daemon does" in done.stderr
