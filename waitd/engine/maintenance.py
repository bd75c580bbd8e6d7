"""Regular work: watches the event loop and the clock, flushes progress, sweeps, prunes."""

import asyncio
import sys
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

import anyio
import structlog

from waitd.core.errors import StoreUnavailable
from waitd.core.waits.retention import RetentionHorizon
from waitd.core.waits.wait import WaitId
from waitd.engine.clock import FollowingClock
from waitd.engine.poker import Poker
from waitd.ports import MaintenanceStore, PokerStore, StoredWait

log = structlog.get_logger(__name__)

#: How often the loop's lag and the clock are measured, in seconds.
BEAT = 0.25
#: A pause of the event loop that is logged, in seconds.
LOGGED_LAG = 1.0
FLUSH_SECONDS = 1.0
SWEEP_SECONDS = 30.0
#: How many rows one read or delete takes.
PAGE_ROWS = 1000
#: How many ids a sweep reads at a time, and for how many seconds it then leaves the loop to the
#: pokes: a million waits take half a minute.
PAGE_IDS, SWEEP_PAUSE = 2 * PAGE_ROWS, 0.05
#: The pause between two pages of the scrub, in seconds: it takes a tenth of a core at most.
SCRUB_PAUSE = 0.25
#: After how many reads in which no wait could be deleted the next sweep continues the search. So
#: waits whose deliveries stay open cost every sweep the same.
FRUITLESS_READS = 3


class MaintainedStore(MaintenanceStore, PokerStore, Protocol):
    """The store that maintenance works on."""


class Maintenance:
    """Regular loops. `after_sweep` is called at the end of each sweep.

    Ended waits are kept for `retention` seconds and within `retention_bytes`; 0: any amount. The
    audit has `audit_entries` at most.
    """

    def __init__(
        self,
        store: MaintainedStore,
        poker: Poker,
        clock: FollowingClock,
        *,
        retention: float,
        retention_bytes: int = 0,
        audit_entries: int = sys.maxsize,
        after_sweep: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._poker = poker
        self._clock = clock
        self._horizon = RetentionHorizon(retention)
        self._retention_bytes = retention_bytes
        self._audit_entries = audit_entries
        #: When the wait ended with which the search for the longest ended continues.
        self._longest_ended_since = 0.0
        self._after_sweep = after_sweep
        self._pauses: deque[float] = deque([0.0], maxlen=round(1 / BEAT))
        self._missing: frozenset[WaitId] = frozenset()

    async def run(self) -> None:
        """Runs until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, name="watch")
            tasks.start_soon(self._flush, name="flush progress")
            tasks.start_soon(self._sweep_regularly, name="sweep")
            tasks.start_soon(self._scrub, name="scrub")

    @property
    def lag(self) -> float:
        """The longest pause of the event loop in the last second, in seconds."""
        return max(self._pauses)

    async def _watch(self) -> None:
        clock, never = self._clock, asyncio.Event()
        while True:
            expected = clock.monotonic() + BEAT
            await clock.sleep_until(expected, never)
            late = max(0.0, clock.monotonic() - expected)
            self._pauses.append(late)
            if late > LOGGED_LAG:
                log.warning("event_loop_blocked", seconds=round(late, 3), held=self._poker.held)
            if moved := clock.moved():
                await self._follow_clock(moved)

    async def _follow_clock(self, moved: float) -> None:
        """Moves all schedules with the wall clock: the store's first, whose listener does the rest.

        While the store cannot be written, the time that was goes on.
        """
        try:
            await self._store.shift_schedules(moved)
            log.warning("wall_clock_jumped", seconds=round(moved, 3))
        except StoreUnavailable as error:
            log.warning("schedules_not_moved", seconds=round(moved, 3), error=str(error))
            await self._clock.sleep(FLUSH_SECONDS)

    def kept_since(self) -> float:
        """What ended before this time is deleted, Unix seconds."""
        return self._horizon.before(self._clock.now(), self._clock.monotonic())

    def on_clock_step(self, moved: float) -> None:
        """Keeps what is kept for the retention, although the wall clock stepped by `moved`."""
        self._horizon.on_clock_step(moved, self._clock.monotonic())

    async def _flush(self) -> None:
        buffer, clock = self._poker.progress_buffer, self._clock
        while True:
            await clock.sleep_until(clock.monotonic() + FLUSH_SECONDS, buffer.state_changed)
            try:
                await buffer.flush()
            except StoreUnavailable as error:
                log.warning("progress_not_stored", error=str(error))
                await clock.sleep(FLUSH_SECONDS)

    async def _scrub(self) -> None:
        """Reads every wait once, so that unreadable ones are known before someone needs them."""
        after: str | None = None
        while True:
            try:
                after = await self._store.scrub(after, PAGE_ROWS)
            except StoreUnavailable as error:
                log.warning("scrub_failed", error=str(error))
            if after is None:
                return
            await self._clock.sleep_until(self._clock.monotonic() + SCRUB_PAUSE, asyncio.Event())

    async def _sweep_regularly(self) -> None:
        while True:
            await self._clock.sleep(SWEEP_SECONDS)
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("sweep_failed", error=str(error))

    async def sweep(self) -> None:
        """Adopts waits that the poker does not hold, and deletes what exceeds the retention.

        Raises:
            StoreUnavailable: the rest is left to the next sweep.
        """
        missing = [wait_id async for wait_id in self._waiting_ids() if not self._poker.holds(wait_id)]
        # A wait that is missing for the first time may have ended during the read.
        lost = self._missing.intersection(missing)
        self._missing = frozenset(missing)
        if lost:
            log.warning("waits_not_held", waits=len(lost))
            async for page in waiting_pages(self._store):
                self._poker.adopt(wait for wait in page if wait.id in lost)
        before = self.kept_since()
        while pruned := await self._store.prune(before, PAGE_ROWS):
            log.info("pruned", waits=pruned)
        if self._retention_bytes:
            await self._prune_bytes()
        while pruned := await self._store.prune_audit(before, PAGE_ROWS, self._audit_entries):
            log.info("pruned", audit=pruned)
        await self._store.check_unreadable()
        await self._after_sweep()

    async def _prune_bytes(self) -> None:
        """Deletes the longest ended waits until the rest is within `retention_bytes`."""
        since: float | None = self._longest_ended_since
        fruitless = 0
        while since is not None and fruitless < FRUITLESS_READS:
            pruned, since = await self._store.prune_bytes(self._retention_bytes, since, PAGE_ROWS)
            if pruned:
                log.info("pruned", waits=pruned, over="retention_bytes")
            fruitless += not pruned
        self._longest_ended_since = since or 0.0

    async def _waiting_ids(self) -> AsyncIterator[WaitId]:
        after: WaitId | None = None
        while page := await self._store.waiting_ids(after, PAGE_IDS):
            for wait_id in page:
                yield wait_id
            after = page[-1]
            await self._clock.sleep(SWEEP_PAUSE)


async def waiting_pages(store: PokerStore) -> AsyncIterator[Sequence[StoredWait]]:
    """Every waiting wait of the store, a page at a time, in the order of their ids."""
    after: WaitId | None = None
    while page := await store.load_waiting(after, PAGE_ROWS):
        yield page
        after = page[-1].id
