"""Starts queued pokes within the limits on concurrency, and times them out."""

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from math import inf

import anyio
from anyio.lowlevel import checkpoint
from msgspec import Struct

from waitd.core.waits.schedule import FINAL_POKE_TIMEOUT
from waitd.core.waits.verdict import Verdict
from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait
from waitd.engine.origins import OriginQueue, Origins
from waitd.metrics import Instruments
from waitd.ports import CancelPoke

#: How often pokes in progress are checked for timeouts, in seconds: a timeout is late by this much
#: at most.
TIMEOUT_CHECK_SECONDS = 0.05
#: A check that is later than this was held up: the machine was suspended, or the loop was blocked.
#: The answers that came meanwhile are not read yet, so the pokes in progress get that time back.
HELD_UP_SECONDS = 1.0
#: The most pokes started, or timed out, in one turn of the event loop; everything else needs its
#: turn soon.
STARTS_PER_TURN = 50


class PokeAttempt(Struct, eq=False):
    """A poke in progress on behalf of a group of waits.

    Attributes:
        dispatcher: what started it; its `release` ends it.
        started: when it started, monotonic seconds.
        cutoff: when it times out, monotonic seconds.
        final: whether it is the final poke, the one at the deadline.
        expired: whether it has timed out.
        stopped: whether it was cancelled because the poker stops: there is no verdict.
        cancel: cancels it; None once it has ended.
    """

    dispatcher: "PokeDispatcher"
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


class PokeDispatcher:
    """Takes due waits from the origins' queues and pokes them.

    Final pokes, those at a deadline, may start above `poke_concurrency`, up to twice as many.
    """

    def __init__(
        self,
        origins: Origins,
        clock: Clock,
        instruments: Instruments,
        *,
        poke_concurrency: int,
        set_alarm: Callable[[HeldWait, float], None],
        on_result: Callable[[PokeAttempt, Sequence[Verdict] | BaseException], None],
        on_failure: Callable[[Exception], None],
    ) -> None:
        """Creates a dispatcher.

        Args:
            origins: the queues of due waits.
            clock: wall and monotonic time.
            instruments: the metrics.
            poke_concurrency: how many pokes may be in progress.
            set_alarm: makes a wait due again by its deadline; called with the wait and the
                current time, Unix seconds.
            on_result: gets what each poke ended with, and calls `release`.
            on_failure: gets each exception that a callback of the event loop meets; the loop
                would only log it.
        """
        self._origins = origins
        self._clock = clock
        self._instruments = instruments
        self._concurrency = poke_concurrency
        self._set_alarm = set_alarm
        self._on_result = on_result
        self._on_failure = on_failure
        self._attempts: set[PokeAttempt] = set()
        self._poke_started = asyncio.Event()
        self._poke_ended = asyncio.Event()
        self._start_scheduled = False
        self._stopped = False

    @property
    def in_progress(self) -> int:
        """How many pokes are in progress."""
        return len(self._attempts)

    @property
    def is_full(self) -> bool:
        """Whether no poke may start but final ones."""
        return len(self._attempts) >= self._concurrency

    def start_queued(self) -> None:
        """Starts up to `STARTS_PER_TURN` queued pokes now, the rest in later turns of the loop."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for _ in range(STARTS_PER_TURN):
            running = len(self._attempts)
            if self._stopped or running >= 2 * self._concurrency:
                return
            taken = self._origins.take(now, monotonic, final_only=running >= self._concurrency)
            if taken is None:
                if self._origins.paced:
                    self._poke_started.set()
                return
            self._start_poke(*taken, now, monotonic)
        self._start_in_next_turn()

    def _start_in_next_turn(self) -> None:
        if not self._start_scheduled:
            self._start_scheduled = True
            asyncio.get_running_loop().call_soon(self._on_next_turn)

    def _on_next_turn(self) -> None:
        self._start_scheduled = False
        try:
            self.start_queued()
        except Exception as error:  # noqa: BLE001 - `on_failure` reports it
            self._on_failure(error)

    def _start_poke(self, origin: OriginQueue, group: Sequence[HeldWait], now: float, started: float) -> None:
        """Starts one poke for a group. `now` and `started` are one moment, Unix and monotonic."""
        first = group[0]
        timeout, final = first.target.request_timeout, first.final
        cutoff = started + (min(timeout, FINAL_POKE_TIMEOUT) if final else timeout)
        attempt = PokeAttempt(self, group, origin, started, cutoff, final)
        if not self._attempts:
            self._poke_started.set()
        self._attempts.add(attempt)
        if len(group) > 1:
            self._instruments.pokes_coalesced.inc(len(group) - 1)
        for held in group:
            held.in_flight += 1
            self._instruments.poke_lateness.observe(max(0.0, started - held.due))
            if not final and held.deadline < now + timeout:
                self._set_alarm(held, now)
        on_verdicts = partial(self._on_result, attempt)
        try:
            attempt.cancel = first.kind.probe.start_poke(group, on_verdicts)
        except Exception as error:  # noqa: BLE001 - a defect of the probe, which `on_result` logs
            on_verdicts(error)

    def release(
        self, attempt: PokeAttempt, monotonic: float, *, timed_out: bool = False, failed: bool = False
    ) -> None:
        """Takes a poke that has ended off its origin, and starts queued ones in its place.

        `timed_out` and `failed` as for `Origins.done`.
        """
        self._attempts.discard(attempt)
        attempt.cancel = None  # it leads back to the attempt: a reference cycle
        self._origins.done(attempt.origin, monotonic, timed_out=timed_out, failed=failed)
        if self._stopped:
            self._poke_ended.set()
        if self._origins.queued:
            self._start_in_next_turn()

    async def run(self) -> None:
        """Times pokes out until it is cancelled.

        One check of all pokes costs less than a timer for each.
        """
        while True:
            if not self._attempts and not self._origins.paced:
                await self._clock.sleep_until(inf, self._poke_started)
            expected = self._clock.monotonic() + TIMEOUT_CHECK_SECONDS
            await self._clock.sleep(TIMEOUT_CHECK_SECONDS)
            now = self._clock.monotonic()
            if now - expected > HELD_UP_SECONDS:
                for attempt in self._attempts:
                    attempt.cutoff += now - expected
            for n, attempt in enumerate([one for one in self._attempts if one.cutoff <= now], 1):
                attempt.expire()
                if n % STARTS_PER_TURN == 0:
                    await checkpoint()
            if self._origins.paced:
                self._origins.release(now)
                self.start_queued()

    def stop(self) -> None:
        """Starts no more pokes."""
        self._stopped = True

    async def wait_for_end(self, until: float) -> None:
        """After `stop`, waits until a poke ends or the monotonic time `until` comes."""
        await self._clock.sleep_until(until, self._poke_ended)

    async def cancel_all(self) -> None:
        """Cancels all pokes, and waits until they have ended. Cannot be cancelled itself."""
        self.stop()
        for attempt in list(self._attempts):
            attempt.stop()
        with anyio.CancelScope(shield=True):
            while self._attempts:
                await self.wait_for_end(inf)
