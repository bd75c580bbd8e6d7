"""What was measured, beside what it should be."""

from typing import NamedTuple


class Figure(NamedTuple):
    """One measured value.

    Attributes:
        name: what it is.
        value: in `unit`.
        at_most, at_least: the goal; both None: for information.
        note: what it was measured on, CPU time beside wall time.
    """

    name: str
    value: float
    unit: str
    at_most: float | None = None
    at_least: float | None = None
    note: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is met; None where there is none."""
        if self.at_most is not None:
            return self.value <= self.at_most
        return None if self.at_least is None else self.value >= self.at_least

    @property
    def goal(self) -> str:
        """The goal for people."""
        if self.at_most is not None:
            return f"≤ {self.at_most:,.6g} {self.unit}"
        return "" if self.at_least is None else f"≥ {self.at_least:,.6g} {self.unit}"

    @property
    def measured(self) -> str:
        """The value for people, with three significant digits."""
        digits = 0 if abs(self.value) >= 100 else 1 if abs(self.value) >= 10 else 2
        return f"{self.value:,.{digits}f} {self.unit}"
