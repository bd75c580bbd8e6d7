"""The options that several commands share, and the checks of their values."""

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.console import EXIT_CODE_MEANINGS, ExitCode, fail

if TYPE_CHECKING:
    from waitd.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8795"
Url = Annotated[str, typer.Option("--url", envvar="WAITD_URL", help="URL of the daemon.", metavar="URL")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON instead of text.")]
Labels = Annotated[
    list[str] | None,
    typer.Option(
        "--label", help="Only waits with this label. Repeat it to require several.", metavar="NAME=VALUE"
    ),
]
Kind = Annotated[
    str | None, typer.Option("--kind", help="Only waits of this kind, e.g. http.", metavar="KIND")
]
Config = Annotated[
    Path | None,
    typer.Option(
        "--config",
        "-c",
        help="TOML file with settings. WAITD_* environment variables override it.",
        metavar="FILE",
    ),
]
Plot = Annotated[
    Path | None,
    typer.Option(
        "--plot",
        help="Also draw the worker slots held over time in each mode, as a .png or .svg file.",
        metavar="FILE",
    ),
]

_EXIT_CODES = "[bold]Exit codes[/]: " + " · ".join(
    f"{code.value} {meaning}" for code, meaning in EXIT_CODE_MEANINGS.items()
)


def examples(*lines: str) -> str:
    """The end of a command's `--help`: one example a line, then the exit codes."""
    from rich.markup import escape

    return "\n\n".join(["[bold]Examples[/]", *(f"  [cyan]{escape(line)}[/]" for line in lines), _EXIT_CODES])


def help_text(command: Callable[..., Any]) -> str:
    """A command's docstring as its help text, without line breaks inside paragraphs."""
    paragraphs = inspect.cleandoc(command.__doc__ or "").split("\n\n")
    return "\n\n".join(paragraph.replace("\n", " ") for paragraph in paragraphs)


def parse_labels(pairs: Sequence[str] | None) -> dict[str, str]:
    """The values of `--label`, by name. Ends the command if one is not NAME=VALUE."""
    labels = {}
    for pair in pairs or ():
        name, separator, value = pair.partition("=")
        if not separator or not name:
            fail(f"--label {pair}: write it as NAME=VALUE, e.g. --label dag_id=orders", ExitCode.USAGE)
        labels[name] = value
    return labels


def check_wait_id(wait_id: str) -> str:
    """Returns the id. Ends the command if it cannot be part of a URL's path."""
    if wait_id in {"", ".", ".."}:
        fail(f"{wait_id!r} is not a wait id; `waitd list` shows the ids.", ExitCode.USAGE)
    return wait_id


def load_settings(config: Path | None, **overrides: Any) -> "Settings":
    """The effective settings. Ends the command with one line for each mistake in them."""
    from tomllib import TOMLDecodeError

    from pydantic import ValidationError
    from pydantic_settings import SettingsError

    from waitd.settings import load

    try:
        return load(config, **{name: value for name, value in overrides.items() if value is not None})
    except ValidationError as error:
        lines = [
            f"  {_setting_prefix(item['loc'])}{item['msg'].removeprefix('Value error, ')}"
            for item in error.errors(include_url=False, include_input=False)
        ]
        fail("\n".join(["invalid settings:", *lines]), ExitCode.USAGE)
    except (FileNotFoundError, SettingsError, TOMLDecodeError) as error:
        fail(f"cannot read the settings: {error}", ExitCode.USAGE)


def _setting_prefix(path: tuple[int | str, ...]) -> str:
    """The prefix of a message about a setting: its name in the file and in the environment."""
    if not path:  # the message is about the settings as a whole
        return ""
    variable = "__".join(str(part) for part in path)
    return f"{'.'.join(str(part) for part in path)} (WAITD_{variable.upper()}): "
