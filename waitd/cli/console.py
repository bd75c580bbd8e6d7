"""Writes results to standard output, messages to standard error, and ends with an exit code."""

import os
import sys
from collections.abc import Mapping
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NoReturn, TextIO

import typer

from waitd.core.visible_text import visible, visible_json

if TYPE_CHECKING:
    from rich.console import Console

    from waitd.client import RequestRefused

#: The width of tables in a file or a pipe, in columns, unless COLUMNS is set.
FILE_WIDTH = 100
#: That of details, in which no URL may be cut into lines: a search would not find it.
UNCUT_WIDTH = 1000


class ExitCode(IntEnum):
    """The exit codes, the same for every command."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 69  # EX_UNAVAILABLE of sysexits.h
    TIMEOUT = 124  # as timeout(1)
    INTERRUPTED = 130


#: What each exit code means, for `--help` and the documentation.
EXIT_CODE_MEANINGS: Mapping[ExitCode, str] = {
    ExitCode.OK: "done; every wait succeeded",
    ExitCode.FAILED: "a wait failed or was cancelled, or the daemon refused the request",
    ExitCode.USAGE: "wrong usage, input or settings",
    ExitCode.UNREACHABLE: "no daemon answers",
    ExitCode.TIMEOUT: "a wait timed out",
    ExitCode.INTERRUPTED: "interrupted",
}


def stdout_console(file_width: int = FILE_WIDTH) -> "Console":
    """A console on standard output, as wide as the terminal; `file_width` if there is none."""
    return _safe_console(sys.stdout, file_width)


def stderr_console() -> "Console":
    """A console on standard error, for progress and messages to a person."""
    return _safe_console(sys.stderr, FILE_WIDTH)


def _safe_console(file: TextIO, file_width: int) -> "Console":
    from waitd.cli.display.safe_console import SafeConsole

    columns = os.environ.get("COLUMNS", "")
    width = int(columns) if columns.isdecimal() else 0  # 0: not known
    return SafeConsole(file=file, width=None if file.isatty() else width or file_width, highlight=False)


def print_line(text: str) -> None:
    """Prints one line of text on standard output; what a terminal would obey is made visible."""
    sys.stdout.write(visible(text) + "\n")


def print_json(value: Any) -> None:
    """Prints one JSON document on one line of standard output."""
    from waitd import exact_json

    print_json_text(exact_json.dumps(value).decode())


def print_json_text(document: str) -> None:
    """Prints a JSON document that is text already; its escapes keep a terminal from obeying it."""
    sys.stdout.write(visible_json(document) + "\n")


def print_error(message: str) -> None:
    """Prints an error message on standard error."""
    from rich.text import Text

    stderr_console().print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)


def fail(message: str, code: ExitCode = ExitCode.FAILED) -> NoReturn:
    """Prints an error message and ends the command with `code`."""
    print_error(message)
    raise typer.Exit(code)


def describe_refusal(refused: "RequestRefused") -> str:
    """The daemon's error message, followed by one line for each field that is wrong."""
    problem: Mapping[str, Any] = refused.problem
    fields = [f"  {item.get('pointer') or '/'}: {item.get('detail')}" for item in problem.get("errors", ())]
    return "\n".join([str(refused), *fields])
