"""`waitd cost`: what waiting cost in waitd, and would have cost in each of Airflow's modes."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli import cost_whatif
from waitd.cli.console import ExitCode, fail, print_json, stderr_console, stdout_console
from waitd.cli.daemon_calls import call_daemon
from waitd.cli.options import DEFAULT_URL, Json, Plot, Url, examples, help_text

if TYPE_CHECKING:
    from waitd.client import Client
    from waitd.core.costs.model import SlotSpan

#: The plot is drawn from at most this many of the newest waits.
MAX_PLOTTED_WAITS = 20_000


def cost(
    context: typer.Context,
    since: Annotated[
        str,
        typer.Option(
            help="First day (UTC), e.g. 2026-11-01, or a number of days ago, e.g. 7d.", metavar="DAY|Nd"
        ),
    ] = "30d",
    by: Annotated[
        str,
        typer.Option(
            help="Group by kind, by day, or by a label that the daemon sums costs for, e.g. dag_id.",
            metavar="WHAT",
        ),
    ] = "kind",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="The maximum number of rows.")] = 20,
    plot: Plot = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show what waiting cost in worker slots, CPU, memory and money: in waitd, and in each of
    Airflow's modes (poke, reschedule, defer).

    It counts waits that have ended, on the day they ended. --plot uses the newest stored waits,
    including those still waiting.
    """
    if context.invoked_subcommand is not None:
        return
    day = parse_since(since, datetime.now(UTC).date())
    if plot is not None:
        from waitd.cli.display.plot import check_plot_path

        check_plot_path(plot)

    async def work(client: "Client") -> tuple[dict[str, Any], list[dict[str, Any]]]:
        report = await client.cost({"since": day, "by": by, "limit": str(limit)})
        return report, await client.find({}, MAX_PLOTTED_WAITS) if plot is not None else []

    report, waits = call_daemon(url, work)
    if plot is not None:
        draw_plot(plot, waits, day)
    if as_json:
        print_json(report)
    else:
        from waitd.cli.display.cost import render_summary

        stdout_console().print(render_summary(report))


def parse_since(since: str, today: date) -> str:
    """The value of `--since` as an ISO date. Ends the command if it is neither a day nor `Nd`."""
    number = since.removesuffix("d")
    try:
        if since != number and number.isdecimal():
            return (today - timedelta(int(number))).isoformat()
        return date.fromisoformat(since).isoformat()
    except (ValueError, OverflowError):
        fail(f"--since {since}: write a day such as 2026-11-01, or 7d for seven days ago.", ExitCode.USAGE)


def draw_plot(file: Path, waits: Sequence[Mapping[str, Any]], since: str) -> None:
    """Plots the worker slots of these waits over time, from the day `since`."""
    from waitd.cli.display.plot import draw_slots, evenly_spaced
    from waitd.core.costs.model import slots_over_time

    now = datetime.now(UTC).timestamp()
    spans = [span for wait in waits if (span := wait_span(wait, now)) is not None]
    begin = datetime.fromisoformat(since).replace(tzinfo=UTC).timestamp()
    spans = [span for span in spans if span.end >= begin]
    if not spans:
        fail("--plot: there are no waits to plot.")
    edges = evenly_spaced(max(begin, min(span.start for span in spans)), max(span.end for span in spans))
    draw_slots(file, slots_over_time(spans, edges), edges, f"Worker slots of {len(spans):,} waits")
    if len(waits) == MAX_PLOTTED_WAITS:
        stderr_console().print(f"The plot shows only the newest {MAX_PLOTTED_WAITS:,} waits.")


def wait_span(wait: Mapping[str, Any], now: float) -> "SlotSpan | None":
    """The time span and slot use of a wait, or None if its cost is not known."""
    from waitd.core.costs.model import CostMode, SlotSpan

    if wait["cost"] is None:
        return None
    start = datetime.fromisoformat(wait["created_at"]).timestamp()
    end = datetime.fromisoformat(wait["finished_at"]).timestamp() if wait["finished_at"] else now
    return SlotSpan(start, end, {mode: wait["cost"][mode]["slot_seconds"] for mode in CostMode})


def register(app: typer.Typer) -> None:
    """Adds the command and its subcommand."""
    group = typer.Typer(rich_markup_mode="rich")
    group.callback(
        invoke_without_command=True,
        help=help_text(cost),
        epilog=examples(
            "waitd cost",
            "waitd cost --since 7d --by dag_id",
            "waitd cost --by day --json",
            "waitd cost --plot slots.png",
        ),
    )(cost)
    cost_whatif.register(group)
    app.add_typer(group, name="cost")
