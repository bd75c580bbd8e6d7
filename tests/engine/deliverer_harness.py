"""A deliverer in virtual time with its outbox in memory, its sink and its clock."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

from engine_harness import running
from fakes import RecordingSink
from virtual_time import VirtualClock

from waitd.core.errors import StoreUnavailable
from waitd.core.fair_shares import Weight, equal_weight
from waitd.core.waits.delivery import (
    RETRY_DELAYS,
    AfterAttempt,
    DeliveryId,
    DeliveryState,
    OutboxKey,
    Receipt,
)
from waitd.core.waits.wait import WaitId
from waitd.engine.deliverer import Deliverer
from waitd.metrics import Instruments
from waitd.ports import OutboxItem

Answer = Callable[[OutboxItem], Awaitable[Receipt] | Receipt]


@dataclass
class MemoryOutbox:
    """The deliverer's store: a dict of items and when each is due."""

    due: dict[DeliveryId, tuple[float, str, OutboxItem]] = field(default_factory=dict)
    settled: dict[DeliveryId, AfterAttempt] = field(default_factory=dict)
    history: list[tuple[DeliveryId, AfterAttempt]] = field(default_factory=list)
    refusing: bool = False
    #: How often `due_items` was called.
    reads: int = 0

    def queue(self, name: str, destination: str, at: float, namespace: str = "") -> str:
        """Queues an item; returns its key."""
        key = str(OutboxKey(destination, namespace))
        item = OutboxItem(
            DeliveryId(name),
            WaitId("w-" + name),
            namespace,
            {"kind": "recording", "to": destination},
            b"{}",
            0,
            at,
        )
        self.due[item.id] = (at, key, item)
        return key

    async def due_destinations(self, now: float) -> Sequence[str]:
        return sorted({destination for at, destination, _ in self.due.values() if at <= now})

    async def next_attempt_at(self) -> float | None:
        return min((at for at, _, _ in self.due.values()), default=None)

    async def due_items(
        self, destination: str, now: float, limit: int, exclude: frozenset[DeliveryId]
    ) -> Sequence[OutboxItem]:
        self.reads += 1
        await asyncio.sleep(0)
        found = sorted((at, item.id) for at, to, item in self.due.values() if to == destination and at <= now)
        return [self.due[name][2] for _, name in found if name not in exclude][:limit]

    async def clamp_attempts(self) -> None:
        """Nothing is stored from before the start."""

    async def save_attempt(self, delivery_id: DeliveryId, after: AfterAttempt, at: float) -> None:
        if self.refusing:
            raise StoreUnavailable("the disk is full")
        _, destination, item = self.due.pop(delivery_id)
        self.history.append((delivery_id, after))
        if after.next_attempt_at is None:
            self.settled[delivery_id] = after
        else:
            self.due[delivery_id] = (
                after.next_attempt_at,
                destination,
                replace(item, attempts=after.attempts),
            )


class DelivererHarness:
    """A deliverer to the sink `recording`, whose receipts are `answer(item)`."""

    def __init__(
        self,
        answer: Answer | None = None,
        *,
        retry_delays: Sequence[float] = RETRY_DELAYS,
        weight: Weight = equal_weight,
    ) -> None:
        self.clock = VirtualClock()
        self.outbox = MemoryOutbox()
        self.sink = RecordingSink(answer)
        self.instruments = Instruments(version="test")
        self.deliverer = Deliverer(
            self.outbox,
            {"recording": self.sink},
            self.clock,
            self.instruments,
            retry_delays=retry_delays,
            attempt_timeout=15,
            per_destination=4,
            weight=weight,
            jitter=lambda: 0.5,
        )

    def queue(self, name: str, destination: str = "here", namespace: str = "") -> None:
        """Queues an event that is due now, and wakes the deliverer."""
        self.deliverer.wake([self.outbox.queue(name, destination, self.clock.now(), namespace)])

    def state(self, name: str) -> DeliveryState:
        return self.outbox.settled[DeliveryId(name)].state


@asynccontextmanager
async def running_deliverer(
    answer: Answer | None = None,
    *,
    retry_delays: Sequence[float] = RETRY_DELAYS,
    weight: Weight = equal_weight,
) -> AsyncIterator[DelivererHarness]:
    harness = DelivererHarness(answer, retry_delays=retry_delays, weight=weight)
    async with running(harness.deliverer.run):
        yield harness
