"""Waits whose stored row cannot be read."""

from collections.abc import Mapping, Sequence
from typing import Any

from rich.table import Table
from rich.text import Text

from waitd.core.visible_text import visible


def render_unreadable(waits: Sequence[Mapping[str, Any]], *, whole: bool = False) -> Table:
    """Each wait's id and why it cannot be read; with `whole` its columns, too, with escapes."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("ID", no_wrap=True, min_width=36)
    table.add_column("STATE", no_wrap=True)
    table.add_column("WHY", overflow="fold")
    for wait in waits:
        table.add_row(_escaped(wait["id"]), Text("unreadable", "red"), _escaped(wait["error"]))
        for name, value in wait["row"].items() if whole else ():
            table.add_row("", Text(name, "dim"), _escaped(value))
    return table


def _escaped(value: Any) -> Text:
    return Text(visible(value if isinstance(value, str) else repr(value)))
