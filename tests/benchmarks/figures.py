"""Measured figures, their goals, and how they are printed."""

import sys
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text


class Figure(NamedTuple):
    """One measured value.

    Attributes:
        name: its name.
        value: in `unit`.
        unit: the unit.
        at_most: the goal, an upper bound.
        at_least: the goal, a lower bound; without both, the figure is for information.
        note: the circumstances.
    """

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None without a goal."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    @property
    def goal(self) -> str:
        """The goal as text."""
        if self.at_most is not None:
            return f"≤ {self.at_most:,.6g} {self.unit}"
        return "" if self.at_least is None else f"≥ {self.at_least:,.6g} {self.unit}"

    @property
    def measured(self) -> str:
        """The value as text, with three significant digits."""
        digits = 0 if abs(self.value) >= 100 else 1 if abs(self.value) >= 10 else 2
        return f"{self.value:,.{digits}f} {self.unit}"


def print_figures(figures: Sequence[Figure], facts: Mapping[str, object], *, as_json: bool) -> None:
    """Prints figures as a table or as JSON, with facts about the machine."""
    if as_json:
        rows = [figure._asdict() | {"met": figure.met} for figure in figures]
        document = orjson.dumps({"machine": facts, "figures": rows}, option=orjson.OPT_INDENT_2)
        sys.stdout.write(document.decode() + "\n")
        return
    caption = ", ".join(f"{name} {value}" for name, value in facts.items())
    table = Table("figure", "goal", "measured", "", "note", caption=caption)
    for column in (1, 2):
        table.columns[column].justify = "right"
    marks = {None: Text(""), True: Text("met", "green"), False: Text("NOT MET", "bold red")}
    for figure in figures:
        table.add_row(figure.name, figure.goal, figure.measured, marks[figure.met], figure.note)
    Console(width=None if sys.stdout.isatty() else 200).print(table)
