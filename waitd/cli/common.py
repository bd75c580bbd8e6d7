"""What the commands share: exit codes, the options that several of them have, the two consoles, and errors as one clear sentence."""

import asyncio
import inspect
import sys
from collections.abc import Awaitable, Callable, Mapping
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar

import typer

if TYPE_CHECKING:
    from rich.console import Console

    from waitd.client import Client, Refused
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


EXIT_CODES = (
    "[bold]Exit codes[/]: 0 done, or the wait ended in success · 1 it failed or was cancelled, or the daemon refused · 2 wrong usage, "
    "input or settings · 69 no daemon answers · 124 the wait timed out · 130 interrupted"
)

Url = Annotated[
    str, typer.Option("--url", envvar="WAITD_URL", help="Where the daemon listens.", metavar="URL")
]
DEFAULT_URL = "http://127.0.0.1:8795"
Json = Annotated[bool, typer.Option("--json", help="Answer in JSON, for programs.")]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config", "-c", help="A TOML file of settings; WAITD_* variables win over it.", metavar="FILE"
    ),
]


def examples(*lines: str) -> str:
    """An epilog for `--help`: one example on each line."""
    from rich.markup import escape

    return "\n\n".join(["[bold]Examples[/]", *(f"  [cyan]{escape(line)}[/]" for line in lines)])


def described(command: Callable[..., Any]) -> str:
    """A command's docstring as its help: paragraphs stay, lines flow."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


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


def refusal(refused: "Refused") -> str:
    """What the daemon had against it: its sentence, and the fields that it points at."""
    problem: Mapping[str, Any] = refused.problem
    fields = [f"  {item.get('pointer') or '/'}: {item.get('detail')}" for item in problem.get("errors", ())]
    return "\n".join([str(refused), *fields])


def ask(url: str, work: "Callable[[Client], Awaitable[T]]") -> T:
    """What `work` makes of the daemon at `url`; where that goes wrong, the command ends with a sentence."""
    from waitd.client import Client, DaemonUnreachable, Refused

    try:
        client = Client(url)
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
    except Refused as error:
        fail(refusal(error))


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
            f"  {setting(item['loc'])}: {item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_input=False)
        ]
        fail("\n".join(["the settings are wrong:", *lines]), Code.USAGE)
    except (FileNotFoundError, SettingsError, TOMLDecodeError) as error:
        fail(f"the settings cannot be read: {error}", Code.USAGE)


def setting(path: tuple[int | str, ...]) -> str:
    """A setting as a person finds it: its name in the file and in the environment."""
    name = "__".join(str(part) for part in path)
    return f"{'.'.join(str(part) for part in path)} (WAITD_{name.upper()})"
