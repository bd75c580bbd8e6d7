"""`waitd cost whatif`: what an Airflow's sensors would have cost in each mode."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.console import ExitCode, fail, print_error, print_json, stderr_console, stdout_console
from waitd.cli.options import Config, Json, Plot, examples, help_text, load_settings

if TYPE_CHECKING:
    from waitd.core.airflow.task_history import SensorRun, TaskHistory
    from waitd.settings import Settings

DAY = 86_400.0


def whatif(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="An export of the task history: CSV, JSON or JSON Lines. - reads standard input.",
            metavar="FILE|-",
            show_default=False,
        ),
    ] = None,
    airflow_conn_id: Annotated[
        str | None,
        typer.Option(
            help="Fetch the task history from the API of this Airflow connection instead. It is resolved "
            "like the daemon's connections.",
            metavar="ID",
        ),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(min=0.01, help="Only sensors that ended within this many days before the last one."),
    ] = None,
    poke_interval: Annotated[
        float,
        typer.Option(
            min=0.1,
            help="Poke interval in seconds of sensors whose history has none. Airflow's API has none.",
        ),
    ] = 60.0,
    by: Annotated[
        str, typer.Option(help="Group by dag_id, task_id, operator or day.", metavar="WHAT")
    ] = "dag_id",
    limit: Annotated[int, typer.Option(min=1, help="The maximum number of rows.")] = 20,
    plot: Plot = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Compute what the sensors of an Airflow would have cost in each mode, from an export of its
    task history or from its API.

    An export has the columns dag_id, task_id, operator, start and end, and optionally poke_interval
    and mode. Tasks that are not sensors are ignored. Prices and constants come from the settings
    (cost.*).
    """
    from waitd.cli.display.cost_whatif import GROUPS, WhatIfReport
    from waitd.core.errors import InvalidInput

    if by not in GROUPS:
        fail(f"--by {by}: must be one of {', '.join(GROUPS)}.", ExitCode.USAGE)
    if (file is None) == (airflow_conn_id is None):
        fail("give either a FILE or --airflow-conn-id.", ExitCode.USAGE)
    if plot is not None:
        from waitd.cli.display.plot import check_plot_path

        check_plot_path(plot)
    settings = load_settings(config)
    try:
        history = _load_history(file, airflow_conn_id, settings, days, poke_interval)
    except InvalidInput as error:
        for problem in error.problems:
            print_error(f"{_position(file, problem.pointer)}: {problem.detail}")
        raise typer.Exit(ExitCode.USAGE) from None
    report = WhatIfReport(settings.cost, _ended_within(history.runs, days))
    if not report.runs:
        fail("the history contains no sensor that has ended.")
    if plot is not None:
        report.draw(plot)
    document = report.document(by, limit)
    if as_json:
        print_json(document)
    else:
        _print(report.headline(), document)
    if history.others or history.unfinished:
        stderr_console().print(
            f"Ignored: {history.others:,} tasks that are not sensors, "
            f"{history.unfinished:,} that have not ended."
        )


def _print(headline: str, document: Mapping[str, Any]) -> None:
    from rich.console import Group
    from rich.text import Text

    from waitd.cli.display.cost import format_money, render_modes, render_rows

    currency, actual = document["currency"], document["actual"]
    as_run = (
        [Text(f"In the modes they ran in: {format_money(actual['cost'])} {currency}."), Text()]
        if actual is not None
        else []
    )
    stdout_console().print(
        Group(
            Text(headline),
            Text(),
            render_modes(document["total"], currency, document["processes"]),
            Text(),
            *as_run,
            render_rows(document["rows"], document["by"], currency),
            Text(),
            Text("All figures are a model that uses the constants in the settings (cost.*).", style="dim"),
        )
    )


def _load_history(
    file: Path | None, conn_id: str | None, settings: "Settings", days: float | None, poke_interval: float
) -> "TaskHistory":
    from waitd.core.airflow.task_history import parse_task_history

    if file is None:
        from waitd.cli.airflow_history import fetch_history

        return asyncio.run(fetch_history(str(conn_id), settings, days or 30.0, poke_interval))
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"cannot read {file}: {error}", ExitCode.USAGE)
    return parse_task_history(text, poke_interval=poke_interval)


def _position(file: Path | None, pointer: str) -> str:
    """The position of a mistake in the form of compilers, `FILE:LINE`."""
    line = pointer.removeprefix("/line/")
    return f"{file or 'task instance'}:{line}" if line else str(file or "Airflow's answer")


def _ended_within(runs: "Sequence[SensorRun]", days: float | None) -> "list[SensorRun]":
    last = max((run.end for run in runs), default=0.0)
    return [run for run in runs if days is None or run.end >= last - days * DAY]


def register(group: typer.Typer) -> None:
    """Adds the command."""
    group.command(
        "whatif",
        help=help_text(whatif),
        epilog=examples(
            "waitd cost whatif history.csv",
            "waitd cost whatif history.csv --by operator --plot slots.svg",
            "waitd cost whatif --airflow-conn-id airflow --days 7",
        ),
    )(whatif)
