"""What waiting costs, as tables for a person."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from waitd.cli.display.formatting import counted, span
from waitd.core.costs.model import GIB, HOUR, CostMode

MEASURED = "waitd is measured; poke, reschedule and defer are a model from the same durations and pokes."


def summary(found: Mapping[str, Any]) -> RenderableType:
    """The answer of `GET /v1/cost`."""
    total, currency = found["total"], found["currency"]
    head = Text(f"Since {found['since']}: {waited(total)}")
    parts: list[RenderableType] = [head, Text(), modes(total, currency, {"waitd itself": found["overhead"]})]
    if found["rows"]:
        parts += [Text(), rows(found["rows"], found["by"], currency)]
        if found["more"]:
            parts.append(Text("There are more; --limit shows them.", style="dim"))
    return Group(*parts, Text(), Text(MEASURED, style="dim"))


def waited(total: Mapping[str, Any]) -> str:
    """How many waits there were, and how long they waited."""
    return f"{counted(total['waits'], 'wait')} that ended, {span(total['wait_seconds'])} of waiting, {counted(total['pokes'], 'poke')}"


def modes(total: Mapping[str, Any], currency: str, processes: Mapping[str, Mapping[str, Any]]) -> Table:
    """What all of them occupy in each mode; and in lines of their own what processes use besides, by name."""
    table = _table("MODE", "SLOT HOURS", "CPU HOURS", "GIB HOURS", currency)
    for mode in CostMode:
        style = "bold green" if mode is CostMode.WAITD else ""
        table.add_row(*(Text(cell, style=style) for cell in (mode.value, *_used(total[mode]))))
    for name, used in processes.items():
        table.add_row(*(Text(cell, style="dim") for cell in (f"+ {name}", *_used(used))))
    return table


def rows(found: Sequence[Mapping[str, Any]], by: str, currency: str) -> Table:
    """Each row's cost under each mode."""
    table = _table(by.upper(), "WAITS", "WAITING", *(f"{mode.value} {currency}" for mode in CostMode))
    for row in found:
        name = Text(row["name"]) if row["name"] else Text("(without)", style="dim")
        table.add_row(
            name,
            f"{row['waits']:,}",
            span(row["wait_seconds"]),
            *(money(row[mode]["cost"]) for mode in CostMode),
        )
    return table


def cost_of_wait(cost: Mapping[str, Any]) -> Table:
    """What one wait has cost under each mode."""
    table = _table("MODE", "SLOT", "CPU", "MEMORY", cost[CostMode.WAITD]["currency"])
    for mode in CostMode:
        used = cost[mode]
        cells = (
            span(used["slot_seconds"]),
            f"{used['cpu_seconds']:.3g} s",
            f"{used['memory_byte_seconds'] / 1e6:,.3g} MB·s",
            money(used["cost"]),
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
        money(used["cost"]),
    ]


def _hours(hours: float) -> str:
    return f"{hours:,.1f}" if hours >= 10 else "0" if hours == 0 else f"{hours:.2g}"


def money(amount: float) -> str:
    """An amount with as many decimals as it needs."""
    return f"{amount:,.2f}" if amount >= 1 else "0" if amount == 0 else f"{amount:.2g}"
