"""The pokes in progress: times out those that take too long, and cancels all at the end."""

import asyncio
from collections.abc import Callable, Sequence
from math import inf

import anyio
from anyio.lowlevel import checkpoint
from msgspec import Struct

from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait
from waitd.engine.origins import OriginQueue, Origins
from waitd.ports import CancelPoke

#: Pokes in progress are checked for timeouts when the first of them times out, and then not again
#: within this many seconds, unless a new poke times out sooner: a timeout is late by this much at
#: most.
TIMEOUT_CHECK_SECONDS = 0.05
#: Stalls are looked for this often while pokes are in progress, in seconds. Each check wakes the
#: daemon.
STALL_CHECK_SECONDS = 0.25
#: A check that is later than this was stalled: the machine was suspended, or the loop was blocked.
#: The answers that came meanwhile are not read yet, so the pokes in progress get that time back.
STALL_SECONDS = 1.0
#: The most pokes started, or timed out, in one turn of the event loop; everything else needs its
#: turn soon.
STARTS_PER_TURN = 50
#: The loop's timers are this early at most, in seconds.
_TIMER_SECONDS = 0.002


class PokeAttempt(Struct, eq=False):
    """A poke in progress on behalf of a group of waits.

    Attributes:
        started: when it started, monotonic seconds.
        cutoff: when it times out, monotonic seconds.
        final: whether it is the final poke, the one at the deadline.
        expired: whether it has timed out.
        stopped: whether it was cancelled because the poker stops: there is no verdict.
        cancel: cancels it; None once it has ended.
    """

    group: Sequence[HeldWait]
    origin: OriginQueue
    started: float
    cutoff: float
    final: bool
    expired: bool = False
    stopped: bool = False
    cancel: CancelPoke | None = None

    def expire(self) -> None:
        """Times the poke out: cancels it, and its verdict is `timeout`."""
        self.cutoff = inf
        self.expired = True
        self._cancel()

    def stop(self) -> None:
        """Cancels the poke because the poker stops."""
        self.stopped = True
        self._cancel()

    def _cancel(self) -> None:
        if self.cancel is not None:
            self.cancel()


class PokeAttempts:
    """All pokes in progress. The poker adds what it starts, and discards what has ended.

    Attributes:
        in_progress: the pokes.
        next_check: when they are checked, monotonic seconds; see `watch`.
        ended: to be set when a poke ends while the poker stops.
    """

    def __init__(self, clock: Clock, origins: Origins, *, start_queued: Callable[[], None]) -> None:
        """`start_queued` starts the pokes that the origins let start."""
        self._clock = clock
        self._origins = origins
        self._start_queued = start_queued
        self.in_progress: set[PokeAttempt] = set()
        self.next_check = inf
        self._sooner = asyncio.Event()
        self.ended = asyncio.Event()

    def watch(self, attempt: PokeAttempt) -> None:
        """Checks by the time that a new poke times out. Call it if that is before `next_check`."""
        self._check_at(min(attempt.cutoff, attempt.started + STALL_CHECK_SECONDS))

    def watch_pace(self, monotonic: float) -> None:
        """Checks soon, since the pace of an origin holds a poke back."""
        self._check_at(monotonic + TIMEOUT_CHECK_SECONDS)

    def _check_at(self, when: float) -> None:
        if when < self.next_check:
            self.next_check = when
            self._sooner.set()

    async def run(self) -> None:
        """Times pokes out until it is cancelled; meanwhile, gives origins with a pace their turns.

        One check of all pokes costs less than a timer for each.
        """
        while True:
            await self._clock.sleep_until(self.next_check, self._sooner)
            now = self._clock.monotonic()
            if now < self.next_check - _TIMER_SECONDS:
                continue  # it was moved
            if now - self.next_check > STALL_SECONDS:
                for attempt in self.in_progress:
                    attempt.cutoff += now - self.next_check
            for n, attempt in enumerate([one for one in self.in_progress if one.cutoff <= now], 1):
                attempt.expire()
                if n % STARTS_PER_TURN == 0:
                    await checkpoint()
            if self._origins.paced:
                self._origins.release(now)
                self._start_queued()
            self._set_next_check()

    def _set_next_check(self) -> None:
        now, first = self._clock.monotonic(), inf
        if self._origins.paced:
            first = now
        elif self.in_progress:
            first = min(now + STALL_CHECK_SECONDS, *(attempt.cutoff for attempt in self.in_progress))
        self.next_check = max(first, now + TIMEOUT_CHECK_SECONDS)

    async def wait_for_end(self, until: float) -> None:
        """Waits until a poke ends or the monotonic time `until` comes, while the poker stops."""
        await self._clock.sleep_until(until, self.ended)

    async def cancel_all(self) -> None:
        """Cancels all pokes, and waits until they have ended. Cannot be cancelled itself."""
        for attempt in list(self.in_progress):
            attempt.stop()
        with anyio.CancelScope(shield=True):
            while self.in_progress:
                await self.wait_for_end(inf)
