"""What waiting costs, as those need it who show it or keep it."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from waitd.core.costs.model import CostConstants, MeasuredUsage, Prices, WaitingTotals
from waitd.core.waits.wait import WaitSpec


class CostFilter(NamedTuple):
    """Which sums to show: of waits that ended on the day `since` (`2026-11-21`, UTC) or later, by `kind`, by `day`, or by the values of
    the label `by`; at most `limit` of them.
    """

    namespace: str | None
    since: str
    by: str
    limit: int


class CostSums(NamedTuple):
    """What ended waits have cost.

    Attributes:
        rows: by name, each a sum for each kind; days with the newest first, others with the longest waits first.
        more: whether the limit left out others.
        total: all of them, those that were left out too; a sum for each kind.
        overhead: what the process used in that time that belonged to no wait.
    """

    rows: Sequence[tuple[str, Sequence[WaitingTotals]]]
    more: bool
    total: Sequence[WaitingTotals]
    overhead: MeasuredUsage


class Metering(Protocol):
    """What the API needs of the meter."""

    @property
    def constants(self) -> CostConstants: ...
    @property
    def prices(self) -> Prices: ...
    @property
    def labels(self) -> Sequence[str]:
        """Those by whose values costs are added up."""

    def measured(self, spec: WaitSpec, pokes: int, seconds: float, *, ended: bool) -> MeasuredUsage:
        """What a wait that has lasted so long has used by now; with `ended`, its end and deliveries included."""
