"""`waitd limits`: the limits of the caller and of its namespace, and how much of each is used."""

from typing import TYPE_CHECKING, Any

import typer

from waitd.cli.console import print_json, print_line, stdout_console
from waitd.cli.daemon_calls import call_daemon
from waitd.cli.options import DEFAULT_URL, Json, Url, examples, help_text

if TYPE_CHECKING:
    from rich.table import Table


def limits(as_json: Json = False, url: Url = DEFAULT_URL) -> None:
    """Show the limits of your key and of its namespace, and how much of each is used."""
    view = call_daemon(url, lambda client: client.limits())
    if as_json:
        print_json(view)
        return
    print_line(f"{view['principal']} in the namespace {view['namespace']}")
    stdout_console().print(_table(view))


def _table(view: dict[str, Any]) -> "Table":
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("LIMIT", no_wrap=True)
    for name in ("NAMESPACE", "MOST", "YOU", "MOST"):
        table.add_column(name, justify="right", no_wrap=True)
    for item in view["limits"]:
        cells = [
            "-" if value is None else f"{value:,.15g}"
            for scope in ("namespace", "principal")
            for value in (item[scope]["used"], item[scope]["most"])
        ]
        table.add_row(item["limit"], *cells)
    return table


def register(app: typer.Typer) -> None:
    """Adds the command."""
    app.command(help=help_text(limits), epilog=examples("waitd limits", "waitd limits --json"))(limits)
