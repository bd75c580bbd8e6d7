"""The costs of waiting, as the API and the store exchange them."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from waitd.core.costs.model import CostConstants, MeasuredUsage, Prices, WaitingTotals
from waitd.core.waits.wait import WaitSpec


class CostFilter(NamedTuple):
    """Which sums to show.

    Attributes:
        namespace: of this namespace; None: of all.
        since: of waits that ended on this day (`2026-11-21`, UTC) or later.
        by: `kind`, `day`, or the label by whose values costs are summed.
        limit: the number of rows at most.
        skip: how many rows earlier pages had.
    """

    namespace: str | None
    since: str
    by: str
    limit: int
    skip: int = 0


class CostSums(NamedTuple):
    """What ended waits have cost.

    Attributes:
        rows: the sums of each kind by name; the newest day first, or the longest waits first.
        more: whether the limit left some out.
        total: the sums of each kind over all rows, including those left out.
        overhead: what the process used in that time for no wait in particular.
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
        """The labels by whose values costs are summed."""

    def measured(self, spec: WaitSpec, pokes: int, seconds: float, *, ended: bool) -> MeasuredUsage:
        """What a wait of `seconds` has used; if `ended`, with its end and deliveries."""
