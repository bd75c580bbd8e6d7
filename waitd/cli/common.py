"""What the commands share: exit codes, the options that several of them have, the two consoles, and errors as one clear sentence."""

import asyncio
import inspect
import os
import sys
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextvars import ContextVar
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from waitd.client import Client, RequestRefused
    from waitd.settings import Settings

T = TypeVar("T")


class Code(IntEnum):
    """How a command ends."""

    OK = 0
    FAILED = 1
    USAGE = 2
    UNREACHABLE = 69  # EX_UNAVAILABLE of sysexits.h
    TIMEOUT = 124  # as of timeout(1)
    INTERRUPTED = 130


#: What each exit code means, the same for every command; the one place that says so.
MEANING: Mapping[Code, str] = {
    Code.OK: "done; every wait ended in success",
    Code.FAILED: "a wait failed or was cancelled, or the daemon refused",
    Code.USAGE: "wrong usage, input or settings",
    Code.UNREACHABLE: "no daemon answers",
    Code.TIMEOUT: "a wait timed out",
    Code.INTERRUPTED: "interrupted",
}
EXIT_CODES = "[bold]Exit codes[/]: " + " · ".join(f"{code.value} {text}" for code, text in MEANING.items())

Url = Annotated[
    str, typer.Option("--url", envvar="WAITD_URL", help="Where the daemon listens.", metavar="URL")
]
DEFAULT_URL = "http://127.0.0.1:8795"
#: What `waitd --ca-file`, an option of all commands that talk to a daemon, was given.
CA_FILE: ContextVar[Path | None] = ContextVar("CA_FILE", default=None)
#: The same of `waitd --api-key-file`.
API_KEY_FILE: ContextVar[Path | None] = ContextVar("API_KEY_FILE", default=None)
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
Labels = Annotated[
    list[str] | None,
    typer.Option("--label", help="Only with this label; may be repeated.", metavar="NAME=VALUE"),
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="A TOML file of settings; WAITD_* variables win over it.", metavar="FILE"
    ),
]

Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot", help="Draw the slots held over time under each mode: a .png or .svg.", metavar="FILE"
    ),
]


def examples(*lines: str) -> str:
    """An epilog for `--help`: one example on each line, and the exit codes."""
    from rich.markup import escape

    shown = (f"  [cyan]{escape(line)}[/]" for line in lines)
    return "\n\n".join(["[bold]Examples[/]", *shown, EXIT_CODES])


def described(command: Callable[..., Any]) -> str:
    """A command's docstring as its help: paragraphs stay, lines flow."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


def labels_of(pairs: Sequence[str] | None) -> dict[str, str]:
    """Labels as `--label` gives them, by name; ends the command where one is not written so."""
    labels = {}
    for pair in pairs or ():
        name, separator, value = pair.partition("=")
        if not separator or not name:
            fail(f"--label {pair}: write it as NAME=VALUE, e.g. --label dag_id=orders", Code.USAGE)
        labels[name] = value
    return labels


def checked_id(wait_id: str) -> str:
    """An id that can stand in a path; ends the command where it cannot."""
    if wait_id in {"", ".", ".."}:
        fail(f"{wait_id!r} is no id of a wait.", Code.USAGE)
    return wait_id


def output() -> "Console":
    """Standard output; wide enough to cut nothing off where it is no terminal."""
    from rich.console import Console

    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 1000, highlight=False)


def notes() -> "Console":
    """Standard error, for progress and for what only a person wants to know."""
    from rich.console import Console

    return Console(file=sys.stderr, width=None if sys.stderr.isatty() else 1000, highlight=False)


def put_json(value: Any) -> None:
    """One JSON document on one line of standard output."""
    import orjson

    sys.stdout.write(orjson.dumps(value).decode() + "\n")


def fail(message: str, code: Code = Code.FAILED) -> NoReturn:
    """Ends the command with a sentence on standard error."""
    complain(message)
    raise typer.Exit(code)


def complain(message: str) -> None:
    """A sentence on standard error."""
    from rich.text import Text

    notes().print(Text.assemble(("Error: ", "bold red"), message), soft_wrap=True)


def refusal(refused: "RequestRefused") -> str:
    """What the daemon had against it: its sentence, and the fields that it points at."""
    problem: Mapping[str, Any] = refused.problem
    fields = [f"  {item.get('pointer') or '/'}: {item.get('detail')}" for item in problem.get("errors", ())]
    return "\n".join([str(refused), *fields])


def ask(url: str, work: "Callable[[Client], Awaitable[T]]") -> T:
    """What `work` makes of the daemon at `url`; where that goes wrong, the command ends with a sentence."""
    from waitd.client import Client, DaemonUnreachable, RequestRefused

    trusted = CA_FILE.get()
    key = api_key(API_KEY_FILE.get())
    try:
        client = Client(url, ca_file=trusted, api_key=key)
    except OSError as error:
        fail(f"the certificates in {trusted} cannot be used: {error}.", Code.USAGE)
    except ValueError as error:
        fail(f"{url} is no URL of a daemon: {error}.", Code.USAGE)

    async def asked() -> T:
        async with client:
            return await work(client)

    try:
        return asyncio.run(asked())
    except DaemonUnreachable as error:
        fail(
            f"{error}. Start one by `waitd serve`, or name another with --url or WAITD_URL.", Code.UNREACHABLE
        )
    except RequestRefused as error:
        hint = (
            "\nGive an API key by WAITD_API_KEY, or a file with one by --api-key-file."
            if error.status == 401
            else ""
        )
        fail(refusal(error) + hint)


def api_key(file: Path | None) -> str | None:
    """What says who calls: the first line of `file`, else WAITD_API_KEY. Never an argument: those are seen by every user of a machine."""
    if file is None:
        return os.environ.get("WAITD_API_KEY") or None
    try:
        text = file.read_text("utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        fail(
            f"the API key in {file} cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}.",
            Code.USAGE,
        )
    if not text or len(text.split()) > 1:
        fail(f"the file {file} holds no API key, or more than one.", Code.USAGE)
    return text


def settings_from(config: Path | None, **overrides: Any) -> "Settings":
    """The effective settings; where they are wrong, the command ends with a line for each mistake."""
    from tomllib import TOMLDecodeError

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from waitd.settings import load

    try:
        return load(config, **{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        lines = [
            f"  {setting(item['loc'])}{item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_input=False)
        ]
        fail("\n".join(["the settings are wrong:", *lines]), Code.USAGE)
    except (FileNotFoundError, SettingsError, TOMLDecodeError) as error:
        fail(f"the settings cannot be read: {error}", Code.USAGE)


def setting(path: tuple[int | str, ...]) -> str:
    """The prefix of a message about one setting: its name in the file and in the environment."""
    if not path:  # the message is about the settings as a whole, and names them itself
        return ""
    name = "__".join(str(part) for part in path)
    return f"{'.'.join(str(part) for part in path)} (WAITD_{name.upper()}): "
