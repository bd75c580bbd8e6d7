"""The keeper: the slow, regular work. It watches the loop and the clock, flushes progress, finds waits that nobody pokes, and prunes."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Protocol

import anyio
import structlog

from waitd.core.errors import StoreUnavailable
from waitd.core.waits.wait import WaitId
from waitd.engine.clock import Clock
from waitd.engine.poker import Poker
from waitd.engine.recording import CHUNK
from waitd.ports import MaintenanceStore, PokerStore, StoredWait

log = structlog.get_logger(__name__)

#: How often the loop's lag and the clock's jumps are measured, in seconds.
BEAT = 0.25
#: A wall clock that moves by more than this against the monotonic one has jumped, in seconds.
JUMP = 1.0
#: A pause of the loop worth a log line, in seconds.
LAG_WORTH_TELLING = 1.0
SWEEP_SECONDS = 30.0
#: A sweep reads so many ids at a time, and then leaves the loop to the pokes for so many seconds: a million take half a minute.
IDS, BREATH = 2 * CHUNK, 0.05


class MaintainedStore(MaintenanceStore, PokerStore, Protocol):
    """What the keeper needs of the store."""


class Maintenance:
    """Three regular loops. `after_sweep` brings the counts of what is stored up to date; it is called with each sweep."""

    def __init__(
        self,
        store: MaintainedStore,
        poker: Poker,
        clock: Clock,
        *,
        retention: float,
        after_sweep: Callable[[], Awaitable[None]],
    ) -> None:
        self._store = store
        self._poker = poker
        self._clock = clock
        self._retention = retention
        self._after_sweep = after_sweep
        self._pauses: deque[float] = deque([0.0], maxlen=round(1 / BEAT))
        self._missed: frozenset[WaitId] = frozenset()

    async def run(self) -> None:
        """Keeps until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, name="watch")
            tasks.start_soon(self._flush, name="flush progress")
            tasks.start_soon(self._sweep_regularly, name="sweep")

    @property
    def lag(self) -> float:
        """The longest pause of the loop in the last second, in seconds."""
        return max(self._pauses)

    async def _watch(self) -> None:
        clock, never = self._clock, asyncio.Event()
        offset = clock.now() - clock.monotonic()
        while True:
            expected = clock.monotonic() + BEAT
            await clock.sleep_until(expected, never)
            late = max(0.0, clock.monotonic() - expected)
            self._pauses.append(late)
            if late > LAG_WORTH_TELLING:
                log.warning("loop_was_held_up", seconds=round(late, 3), held=self._poker.held)
            moved = clock.now() - clock.monotonic() - offset
            offset += moved
            if abs(moved) > JUMP:
                log.warning("wall_clock_jumped", seconds=round(moved, 3))
                self._poker.reanchor()

    async def _flush(self) -> None:
        while True:
            await self._clock.sleep_until(
                self._clock.monotonic() + 1.0, self._poker.progress_buffer.state_changed
            )
            try:
                await self._poker.progress_buffer.flush()
            except StoreUnavailable as error:
                log.warning("progress_not_stored", error=str(error))
                await self._clock.sleep_until(self._clock.monotonic() + 1.0, asyncio.Event())

    async def _sweep_regularly(self) -> None:
        while True:
            await self._clock.sleep_until(self._clock.monotonic() + SWEEP_SECONDS, asyncio.Event())
            try:
                await self.sweep()
            except StoreUnavailable as error:
                log.warning("sweep_failed", error=str(error))

    async def sweep(self) -> None:
        """One round: takes waits in hand that nobody pokes, deletes what is older than the retention. Raises StoreUnavailable."""
        missing = [wait_id async for wait_id in self._waiting_ids() if not self._poker.holds(wait_id)]
        # One that was missed only now may have ended while it was being read.
        lost = self._missed.intersection(missing)
        self._missed = frozenset(missing)
        if lost:
            log.warning("waits_found_that_nobody_poked", waits=len(lost))
            async for page in waiting_pages(self._store):
                self._poker.adopt(wait for wait in page if wait.id in lost)
        before = self._clock.now() - self._retention
        while pruned := await self._store.prune(before, CHUNK):
            log.info("pruned", waits=pruned)
        while pruned := await self._store.prune_audit(before, CHUNK):
            log.info("pruned", audit=pruned)
        await self._after_sweep()

    async def _waiting_ids(self) -> AsyncIterator[WaitId]:
        after: WaitId | None = None
        while page := await self._store.waiting_ids(after, IDS):
            for wait_id in page:
                yield wait_id
            if len(page) < IDS:
                return
            after = page[-1]
            await self._clock.sleep_until(self._clock.monotonic() + BREATH, asyncio.Event())


async def waiting_pages(store: PokerStore) -> AsyncIterator[Sequence[StoredWait]]:
    """Every waiting wait of the store, a page at a time, in the order of their ids."""
    after: WaitId | None = None
    while page := await store.load_waiting(after, CHUNK):
        yield page
        after = page[-1].id
