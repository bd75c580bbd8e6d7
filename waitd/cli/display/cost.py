"""Tables of what waiting costs."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from waitd.cli.display.formatting import format_duration, pluralize
from waitd.core.costs.model import GIB, HOUR, CostMode

MODEL_NOTE = "waitd is measured. Poke, reschedule and defer are computed for the same waits."


def render_summary(report: Mapping[str, Any]) -> RenderableType:
    """The answer of `GET /v1/cost`."""
    total, currency = report["total"], report["currency"]
    head = Text(f"Since {report['since']}: {describe_totals(total)}")
    parts: list[RenderableType] = [
        head,
        Text(),
        render_modes(total, currency, {"waitd itself": report["overhead"]}),
    ]
    if report["rows"]:
        parts += [Text(), render_rows(report["rows"], report["by"], currency)]
        if report["more"]:
            parts.append(Text("There are more rows; raise --limit to see them.", style="dim"))
    return Group(*parts, Text(), Text(MODEL_NOTE, style="dim"))


def describe_totals(total: Mapping[str, Any]) -> str:
    """The number of waits, their duration and their pokes."""
    return f"{pluralize(total['waits'], 'wait')} ended, {format_duration(total['wait_seconds'])} of waiting, {pluralize(total['pokes'], 'poke')}"


def render_modes(
    total: Mapping[str, Any], currency: str, processes: Mapping[str, Mapping[str, Any]]
) -> Table:
    """What the waits use in each mode, followed by what the processes themselves use, by name."""
    table = _table("MODE", "SLOT HOURS", "CPU HOURS", "GIB HOURS", currency)
    for mode in CostMode:
        style = "bold green" if mode is CostMode.WAITD else ""
        table.add_row(*(Text(cell, style=style) for cell in (mode.value, *_used(total[mode]))))
    for name, used in processes.items():
        table.add_row(*(Text(cell, style="dim") for cell in (f"+ {name}", *_used(used))))
    return table


def render_rows(rows: Sequence[Mapping[str, Any]], by: str, currency: str) -> Table:
    """The cost of each row in each mode."""
    table = _table(by.upper(), "WAITS", "WAITING", *(f"{mode.value} {currency}" for mode in CostMode))
    for row in rows:
        name = Text(row["name"]) if row["name"] else Text("(none)", style="dim")
        table.add_row(
            name,
            f"{row['waits']:,}",
            format_duration(row["wait_seconds"]),
            *(format_money(row[mode]["cost"]) for mode in CostMode),
        )
    return table


def render_wait_cost(cost: Mapping[str, Any]) -> Table:
    """What one wait has cost in each mode."""
    table = _table("MODE", "SLOT", "CPU", "MEMORY", cost[CostMode.WAITD]["currency"])
    for mode in CostMode:
        used = cost[mode]
        cells = (
            format_duration(used["slot_seconds"]),
            f"{used['cpu_seconds']:.3g} s",
            f"{used['memory_byte_seconds'] / 1e6:,.3g} MB·s",
            format_money(used["cost"]),
        )
        table.add_row(mode.value, *cells)
    return table


def _table(first: str, *others: str) -> Table:
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column(first, no_wrap=True)
    for name in others:
        table.add_column(name, justify="right", no_wrap=True)
    return table


def _used(used: Mapping[str, Any]) -> list[str]:
    return [
        _hours(used["slot_seconds"] / HOUR),
        _hours(used["cpu_seconds"] / HOUR),
        _hours(used["memory_byte_seconds"] / GIB / HOUR),
        format_money(used["cost"]),
    ]


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else "0" if hours == 0 else f"{hours:.2g}"


def format_money(amount: float) -> str:
    """An amount with as many decimals as it needs."""
    return f"{amount:,.2f}" if amount >= 1 else "0" if amount == 0 else f"{amount:.2g}"
