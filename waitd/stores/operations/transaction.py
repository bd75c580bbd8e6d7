"""The state of one commit: what the operations write with, and what they changed."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from msgspec.structs import replace

from waitd.core.auth.quotas import Kept, KeptLimits, Room, room_for
from waitd.core.costs.model import MeasuredUsage
from waitd.core.waits.wait import Progress, WaitId
from waitd.ports import Signal, StoredOutcome, StoredWait
from waitd.stores.connection import StoreConnection
from waitd.stores.queries.costs import find_label_values
from waitd.stores.unreadable import UnreadableRows
from waitd.stores.usage import Usage

#: How many other days keep their values when a new day is read. Two are enough: waits end today
#: or, around midnight, yesterday.
_OTHER_DAYS = 2


class CostRules(NamedTuple):
    """How costs are summed: for all waits, and for each value of some labels.

    Attributes:
        labels: the names of these labels.
        max_values: how many values a label may have per day and namespace.
    """

    labels: Sequence[str] = ()
    max_values: int = 1000


@dataclass(frozen=True, slots=True)
class StoreRules:
    """What each operation of a store needs, fixed when the store is opened.

    Attributes:
        now: the wall clock, Unix seconds.
        retry_delays: pauses before each delivery attempt, seconds.
        destination_of: the destination of a sink, by its namespace and parameters.
        costs: how costs are summed.
        live_progress: the progress of a wait up to its last poke; None: what is stored is newest.
        measure: what a wait that ends after so many seconds has used; None: not measured.
        limits: how much each namespace and each principal may keep.
    """

    now: Callable[[], float]
    retry_delays: Sequence[float]
    destination_of: Callable[[str, Mapping[str, Any]], str]
    costs: CostRules
    live_progress: Callable[[WaitId], Progress | None]
    measure: Callable[[StoredWait, float], MeasuredUsage | None]
    limits: KeptLimits = field(default_factory=KeptLimits)


class LabelValues:
    """The label values that have costs, by (label, namespace, day). They are bounded in number.

    A writer keeps one across transactions. A value stays in it even if its transaction fails.
    """

    def __init__(self) -> None:
        self._values: dict[tuple[str, str, str], set[str]] = {}

    async def get(self, connection: StoreConnection, label: str, namespace: str, day: str) -> set[str]:
        """The values of one label, read once. The caller adds new values to the set."""
        key = (label, namespace, day)
        if key not in self._values:
            kept_days = sorted({day for _, _, day in self._values})[-_OTHER_DAYS:]
            self._values = {known: values for known, values in self._values.items() if known[2] in kept_days}
            self._values[key] = await find_label_values(connection, *key)
        return self._values[key]


@dataclass(slots=True)
class Transaction:
    """One commit of the writer.

    Attributes:
        now: when it began, Unix seconds.
        finished_seq: the number of the last event; each wait that ends raises it by one.
        label_values: the label values that have costs.
        unreadable: where rows are set aside that cannot be read.
        usage: what is stored, by namespace and principal, before this transaction.
        changes: how this transaction changes that.
        inserted: waits that are new and still waiting.
        finished: waits that ended, with the destinations of their deliveries.
        redelivered: destinations of deliveries that were queued again.
        signals: signals that were saved.
        clock_moved: how far the schedules were moved with the wall clock, in seconds.
    """

    connection: StoreConnection
    rules: StoreRules
    now: float
    finished_seq: int
    label_values: LabelValues
    unreadable: UnreadableRows
    usage: Usage = field(default_factory=Usage)
    changes: Usage = field(default_factory=Usage)
    inserted: list[StoredWait] = field(default_factory=list)
    finished: list[StoredOutcome] = field(default_factory=list)
    redelivered: set[str] = field(default_factory=set)
    signals: list[Signal] = field(default_factory=list)
    clock_moved: float = 0.0

    def room_for_waits(self, namespace: str, principal: str) -> float:
        """How many more waits the principal may submit; cheaper than three times `room`.

        Each may end at once, superseded by the next: it needs room as an ended one, too.
        """
        used, more = self.usage.counts, self.changes.counts
        rooms: list[float] = []
        for shared, own, most, most_own, counts_waits in self.rules.limits.of_waits(namespace, principal):
            left, mine = most - used.get(shared, 0), most_own - used.get(own, 0)
            if more:
                left -= more.get(shared, 0)
                mine -= more.get(own, 0)
            if counts_waits:
                rooms += (left, mine)
            elif left <= 0 or mine <= 0:
                return 0
        return min(rooms)

    def room(self, kept: Kept, namespace: str, principal: str) -> Room:
        """How much more of `kept` the principal may have in the namespace."""
        of_namespace, of_principal = self.usage.both(kept, namespace, principal)
        more_of_namespace, more_of_principal = self.changes.both(kept, namespace, principal)
        share = self.rules.limits.share(kept, namespace)
        return room_for(
            kept, share, namespace, of_namespace + more_of_namespace, of_principal + more_of_principal
        )

    def with_live_progress(self, wait: StoredWait) -> StoredWait:
        """The wait with its progress up to the last poke; its row may be a minute older."""
        progress = self.rules.live_progress(wait.id)
        return wait if progress is None else replace(wait, progress=progress)
