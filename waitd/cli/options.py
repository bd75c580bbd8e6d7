"""The options that several commands share, and the checks of their values."""

import inspect
from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.console import EXIT_CODE_MEANINGS, ExitCode, fail
from waitd.cli.daemon_calls import use_api_key_file, use_ca_file

if TYPE_CHECKING:
    from waitd.settings import Settings

DEFAULT_URL = "http://127.0.0.1:8795"


def or_global(name: str) -> Callable[..., Any]:
    """A callback of an option: without one after the command, that before the command counts."""

    def value_of(context: typer.Context, parameter: typer.CallbackParam, value: Any) -> Any:
        source = context.get_parameter_source(str(parameter.name))
        if source is not None and source.name == "COMMANDLINE":
            return value
        return context.find_root().params.get(name) or value

    return value_of


Url = Annotated[
    str,
    typer.Option(
        "--url", envvar="WAITD_URL", help="URL of the daemon.", metavar="URL", callback=or_global("url")
    ),
]
Json = Annotated[
    bool, typer.Option("--json", help="Print JSON instead of text.", callback=or_global("as_json"))
]
CaFile = Annotated[
    Path | None,
    typer.Option(
        envvar="WAITD_CA_FILE",
        help="CA certificates (PEM file) to verify the daemon's certificate with.",
        metavar="FILE",
        callback=or_global("ca_file"),
    ),
]
ApiKeyFile = Annotated[
    Path | None,
    typer.Option(
        envvar="WAITD_API_KEY_FILE",
        help="File with the API key for the daemon. (default: the key in WAITD_API_KEY)",
        metavar="FILE",
        callback=or_global("api_key_file"),
    ),
]
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


def with_client_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The command with `--ca-file` and `--api-key-file`, which may also be before its name."""

    @wraps(command)
    def run(*, ca_file: Path | None, api_key_file: Path | None, **values: Any) -> Any:
        use_ca_file(ca_file)
        use_api_key_file(api_key_file)
        return command(**values)

    options = {"ca_file": CaFile, "api_key_file": ApiKeyFile}
    parameters = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)
        for name, annotation in options.items()
    ]
    own = inspect.signature(command, eval_str=True)
    run.__signature__ = own.replace(parameters=[*own.parameters.values(), *parameters])  # type: ignore[attr-defined] # typeshed does not know it
    run.__annotations__ = inspect.get_annotations(command, eval_str=True) | options
    return run


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
