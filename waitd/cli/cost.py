"""`waitd cost`: what waiting costs here, and would have cost in Airflow's ways of waiting."""

from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from waitd.cli import whatif
from waitd.cli.common import (
    DEFAULT_URL,
    Code,
    Json,
    Plot,
    Url,
    ask,
    described,
    examples,
    fail,
    notes,
    output,
    put_json,
)

if TYPE_CHECKING:
    from waitd.client import Client
    from waitd.core.costs.model import SlotSpan

#: How many waits a picture is drawn from.
DRAWN = 20_000


def cost(
    context: typer.Context,
    since: Annotated[
        str,
        typer.Option(help="From which day on, UTC: 2026-11-01, or so many days ago: 7d.", metavar="DAY|Nd"),
    ] = "30d",
    by: Annotated[
        str,
        typer.Option(help="kind, day, or a label by which the daemon adds up: dag_id.", metavar="WHAT"),
    ] = "kind",
    limit: Annotated[int, typer.Option(min=1, max=1000, help="How many rows at most.")] = 20,
    plot: Plot = None,
    as_json: Json = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show what waiting cost: worker slots, CPU, memory and money, here and in each of Airflow's ways of waiting.

    Of waits that have ended, by the day on which they did. A picture is drawn from the newest waits that are still kept, those that wait
    now included.
    """
    if context.invoked_subcommand is not None:
        return
    day = day_of(since, datetime.now(UTC).date())
    if plot is not None:
        from waitd.cli.display.plot import check_plot

        check_plot(plot)

    async def work(client: "Client") -> tuple[dict[str, Any], list[dict[str, Any]]]:
        found = await client.cost({"since": day, "by": by, "limit": str(limit)})
        return found, await client.find({}, DRAWN) if plot is not None else []

    found, waits = ask(url, work)
    if plot is not None:
        draw(plot, waits, day)
    if as_json:
        put_json(found)
    else:
        from waitd.cli.display.cost import summary

        output().print(summary(found))


def day_of(since: str, today: date) -> str:
    """The day that `--since` names; ends the command where it names none."""
    number = since.removesuffix("d")
    try:
        if since != number and number.isdecimal():
            return (today - timedelta(int(number))).isoformat()
        return date.fromisoformat(since).isoformat()
    except (ValueError, OverflowError):
        fail(f"--since {since}: write a day such as 2026-11-01, or 7d for seven days ago.", Code.USAGE)


def draw(file: Path, waits: Sequence[Mapping[str, Any]], since: str) -> None:
    """Draws the slots of these waits over time."""
    from waitd.cli.display.plot import edges_of, plot
    from waitd.core.costs.model import slots_over_time

    now = datetime.now(UTC).timestamp()
    spans = [span for wait in waits if (span := span_of(wait, now)) is not None]
    begin = datetime.fromisoformat(since).replace(tzinfo=UTC).timestamp()
    spans = [span for span in spans if span.end >= begin]
    if not spans:
        fail("--plot: there are no waits to draw.")
    edges = edges_of(max(begin, min(span.start for span in spans)), max(span.end for span in spans))
    plot(file, slots_over_time(spans, edges), edges, f"What {len(spans):,} waits hold, and would hold")
    if len(waits) == DRAWN:
        notes().print(f"Drawn from the newest {DRAWN:,} waits only.")


def span_of(wait: Mapping[str, Any], now: float) -> "SlotSpan | None":
    """A wait of the API in time; None where its cost is not known."""
    from waitd.core.costs.model import CostMode, SlotSpan

    if wait["cost"] is None:
        return None
    start = datetime.fromisoformat(wait["created_at"]).timestamp()
    end = datetime.fromisoformat(wait["finished_at"]).timestamp() if wait["finished_at"] else now
    return SlotSpan(start, end, {mode: wait["cost"][mode]["slot_seconds"] for mode in CostMode})


def register(app: typer.Typer) -> None:
    """Adds the command and the one below it."""
    group = typer.Typer(rich_markup_mode="rich")
    group.callback(
        invoke_without_command=True,
        help=described(cost),
        epilog=examples(
            "waitd cost",
            "waitd cost --since 7d --by dag_id",
            "waitd cost --by day --json",
            "waitd cost --plot slots.png",
        ),
    )(cost)
    whatif.register(group)
    app.add_typer(group, name="cost")
