"""`waitd config check`: validate the settings and print the effective ones."""

import asyncio
import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from waitd.cli.console import ExitCode, print_error, print_json, stdout_console
from waitd.cli.options import Config, Json, examples, help_text, load_settings
from waitd.core.connections.masking import MASK

if TYPE_CHECKING:
    from rich.table import Table

    from waitd.settings import Settings

#: WAITD_* variables that are not settings of the daemon.
_OTHER_VARIABLES = {"WAITD_BUILD", "WAITD_URL", "WAITD_API_KEY", "WAITD_API_KEY_FILE", "WAITD_CA_FILE"}


def check(config: Config = None, as_json: Json = False) -> None:
    """Validate the settings and print the effective ones, with secrets masked. SOURCE tells where
    each comes from: default, file or environment.

    The exit code is 2 if a setting is invalid, if a WAITD_* variable is not a setting, or if the
    connections_file cannot be read. Each mistake is printed.
    """
    settings = load_settings(config)
    mistakes = [*unknown_variables(settings, os.environ), *_connections_file_mistakes(settings)]
    for mistake in mistakes:
        print_error(mistake)
    effective = {
        name: {"value": displayed_value(settings, name), "source": source}
        for name, source in sources(settings, config).items()
    }
    if as_json:
        print_json(effective)
    else:
        stdout_console().print(_render_settings(effective))
    raise typer.Exit(ExitCode.USAGE if mistakes else ExitCode.OK)


def sources(settings: "Settings", config: Path | None) -> Mapping[str, str]:
    """The source of each setting: default, file or environment."""
    variables = {name.upper() for name in os.environ}
    in_file = set(tomllib.loads(config.read_text("utf-8"))) if config else set()

    def source(name: str) -> str:
        variable = f"WAITD_{name.upper()}"
        if any(v == variable or v.startswith(variable + "__") for v in variables):
            return "environment"
        return "file" if name in in_file else "default"

    return {name: source(name) for name in type(settings).model_fields}


def displayed_value(settings: "Settings", name: str) -> Any:
    """A setting's value as JSON, with secrets and the password of the database's URL as `***`."""
    from pydantic import SecretStr
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return MASK
    if name == "database_url" and value is not None:
        try:
            return make_url(value).render_as_string(hide_password=True)
        except ArgumentError:
            return MASK
    return settings.model_dump(mode="json", include={name})[name]


def unknown_variables(settings: "Settings", environment: Mapping[str, str]) -> list[str]:
    """An error message for each WAITD_* variable that names no setting.

    Otherwise a misspelt variable would silently have no effect.
    """
    known = {f"WAITD_{name.upper()}" for name in type(settings).model_fields}
    mistakes = []
    for name in sorted(environment):
        upper = name.upper()
        if (
            upper.startswith("WAITD_")
            and upper not in _OTHER_VARIABLES
            and not any(upper == k or upper.startswith(k + "__") for k in known)
        ):
            close = get_close_matches(upper, known, 1)
            mistakes.append(f"{name} is not a setting" + (f"; did you mean {close[0]}?" if close else "."))
    return mistakes


def _connections_file_mistakes(settings: "Settings") -> list[str]:
    """Why the file of connections, or an entry of it, cannot be read, if there is one."""
    from waitd.connections.file import FileResolver
    from waitd.core.errors import ConnectionUnavailable

    if settings.connections_file is None:
        return []
    resolver = FileResolver(settings.connections_file)
    try:
        asyncio.run(resolver.load())
    except ConnectionUnavailable as error:
        return [f"{error}."]
    return [f"{mistake}." for mistake in resolver.mistakes()]


def _render_settings(effective: Mapping[str, Mapping[str, Any]]) -> "Table":
    import orjson
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("SETTING", no_wrap=True)
    table.add_column("SOURCE", no_wrap=True)
    table.add_column("VALUE", overflow="fold")
    for name, setting in effective.items():
        value = setting["value"]
        text = value if isinstance(value, str) else "-" if value is None else orjson.dumps(value).decode()
        style = "" if setting["source"] == "default" else "bold"
        table.add_row(name, Text(setting["source"], style=style), Text(text, style=style))
    return table


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(help="Check the settings.", no_args_is_help=True, rich_markup_mode="rich")

    @group.callback()
    def _config() -> None:
        """Check the settings of the daemon."""

    group.command(
        help=help_text(check),
        epilog=examples(
            "waitd config check",
            "waitd config check --config config/waitd.toml",
            "WAITD_CAPACITY=500000 waitd config check --json",
        ),
    )(check)
    app.add_typer(group, name="config")
