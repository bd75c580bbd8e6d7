"""The deliverer: takes what is due out of the outbox, sends it, and stores what became of it.

Each destination has a lane of its own with a bounded number of deliveries in flight, so a slow one holds up no other, and a delivery
that is refused goes to the back of its lane's time, not to its front. What is in hand is remembered until its result is on disk: one
process sends no delivery twice at a time.
"""

import asyncio
import random
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import anyio
import structlog
from anyio.abc import TaskGroup

from waitd.core.errors import InvalidInput, NotSupported, StoreUnavailable
from waitd.core.waits.delivery import (
    DeliveryFailed,
    DeliveryId,
    DeliveryPostponed,
    DeliveryRejected,
    DeliveryState,
    Receipt,
    after_attempt,
)
from waitd.engine.clock import Clock
from waitd.metrics import Instruments
from waitd.ports import OutboxItem, OutboxStore, Sink

log = structlog.get_logger(__name__)

#: How many destinations are served at once; more take turns.
LANES = 256
#: How long a destination keeps its lane while others wait for one, in seconds.
TURN = 5.0
#: How many due deliveries a lane reads at a time.
READ_AHEAD = 256
#: The longest time between two looks into the outbox, in seconds.
LOOK_SECONDS = 30.0
#: Pause before a result that the store refused is written again, in seconds.
RETRY_PAUSE = 1.0


class DestinationQueue:
    """The deliveries to one destination that are in hand. `until`: from then on it makes room for others."""

    def __init__(self, until: float) -> None:
        self.until = until
        self.made_room = False
        self.waiting: deque[OutboxItem] = deque()
        self.in_hand: set[DeliveryId] = set()
        self.sending = 0
        self.moved = asyncio.Event()
        #: There may be something due that is not in hand.
        self.more = True


class Deliverer:
    """Delivers. One per daemon; `run` is its loop."""

    def __init__(
        self,
        store: OutboxStore,
        sinks: Mapping[str, Sink],
        clock: Clock,
        instruments: Instruments,
        *,
        retry_delays: Sequence[float],
        attempt_timeout: float,
        per_destination: int,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._store = store
        self._sinks = sinks
        self._clock = clock
        self._instruments = instruments
        self._retry_delays = retry_delays
        self._attempt_timeout = attempt_timeout
        self._per_destination = per_destination
        self._jitter = jitter
        self._lanes: dict[str, DestinationQueue] = {}
        self._wanted: dict[str, None] = {}
        self._next_look = float("-inf")
        self._wakeup = asyncio.Event()
        self._draining = False
        self._landed = asyncio.Event()

    def wake(self, destinations: Iterable[str]) -> None:
        """There is something to deliver to these destinations now, or after the first retry delay."""
        if self._retry_delays[0]:
            self._look_by(self._clock.monotonic() + self._retry_delays[0])
        for destination in destinations:
            lane = self._lanes.get(destination)
            if lane is None:
                self._wanted[destination] = None
                self._wakeup.set()
            else:
                lane.more = True
                lane.moved.set()

    async def run(self) -> None:
        """Delivers until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            while True:
                try:
                    await self._look()
                except StoreUnavailable as error:
                    log.warning("outbox_not_readable", error=str(error))
                    self._next_look = self._clock.monotonic() + RETRY_PAUSE
                self._open_lanes(tasks)
                await self._clock.sleep_until(self._next_look, self._wakeup)

    async def _look(self) -> None:
        """Finds destinations whose retries have come due, and when to look again."""
        if self._clock.monotonic() < self._next_look:
            return
        now = self._clock.now()
        self.wake(await self._store.due_destinations(now))
        upcoming = await self._store.next_attempt_at()
        pause = LOOK_SECONDS if upcoming is None else min(LOOK_SECONDS, max(RETRY_PAUSE, upcoming - now))
        self._next_look = self._clock.monotonic() + pause

    def _open_lanes(self, tasks: TaskGroup) -> None:
        while self._wanted and len(self._lanes) < LANES and not self._draining:
            destination = next(iter(self._wanted))
            del self._wanted[destination]
            self._lanes[destination] = DestinationQueue(self._clock.monotonic() + TURN)
            tasks.start_soon(self._serve, destination, self._lanes[destination], name=f"lane {destination}")

    async def _serve(self, destination: str, lane: DestinationQueue) -> None:
        """Delivers to one destination until nothing is due there."""
        try:
            async with anyio.create_task_group() as tasks:
                while not self._draining and await self._fill(destination, lane):
                    while lane.waiting and lane.sending < self._per_destination and not self._draining:
                        lane.sending += 1
                        tasks.start_soon(self._attempt, lane, lane.waiting.popleft())
                    await lane.moved.wait()
                    lane.moved.clear()
        finally:
            del self._lanes[destination]
            if lane.made_room or lane.more:  # it may have been woken as it closed
                self._wanted[destination] = None
            self._wakeup.set()

    async def _fill(self, destination: str, lane: DestinationQueue) -> bool:
        """Reads what is due when nothing is waiting; False when the lane has nothing left to do, or its turn is over."""
        if self._is_over(lane):
            lane.made_room = lane.more = True
            lane.in_hand.difference_update(parcel.id for parcel in lane.waiting)
            lane.waiting.clear()
            return bool(lane.in_hand)
        if lane.waiting:
            return True
        if not lane.more:
            return bool(lane.in_hand)
        lane.more = False
        try:
            due = await self._store.due_items(
                destination, self._clock.now(), READ_AHEAD, frozenset(lane.in_hand)
            )
        except StoreUnavailable as error:
            log.warning("outbox_not_readable", destination=destination, error=str(error))
            self._look_by(self._clock.monotonic() + RETRY_PAUSE)
            due = []
        lane.more |= len(due) == READ_AHEAD
        lane.waiting.extend(due)
        lane.in_hand.update(parcel.id for parcel in due)
        if lane.waiting:
            lane.moved.set()
        return bool(lane.in_hand) or lane.more

    def _is_over(self, lane: DestinationQueue) -> bool:
        """Whether the lane had its time and others wait for one: many destinations that hang must not keep a good one out."""
        return bool(self._wanted) and len(self._lanes) >= LANES and self._clock.monotonic() >= lane.until

    async def _attempt(self, lane: DestinationQueue, parcel: OutboxItem) -> None:
        kind = str(parcel.sink.get("kind"))
        started = self._clock.monotonic()
        receipt = await self._send(kind, parcel)
        now = self._clock.now()
        after = after_attempt(parcel.attempts + 1, receipt, now, self._jitter(), self._retry_delays)
        result = after.state.value
        if after.state is DeliveryState.QUEUED:
            result = "postponed" if isinstance(receipt, DeliveryPostponed) else "refused"
        self._instruments.deliveries.labels(kind, result).inc()
        if after.state is DeliveryState.DELIVERED:
            self._instruments.delivery_delay.labels(kind).observe(max(0.0, now - parcel.created_at))
        log.info(
            "delivery_attempt",
            delivery_id=parcel.id,
            wait_id=parcel.wait_id,
            namespace=parcel.namespace,
            sink=kind,
            attempt=after.attempts,
            result=result,
            seconds=round(self._clock.monotonic() - started, 4),
            next_attempt_in=None if after.next_attempt_at is None else round(after.next_attempt_at - now, 3),
            error=after.last_error,
        )
        while True:
            try:
                await self._store.save_attempt(parcel.id, after, now)
                break
            except StoreUnavailable:
                await self._clock.sleep_until(self._clock.monotonic() + RETRY_PAUSE, asyncio.Event())
        if after.next_attempt_at is not None:
            self._look_by(self._clock.monotonic() + after.next_attempt_at - self._clock.now())
        lane.in_hand.discard(parcel.id)
        lane.sending -= 1
        lane.moved.set()
        self._landed.set()

    async def _send(self, kind: str, parcel: OutboxItem) -> Receipt:
        sink = self._sinks.get(kind)
        if sink is None:
            return DeliveryFailed(f"This waitd has no sink {kind}.")
        try:
            target = sink.parse({name: value for name, value in parcel.sink.items() if name != "kind"})
        except NotSupported as error:
            return DeliveryFailed(f"The sink cannot be used now: {error}")
        except InvalidInput as error:
            return DeliveryRejected(f"The sink's parameters are not understood: {error}")
        try:
            async with asyncio.timeout(self._attempt_timeout):
                return await sink.deliver(target, parcel)
        except TimeoutError:
            return DeliveryFailed(f"No answer within {self._attempt_timeout:g} s.")
        except Exception:  # a sink's defect loses no event
            log.exception("sink_failed", sink=kind, delivery_id=parcel.id)
            return DeliveryFailed("The sink failed; the daemon's log has the traceback.")

    def _look_by(self, when: float) -> None:
        if when < self._next_look:
            self._next_look = when
            self._wakeup.set()

    async def drain(self, grace: float) -> None:
        """Starts no more attempts and waits up to `grace` seconds for those in flight; the rest stays in the outbox."""
        self._draining = True
        for lane in self._lanes.values():
            lane.moved.set()
        limit = self._clock.monotonic() + grace
        while any(lane.sending for lane in self._lanes.values()) and self._clock.monotonic() < limit:
            await self._clock.sleep_until(min(limit, self._clock.monotonic() + 0.05), self._landed)
