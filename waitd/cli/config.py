"""`waitd config check`: the settings as they will be in force, and where each comes from."""

import os
import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from waitd.cli.common import (
    Code,
    Config,
    Json,
    complain,
    described,
    examples,
    output,
    put_json,
    settings_from,
)

if TYPE_CHECKING:
    from waitd.settings import Settings

#: Variables of this prefix that are no settings of the daemon.
OURS = {"WAITD_BUILD", "WAITD_URL", "WAITD_API_KEY", "WAITD_API_KEY_FILE"}


def check(config: Config = None, as_json: Json = False) -> None:
    """Check the settings and show the effective ones, secrets masked, each with its source: default, file or environment.

    Exit code 2 and a line for each mistake where they are wrong, or where a WAITD_* variable is no setting.
    """
    settings = settings_from(config)
    unknown = unknown_variables(settings, os.environ)
    for line in unknown:
        complain(line)
    shown = {
        name: {"value": shown_value(settings, name), "source": source}
        for name, source in sources(settings, config).items()
    }
    if as_json:
        put_json(shown)
    else:
        _print(shown)
    raise typer.Exit(Code.USAGE if unknown else Code.OK)


def sources(settings: "Settings", config: Path | None) -> Mapping[str, str]:
    """Where each setting comes from."""
    variables = {name.upper() for name in os.environ}
    in_file = set(tomllib.loads(config.read_text("utf-8"))) if config else set()

    def source(name: str) -> str:
        variable = f"WAITD_{name.upper()}"
        if any(v == variable or v.startswith(variable + "__") for v in variables):
            return "environment"
        return "file" if name in in_file else "default"

    return {name: source(name) for name in type(settings).model_fields}


def shown_value(settings: "Settings", name: str) -> Any:
    """A setting's value as JSON has it; secrets, and the password in a database's URL, as `***`."""
    from pydantic import SecretStr
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import ArgumentError

    value = getattr(settings, name)
    if isinstance(value, SecretStr):
        return "***"
    if name == "database_url" and value is not None:
        try:
            return make_url(value).render_as_string(hide_password=True)
        except ArgumentError:
            return "***"
    return settings.model_dump(mode="json", include={name})[name]


def unknown_variables(settings: "Settings", environment: Mapping[str, str]) -> list[str]:
    """A sentence for each WAITD_* variable that names no setting: a misspelt one would be ignored in silence."""
    known = {f"WAITD_{name.upper()}" for name in type(settings).model_fields}
    found = []
    for name in sorted(environment):
        upper = name.upper()
        if (
            upper.startswith("WAITD_")
            and upper not in OURS
            and not any(upper == k or upper.startswith(k + "__") for k in known)
        ):
            close = get_close_matches(upper, known, 1)
            found.append(f"{name} is no setting" + (f"; did you mean {close[0]}?" if close else "."))
    return found


def _print(shown: Mapping[str, Mapping[str, Any]]) -> None:
    import orjson
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("SETTING", no_wrap=True)
    table.add_column("SOURCE", no_wrap=True)
    table.add_column("VALUE", overflow="fold")
    for name, setting in shown.items():
        value = setting["value"]
        text = value if isinstance(value, str) else "-" if value is None else orjson.dumps(value).decode()
        style = "" if setting["source"] == "default" else "bold"
        table.add_row(name, Text(setting["source"], style=style), Text(text, style=style))
    output().print(table)


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(help="The settings.", no_args_is_help=True, rich_markup_mode="rich")

    @group.callback()
    def _config() -> None:
        """The settings of the daemon."""

    group.command(
        help=described(check),
        epilog=examples(
            "waitd config check",
            "waitd config check --config config/waitd.toml",
            "WAITD_CAPACITY=500000 waitd config check --json",
        ),
    )(check)
    app.add_typer(group, name="config")
