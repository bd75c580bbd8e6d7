"""`waitd connections check`: how the daemon reads a connection."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.console import ExitCode, print_json, print_line, stdout_console
from waitd.cli.daemon_calls import call_daemon
from waitd.cli.options import DEFAULT_URL, Json, Url, examples, help_text

if TYPE_CHECKING:
    from rich.table import Table


def check(
    conn_id: Annotated[str, typer.Argument(help="The id of the connection.", metavar="CONN_ID")],
    try_path: Annotated[
        str | None,
        typer.Option(
            "--try",
            help="Also ask the target once: a GET for this path; SELECT 1 of a database, "
            "GetCallerIdentity of AWS, the buckets of an S3-compatible store, a login to a broker.",
            metavar="PATH",
        ),
    ] = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show how the daemon reads a connection: where it was found, which fields are used, and which
    are ignored or refused, and why. Secrets are masked.

    The exit code is 1 if the connection cannot be used, or if its target does not answer --try with
    a status below 400.
    """
    view = call_daemon(url, lambda client: client.connection(conn_id, try_path))
    if as_json:
        print_json(view)
    else:
        _print(view)
    tried = view["tried"]
    target_ok = tried is None or (tried["error"] is None and (tried["status"] or 200) < 400)
    raise typer.Exit(ExitCode.OK if view["problem"] is None and target_ok else ExitCode.FAILED)


def _print(view: dict[str, Any]) -> None:
    print_line(f"{view['conn_id']}: {view['problem'] or 'usable'}")
    stdout_console().print(_table(view))
    if tried := view["tried"]:
        answer = tried["error"] or (f"HTTP {tried['status']}" if tried["status"] else "it answers")
        print_line(f"tried: {answer} after {tried['seconds']:g} s")


def _table(view: dict[str, Any]) -> "Table":
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    rows = {"resolver": view["resolver"], "url": view["url"] or "-", **view["fields"]}
    for name, value in rows.items():
        table.add_row(name, Text(str(value)))
    for extra in view["extras"]:
        table.add_row(
            f"extra {extra['name']}",
            Text(f"{extra['use']}: {extra['why']}" if extra["why"] else extra["use"]),
        )
    return table


def register(app: typer.Typer) -> None:
    """Adds the group."""
    group = typer.Typer(help="Check connections.", no_args_is_help=True, rich_markup_mode="rich")

    @group.callback()
    def _connections() -> None:
        """Check the connections of the daemon."""

    group.command(
        help=help_text(check),
        epilog=examples(
            "waitd connections check batch_api",
            "waitd connections check batch_api --try /v1/health",
            "waitd connections check aws_default --json",
        ),
    )(check)
    app.add_typer(group, name="connections")
