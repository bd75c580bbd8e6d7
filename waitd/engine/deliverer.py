"""Delivers what is due in the outbox and stores the result of each attempt.

Each destination has its own queue with a bounded number of deliveries in flight, so that a slow
destination delays no other. Namespaces that deliver to the same destination share it by their
weights. A delivery stays in flight until its result is on disk: one process never sends a delivery
twice at a time.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf

import anyio
import structlog
from anyio.abc import TaskGroup

from waitd.core.connections.proxies import noted_proxy, through_proxy
from waitd.core.errors import InvalidInput, NotSupported, StoreUnavailable
from waitd.core.fair_shares import FairBacklog, FairShares, Weight, equal_weight
from waitd.core.local_trouble import local_trouble
from waitd.core.recovery import Pace, Paces
from waitd.core.waits.delivery import (
    AfterAttempt,
    Delivered,
    DeliveryFailed,
    DeliveryPostponed,
    DeliveryRejected,
    DeliveryState,
    OutboxKey,
    Receipt,
    after_attempt,
    local_receipt,
)
from waitd.engine.clock import Clock
from waitd.engine.destination_queue import DestinationQueue
from waitd.engine.trouble_log import TroubleLog
from waitd.metrics import Instruments
from waitd.ports import OutboxItem, OutboxStore, Sink, StoredOutcome, StoreListener

log = structlog.get_logger(__name__)

#: How many destinations are served at a time; more take turns.
MAX_QUEUES = 256
#: How long a destination keeps its queue while others wait for one, in seconds.
TURN = 5.0
#: How many due deliveries of a namespace to a destination are read at a time; fewer, but at least
#: the second number, while those of others wait there.
READ_AHEAD, MIN_READ_AHEAD = 256, 64
#: The longest time between two checks of the outbox, in seconds.
CHECK_SECONDS = 30.0
#: How many deliveries a second a destination gets at least, once it answers again after a fault.
MIN_RATE = 10.0
#: Pause before a write or read that the store refused is retried, in seconds.
RETRY_PAUSE = 1.0


class Deliverer(StoreListener):
    """Delivers; `run` is its loop."""

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
        weight: Weight = equal_weight,
        jitter: Callable[[], float] = random.random,
        troubles: TroubleLog | None = None,
    ) -> None:
        self._store = store
        self._sinks = sinks
        self._clock = clock
        self._instruments = instruments
        self._retry_delays = retry_delays
        self._attempt_timeout = attempt_timeout
        self._per_destination = per_destination
        self._jitter = jitter
        self._troubles = troubles or TroubleLog(clock, instruments)
        self._queues: dict[str, DestinationQueue] = {}
        self._weight = weight
        #: Destinations that wait for a queue, with the namespaces that deliver there.
        self._without_queue: dict[str, set[str]] = {}
        self._turns: FairBacklog[str] = FairBacklog(FairShares(weight))
        self._next_check = -inf
        self._wakeup = asyncio.Event()
        #: After a fault, sending to a destination starts at the rate before it, and grows.
        self._paces = Paces(MIN_RATE)
        self._draining = False
        self._attempt_done = asyncio.Event()

    def on_finished(self, outcomes: Sequence[StoredOutcome]) -> None:
        """See `StoreListener`: delivers the events of ended waits."""
        self.wake({destination for outcome in outcomes for destination in outcome.destinations})

    def on_redelivered(self, destinations: frozenset[str]) -> None:
        """See `StoreListener`: delivers to these destinations again."""
        self.wake(destinations)

    def wake(self, destinations: Iterable[str]) -> None:
        """Delivers under these keys of the outbox now, or after the first retry delay."""
        if self._retry_delays[0]:
            self._check_by(self._clock.monotonic() + self._retry_delays[0])
        for destination, namespace in map(OutboxKey.parse, destinations):
            queue = self._queues.get(destination)
            if queue is None:
                self._queue_up(destination, namespace)
            else:
                queue.more.add(namespace)
                queue.changed.set()

    def _queue_up(self, destination: str, namespace: str) -> None:
        """Makes a destination wait for a queue, in which a namespace delivers to it."""
        namespaces = self._without_queue.setdefault(destination, set())
        if namespace not in namespaces:
            namespaces.add(namespace)
            self._turns.append(namespace, destination)
        self._wakeup.set()

    def check_soon(self) -> None:
        """Checks the outbox now, because the wall clock has stepped."""
        self._check_by(self._clock.monotonic())

    async def run(self) -> None:
        """Delivers until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            await self._clamp_attempts()
            while True:
                try:
                    await self._check_outbox()
                except StoreUnavailable as error:
                    log.warning("outbox_not_readable", error=str(error))
                    self._next_check = self._clock.monotonic() + RETRY_PAUSE
                self._open_queues(tasks)
                await self._clock.sleep_until(self._next_check, self._wakeup)

    async def _clamp_attempts(self) -> None:
        """Brings forward what is due too late, because the clock was set back before the start."""
        try:
            await self._store.clamp_attempts()
        except StoreUnavailable as error:
            log.warning("outbox_not_clamped", error=str(error))

    async def _check_outbox(self) -> None:
        """Wakes destinations whose retries are due, and schedules the next check."""
        if self._clock.monotonic() < self._next_check:
            return
        now = self._clock.now()
        self.wake(await self._store.due_destinations(now))
        upcoming = await self._store.next_attempt_at()
        pause = CHECK_SECONDS if upcoming is None else min(CHECK_SECONDS, max(RETRY_PAUSE, upcoming - now))
        self._next_check = self._clock.monotonic() + pause

    def _open_queues(self, tasks: TaskGroup) -> None:
        while self._turns and len(self._queues) < MAX_QUEUES and not self._draining:
            destination = self._turns.pop()
            namespaces = self._without_queue.pop(destination, None)
            if namespaces is None:  # another namespace's turn has opened its queue
                continue
            turn_ends = self._clock.monotonic() + TURN
            queue = DestinationQueue(destination, namespaces, turn_ends, FairShares(self._weight))
            self._queues[destination] = queue
            tasks.start_soon(self._serve, destination, queue, name=f"deliver to {destination}")

    async def _serve(self, destination: str, queue: DestinationQueue) -> None:
        """Delivers to one destination until nothing is due there."""
        try:
            async with anyio.create_task_group() as tasks:
                while not self._draining and await self._fill(destination, queue):
                    resume = self._start_attempts(tasks, self._paces.get(destination), queue)
                    await self._clock.sleep_until(resume, queue.changed)
            self._paces.get(destination).on_drained(self._clock.monotonic())
        finally:
            del self._queues[destination]
            for namespace in queue.more:  # it gave way, or `wake` was called meanwhile
                self._queue_up(destination, namespace)
            self._wakeup.set()

    def _start_attempts(self, tasks: TaskGroup, pace: Pace, queue: DestinationQueue) -> float:
        """Starts what the limits allow; returns when more may start, monotonic seconds."""
        while queue.waiting and queue.sending < self._per_destination and not self._draining:
            now = self._clock.monotonic()
            if (resume := pace.next_start(now)) > now:
                return resume
            pace.on_start(now)
            queue.sending += 1
            tasks.start_soon(self._attempt, queue, pace, queue.waiting.pop())
        return inf

    async def _fill(self, destination: str, queue: DestinationQueue) -> bool:
        """Reads what is due of namespaces that have nothing waiting; gives way if its turn is over.

        Where others wait, a namespace with nothing read would lose its turns.

        Returns False when nothing is left to deliver and nothing is in flight.
        """
        if self._is_turn_over(queue):
            for namespace, item in queue.waiting.clear():
                queue.more.add(namespace)
                queue.in_flight.discard(item.id)
            return bool(queue.in_flight)
        enough = self._per_destination if len(queue.waiting.flows | queue.more) > 1 else 1
        for namespace in [name for name in queue.more if queue.waiting.count(name) < enough]:
            await self._read_ahead(destination, namespace, queue)
        return bool(queue.in_flight) or bool(queue.more)

    async def _read_ahead(self, destination: str, namespace: str, queue: DestinationQueue) -> None:
        queue.more.discard(namespace)
        limit = MIN_READ_AHEAD if queue.waiting else READ_AHEAD
        key = str(OutboxKey(destination, namespace))
        try:
            due = await self._store.due_items(key, self._clock.now(), limit, frozenset(queue.in_flight))
        except StoreUnavailable as error:
            log.warning("outbox_not_readable", destination=destination, error=str(error))
            self._check_by(self._clock.monotonic() + RETRY_PAUSE)
            due = []
        if len(due) == limit:
            queue.more.add(namespace)
        for item in due:
            queue.waiting.append(namespace, item)
        queue.in_flight.update(item.id for item in due)
        if queue.waiting:
            queue.changed.set()

    def _is_turn_over(self, queue: DestinationQueue) -> bool:
        """Whether it gives way to others: many that hang must not keep out one that works."""
        return (
            bool(self._without_queue)
            and len(self._queues) >= MAX_QUEUES
            and self._clock.monotonic() >= queue.turn_ends
        )

    async def _attempt(self, queue: DestinationQueue, pace: Pace, item: OutboxItem) -> None:
        kind = str(item.sink.get("kind"))
        started = self._clock.monotonic()
        receipt = await self._send(kind, item)
        if isinstance(receipt, DeliveryPostponed) and receipt.local:
            self._troubles.report(receipt.why, "deliveries")
        if isinstance(receipt, DeliveryFailed) and receipt.suspect is not None:
            trouble = self._troubles.own_trouble(receipt.suspect, queue.destination, "deliveries")
            receipt = receipt if trouble is None else local_receipt(trouble)
        if isinstance(receipt, DeliveryFailed):
            pace.on_failure(self._clock.monotonic())
        elif not isinstance(receipt, DeliveryPostponed):
            pace.on_answer(self._clock.monotonic())
        if isinstance(receipt, Delivered):
            self._troubles.trouble.reached_at = self._clock.monotonic()
        now = self._clock.now()
        after = after_attempt(item.attempts + 1, receipt, now, self._jitter(), self._retry_delays)
        self._report(kind, item, receipt, after, now, self._clock.monotonic() - started)
        while True:
            try:
                await self._store.save_attempt(item.id, after, now)
                break
            except StoreUnavailable:
                await self._clock.sleep(RETRY_PAUSE)
        if after.next_attempt_at is not None:
            self._check_by(self._clock.monotonic() + after.next_attempt_at - self._clock.now())
        queue.in_flight.discard(item.id)
        queue.sending -= 1
        queue.changed.set()
        self._attempt_done.set()

    def _report(  # noqa: PLR0917 - the parts of one log line
        self, kind: str, item: OutboxItem, receipt: Receipt, after: AfterAttempt, now: float, seconds: float
    ) -> None:
        """Counts and logs an attempt."""
        result = after.state.value
        if after.state is DeliveryState.QUEUED:
            result = "postponed" if isinstance(receipt, DeliveryPostponed) else "refused"
        self._instruments.deliveries.labels(kind, result).inc()
        if after.state is DeliveryState.DELIVERED:
            self._instruments.delivery_delay.labels(kind).observe(max(0.0, now - item.created_at))
        log.info(
            "delivery_attempt",
            delivery_id=item.id,
            wait_id=item.wait_id,
            namespace=item.namespace,
            sink=kind,
            attempt=after.attempts,
            result=result,
            seconds=round(seconds, 4),
            next_attempt_in=None if after.next_attempt_at is None else round(after.next_attempt_at - now, 3),
            error=after.last_error,
        )

    async def _send(self, kind: str, item: OutboxItem) -> Receipt:
        sink = self._sinks.get(kind)
        if sink is None:
            return DeliveryFailed(f"This waitd has no sink {kind}.")
        try:
            target = sink.parse({name: value for name, value in item.sink.items() if name != "kind"})
        except NotSupported as error:
            return DeliveryFailed(f"The sink cannot be used now: {error}")
        except InvalidInput as error:
            return DeliveryRejected(f"The sink's parameters are invalid: {error}")
        try:
            async with asyncio.timeout(self._attempt_timeout):
                return await sink.deliver(target, item)
        except TimeoutError as error:
            why = f"No answer within {self._attempt_timeout:g} s."
            return DeliveryFailed(through_proxy(why, noted_proxy(error)))
        except Exception as error:  # a defect of the sink must not lose the event
            trouble = local_trouble(error)
            if trouble is None:
                log.exception("sink_failed", sink=kind, delivery_id=item.id)
            return (
                local_receipt(trouble)
                if trouble
                else DeliveryFailed("The sink failed; the daemon's log has the traceback.")
            )

    def _check_by(self, when: float) -> None:
        """Checks the outbox at the monotonic time `when` at the latest."""
        if when < self._next_check:
            self._next_check = when
            self._wakeup.set()

    async def drain(self, grace: float) -> None:
        """Starts no more attempts and waits up to `grace` seconds for those in flight.

        The rest stays in the outbox.
        """
        self._draining = True
        for queue in self._queues.values():
            queue.changed.set()
        limit = self._clock.monotonic() + grace
        while any(queue.sending for queue in self._queues.values()) and self._clock.monotonic() < limit:
            await self._clock.sleep_until(min(limit, self._clock.monotonic() + 0.05), self._attempt_done)
