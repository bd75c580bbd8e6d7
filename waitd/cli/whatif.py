"""`waitd cost whatif`: what the sensors of an Airflow would have cost in each mode, from its task history."""

import asyncio
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli.common import (
    Code,
    Config,
    Json,
    Plot,
    complain,
    described,
    examples,
    fail,
    notes,
    output,
    put_json,
    settings_from,
)

if TYPE_CHECKING:
    from waitd.core.airflow.task_history import SensorRun, TaskHistory
    from waitd.settings import Settings

DAY = 86_400.0


def whatif(
    file: Annotated[
        Path | None,
        typer.Argument(
            help="An export: CSV, JSON or JSON Lines; - is standard input.",
            metavar="FILE|-",
            show_default=False,
        ),
    ] = None,
    airflow_conn_id: Annotated[
        str | None,
        typer.Option(
            help="Ask this Airflow instead, by its API; the connection is looked up as the daemon does."
        ),
    ] = None,
    days: Annotated[
        float | None,
        typer.Option(min=0.01, help="Only sensors that ended within so many days before the last."),
    ] = None,
    poke_interval: Annotated[
        float,
        typer.Option(min=0.1, help="Seconds, where the history does not tell: Airflow's API never does."),
    ] = 60.0,
    by: Annotated[str, typer.Option(help="dag_id, task_id, operator or day.", metavar="WHAT")] = "dag_id",
    limit: Annotated[int, typer.Option(min=1, help="How many rows at most.")] = 20,
    plot: Plot = None,
    as_json: Json = False,
    config: Config = None,
) -> None:
    """Say what the sensors of an Airflow would have cost in each mode.

    From an export of its task history, or from its API. Columns: dag_id, task_id, operator, start, end, and where they are known
    poke_interval and mode; other tasks than sensors are left out. Prices and constants are those of the settings.
    """
    from waitd.cli.display.whatif_report import GROUPS, Report
    from waitd.core.errors import InvalidInput

    if by not in GROUPS:
        fail(f"--by {by}: one of {', '.join(GROUPS)}.", Code.USAGE)
    if (file is None) == (airflow_conn_id is None):
        fail("name a FILE, or an Airflow with --airflow-conn-id.", Code.USAGE)
    if plot is not None:
        from waitd.cli.display.plot import check_plot

        check_plot(plot)
    settings = settings_from(config)
    try:
        history = _history(file, airflow_conn_id, settings, days, poke_interval)
    except InvalidInput as error:
        for problem in error.problems:
            complain(f"{_place(file, problem.pointer)}: {problem.detail}")
        raise typer.Exit(Code.USAGE) from None
    report = Report(settings.cost, _within(history.runs, days))
    if not report.runs:
        fail("there are no sensors that have ended in it.")
    if plot is not None:
        report.draw(plot)
    document = report.document(by, limit)
    if as_json:
        put_json(document)
    else:
        _show(report.headline(), document)
    if history.others or history.unfinished:
        notes().print(
            f"Left out: {history.others:,} tasks that are no sensors, {history.unfinished:,} that have not ended."
        )


def _show(headline: str, document: Mapping[str, Any]) -> None:
    from rich.console import Group
    from rich.text import Text

    from waitd.cli.display.cost import modes, money, rows

    currency, actual = document["currency"], document["actual"]
    ran = [Text(f"As they ran: {money(actual['cost'])} {currency}."), Text()] if actual is not None else []
    output().print(
        Group(
            Text(headline),
            Text(),
            modes(document["total"], currency, document["processes"]),
            Text(),
            *ran,
            rows(document["rows"], document["by"], currency),
            Text(),
            Text("All of it is a model, with the constants of the settings (cost.*).", style="dim"),
        )
    )


def _history(
    file: Path | None, conn_id: str | None, settings: "Settings", days: float | None, poke_interval: float
) -> "TaskHistory":
    from waitd.core.airflow.task_history import parse_task_history

    if file is None:
        from waitd.cli.airflow_history import asked

        return asyncio.run(asked(str(conn_id), settings, days or 30.0, poke_interval))
    try:
        text = sys.stdin.read() if str(file) == "-" else file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        fail(f"{file} cannot be read: {error}", Code.USAGE)
    return parse_task_history(text, poke_interval=poke_interval)


def _place(file: Path | None, pointer: str) -> str:
    """Where a mistake is, as compilers write it."""
    line = pointer.removeprefix("/line/")
    return f"{file or 'the answer'}:{line}" if line else str(file or "the answer")


def _within(runs: "Sequence[SensorRun]", days: float | None) -> "list[SensorRun]":
    last = max((run.end for run in runs), default=0.0)
    return [run for run in runs if days is None or run.end >= last - days * DAY]


def register(group: typer.Typer) -> None:
    """Adds the command."""
    group.command(
        "whatif",
        help=described(whatif),
        epilog=examples(
            "waitd cost whatif history.csv",
            "waitd cost whatif history.csv --by operator --plot slots.svg",
            "waitd cost whatif --airflow-conn-id airflow --days 7",
        ),
    )(whatif)
