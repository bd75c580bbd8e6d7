"""Starts queued pokes within the limits on concurrency, and times them out."""

import asyncio
from collections.abc import Callable, Sequence
from math import inf

import anyio

from waitd.core.local_trouble import local_verdict
from waitd.core.waits.schedule import FINAL_POKE_TIMEOUT
from waitd.core.waits.verdict import LOCAL_ERROR, Unreachable, Verdict
from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait
from waitd.engine.origins import OriginQueue, Origins
from waitd.engine.poke_attempt import PokeAttempt
from waitd.engine.trouble_log import TroubleLog
from waitd.metrics import Instruments

#: How often pokes in progress are checked for timeouts, in seconds: a timeout is late by this much
#: at most.
TIMEOUT_CHECK_SECONDS = 0.05
#: A check that is later than this was held up: the machine was suspended, or the loop was blocked.
#: The answers that came meanwhile are not read yet, so the pokes in progress get that time back.
HELD_UP_SECONDS = 1.0
#: The most pokes started in one turn of the event loop; everything else needs its turn soon.
STARTS_PER_TURN = 100


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
        on_verdicts: Callable[[PokeAttempt, Sequence[Verdict], float], None],
        on_failure: Callable[[Exception], None],
        troubles: TroubleLog,
    ) -> None:
        """Creates a dispatcher.

        Args:
            origins: the queues of due waits.
            clock: wall and monotonic time.
            instruments: the metrics.
            poke_concurrency: how many pokes may be in progress.
            set_alarm: makes a wait due again by its deadline; called with the wait and the
                current time, Unix seconds.
            on_verdicts: gets the verdicts of each poke, and when they came, monotonic seconds.
            on_failure: gets each exception that a callback of the event loop meets; the loop
                would only log it.
            troubles: hears of the daemon's own trouble.
        """
        self._origins = origins
        self._clock = clock
        self._instruments = instruments
        self._concurrency = poke_concurrency
        self._set_alarm = set_alarm
        self._on_verdicts = on_verdicts
        self._on_failure = on_failure
        self._troubles = troubles
        self._trouble = troubles.trouble
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
        timeout, final = group[0].target.request_timeout, group[0].final
        cutoff = started + (min(timeout, FINAL_POKE_TIMEOUT) if final else timeout)
        attempt = PokeAttempt(group, origin, started, cutoff, self._on_attempt_done)
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
        attempt.start()

    def _on_attempt_done(self, attempt: PokeAttempt, verdicts: Sequence[Verdict]) -> None:
        try:
            self._attempts.discard(attempt)
            now = self._clock.monotonic()
            if verdicts and type(verdicts[0]) is not Unreachable:
                self._trouble.reached_at = now
                self._origins.done(attempt.origin, now)
            else:
                verdicts = self._end_unreached(attempt, verdicts, now)
            if self._stopped:
                self._poke_ended.set()
            if self._origins.queued:
                self._start_in_next_turn()
            if verdicts:
                self._on_verdicts(attempt, verdicts, now)
        except Exception as error:  # noqa: BLE001 - `on_failure` reports it
            self._on_failure(error)

    def _end_unreached(
        self, attempt: PokeAttempt, verdicts: Sequence[Verdict], now: float
    ) -> Sequence[Verdict]:
        """Ends a poke that did not reach its origin, or that was stopped."""
        failed = False
        if verdicts:
            verdicts = self._without_own(attempt, verdicts, now)
            failed = verdicts[0].reason != LOCAL_ERROR
        timed_out = attempt.expired or (failed and _has_no_address(verdicts[0]))
        self._origins.done(attempt.origin, now, timed_out=timed_out, failed=failed)
        return verdicts

    def _without_own(
        self, attempt: PokeAttempt, verdicts: Sequence[Verdict], now: float
    ) -> Sequence[Verdict]:
        """Tells the daemon's own trouble from the origin's, and reports it."""
        first, troubles = verdicts[0], self._troubles
        if first.reason == LOCAL_ERROR:
            troubles.report(first.message, "pokes")
        elif isinstance(first, Unreachable) and (
            trouble := troubles.trouble.judge(first, attempt.origin.name, now)
        ):
            troubles.report(trouble, "pokes")
            return [local_verdict(trouble)] * len(verdicts)
        return verdicts

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
            for attempt in [attempt for attempt in self._attempts if attempt.cutoff <= now]:
                attempt.expire()
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


def _has_no_address(verdict: Verdict) -> bool:
    """Whether the host name gave no address: it takes as long as a timeout, and is no answer."""
    return isinstance(verdict, Unreachable) and verdict.reason == "dns"
