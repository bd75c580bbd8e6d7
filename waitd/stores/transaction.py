"""One transaction of the writer, as the operations in it see it."""

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from sqlalchemy.ext.asyncio import AsyncConnection

from waitd.core.wait import Progress, WaitId
from waitd.ports import Ended, StoredWait

Item = TypeVar("Item")
#: How many values are built before other tasks get their turn: about a millisecond's worth.
SLICE = 100


@dataclass(frozen=True, slots=True)
class Rules:
    """What the store was told when it was opened.

    Attributes:
        now: the wall clock, Unix seconds.
        ladder: pauses before each delivery attempt, seconds.
        destination_of: the destination of a namespace's sink.
    """

    now: Callable[[], float]
    ladder: Sequence[float]
    destination_of: Callable[[str, Mapping[str, Any]], str]


@dataclass(slots=True)
class Transaction:
    """What the operations of one group write with, and what they changed, for the hand-over after COMMIT.

    Attributes:
        finished_seq: the last one given; the transaction counts on from it.
        live_progress: what a wait in hand has learned so far, None where nobody holds it.
        added: waits that are new and waiting.
        ended: waits that ended, with who is to hear of it.
        redelivered: destinations that got a delivery anew.
    """

    connection: AsyncConnection
    rules: Rules
    now: float
    finished_seq: int
    live_progress: Callable[[WaitId], Progress | None]
    added: list[StoredWait] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    redelivered: set[str] = field(default_factory=set)

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
