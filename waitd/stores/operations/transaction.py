"""One transaction of the writer, as the operations in it see it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from msgspec.structs import replace

from waitd.core.costs.model import MeasuredUsage
from waitd.core.waits.wait import Progress, WaitId
from waitd.ports import Signal, StoredOutcome, StoredWait
from waitd.stores.operations.known_values import KnownValues
from waitd.stores.sqlite.connection_thread import ConnectionThread

Item = TypeVar("Item")
#: How many values are built before other tasks get their turn: about a millisecond's worth.
SLICE = 100


class CostRules(NamedTuple):
    """By which `labels` costs are added up, how many `values` each may have a day and namespace, and for how long, in seconds, the sums
    are kept.
    """

    labels: Sequence[str] = ()
    values: int = 1000
    retention: float = 400 * 86_400.0


@dataclass(frozen=True, slots=True)
class RetentionRules:
    """What the store was told when it was opened.

    Attributes:
        now: the wall clock, Unix seconds.
        retry_delays: pauses before each delivery attempt, seconds.
        destination_of: the destination of a namespace's sink.
        costs: how costs are added up.
    """

    now: Callable[[], float]
    retry_delays: Sequence[float]
    destination_of: Callable[[str, Mapping[str, Any]], str]
    costs: CostRules


@dataclass(slots=True)
class Transaction:
    """What the operations of one group write with, and what they changed, for the hand-over after COMMIT.

    Attributes:
        finished_seq: the last one given; the transaction counts on from it.
        live_progress: what a wait in hand has learned so far, None where nobody holds it.
        measured: what a wait that ends after so many seconds has used, None where that is not measured.
        known_values: the labels' values that have been added up before.
        added: waits that are new and waiting.
        ended: waits that ended, with who is to hear of it.
        redelivered: destinations that got a delivery anew.
        signals: signals that came.
    """

    link: ConnectionThread
    rules: RetentionRules
    now: float
    finished_seq: int
    live_progress: Callable[[WaitId], Progress | None]
    measured: Callable[[StoredWait, float], MeasuredUsage | None]
    known_values: KnownValues
    added: list[StoredWait] = field(default_factory=list)
    ended: list[StoredOutcome] = field(default_factory=list)
    redelivered: set[str] = field(default_factory=set)
    signals: list[Signal] = field(default_factory=list)

    def as_seen(self, wait: StoredWait) -> StoredWait:
        """The wait with what it has learned up to its last poke: the row may lag behind by a minute."""
        progress = self.live_progress(wait.id)
        return wait if progress is None else replace(wait, progress=progress)


async def sliced(items: Sequence[Item], size: int = SLICE) -> AsyncIterator[Sequence[Item]]:
    """`items` in slices; other tasks get their turn in between."""
    for start in range(0, len(items), size):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + size]
