"""The state of one commit: what the operations write with, and what they changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec.structs import replace

from waitd.ports import Signal, StoredOutcome, StoredWait, StoreListener
from waitd.stores.queries.costs import label_values
from waitd.stores.sqlite.connection_thread import ConnectionThread

#: For how many days label values are remembered: waits end today, or yesterday around midnight.
_REMEMBERED_DAYS = 3


class CostRules(NamedTuple):
    """How costs are summed.

    Attributes:
        labels: the labels by whose values costs are summed.
        values: how many values a label may have per day and namespace.
        retention: how long the sums are kept, seconds.
    """

    labels: Sequence[str] = ()
    values: int = 1000
    retention: float = 400 * 86_400.0


@dataclass(frozen=True, slots=True)
class StoreRules:
    """The settings of a store.

    Attributes:
        now: the wall clock, Unix seconds.
        retry_delays: pauses before each delivery attempt, seconds.
        destination_of: the destination of a sink, by its namespace and parameters.
        costs: how costs are summed.
    """

    now: Callable[[], float]
    retry_delays: Sequence[float]
    destination_of: Callable[[str, Mapping[str, Any]], str]
    costs: CostRules


class LabelValues:
    """The label values that have costs, by (label, namespace, day), to bound their number.

    One per writer, kept across transactions. A transaction that fails may leave values without
    costs.
    """

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str], set[str]] = {}

    async def get(self, connection: ConnectionThread, label: str, namespace: str, day: str) -> set[str]:
        """The values of one label; the caller adds new ones to the set."""
        key = (label, namespace, day)
        if key not in self._values:
            newest = sorted({day for _, _, day in self._values})[1 - _REMEMBERED_DAYS :]
            self._values = {known: values for known, values in self._values.items() if known[2] in newest}
            self._values[key] = await label_values(connection, *key)
        return self._values[key]


@dataclass(slots=True)
class Transaction:
    """One commit of the writer.

    Attributes:
        now: when it began, Unix seconds.
        finished_seq: the last event number; operations count on from it.
        listener: asked for the live progress and the usage of waits that end.
        label_values: the label values that costs have been summed by.
        inserted: waits that are new and still waiting.
        finished: waits that ended, with the destinations of their deliveries.
        redelivered: destinations of deliveries that were queued again.
        signals: signals that were saved.
    """

    connection: ConnectionThread
    rules: StoreRules
    now: float
    finished_seq: int
    listener: StoreListener
    label_values: LabelValues
    inserted: list[StoredWait] = field(default_factory=list)
    finished: list[StoredOutcome] = field(default_factory=list)
    redelivered: set[str] = field(default_factory=set)
    signals: list[Signal] = field(default_factory=list)

    def with_live_progress(self, wait: StoredWait) -> StoredWait:
        """The wait with its progress up to the last poke; the row may be a minute behind."""
        progress = self.listener.live_progress(wait.id)
        return wait if progress is None else replace(wait, progress=progress)
