"""The poker: holds every waiting wait, pokes each when it is due, and hands over those that ended.

    calendar ── due ──▶ origins' queues ── limits ──▶ probe.start_poke ──▶ verdicts: step
        ▲                                                                        │
        └───────────── pending, unreachable ─────────────────────────────────────┴──▶ outcome

While a wait is not due, it costs an entry in the calendar, and neither a task nor a timer.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from math import inf

import anyio

from waitd.core.fair_shares import Weight, equal_weight
from waitd.core.waits.schedule import FINAL_POKE_TIMEOUT, next_poke_after_restart
from waitd.core.waits.wait import Progress
from waitd.engine.calendar import Calendar
from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait, find_origin
from waitd.engine.held_wait_factory import HeldWaitFactory
from waitd.engine.live_waits import LiveWaits
from waitd.engine.news import NewsPokes
from waitd.engine.origins import OriginQueue, Origins
from waitd.engine.poke_attempts import STARTS_PER_TURN, PokeAttempt, PokeAttempts
from waitd.engine.poker_gauges import PokerGauges
from waitd.engine.progress_buffer import ProgressBuffer
from waitd.engine.submitter import Submitter
from waitd.engine.subscriptions import Subscriptions
from waitd.engine.trouble_log import TroubleLog
from waitd.engine.verdicts import OutcomeWriter, VerdictHandler
from waitd.metrics import Instruments
from waitd.ports import LiveWait, PokerStore, Probe, StoredOutcome, StoredWait, StoreListener

#: A wait that is queued or being poked is checked this often, in seconds, and at its deadline.
ALARM_SECONDS = 30.0


class Poker(StoreListener):
    """Holds and pokes waits. A daemon has one; `run` is its loop.

    Final pokes, those at a deadline, may start above `poke_concurrency`, up to twice as many.

    Attributes:
        subscriptions: the waits to be poked for news, by topic.
        news: pokes them.
        gauges: the poker in figures.
        outcomes: the outcomes that are not on disk yet.
        progress_buffer: the progress that is not on disk yet.
    """

    def __init__(
        self,
        store: PokerStore,
        probes: Mapping[str, Probe],
        clock: Clock,
        instruments: Instruments,
        *,
        capacity: int,
        poke_concurrency: int,
        per_host_concurrency: int,
        weight: Weight = equal_weight,
        jitter: Callable[[], float] = random.random,
        submitter: Submitter | None = None,
        troubles: TroubleLog | None = None,
    ) -> None:
        self._clock = clock
        self._instruments = instruments
        self._factory = HeldWaitFactory(probes, instruments, submitter)
        self._capacity = capacity
        self._concurrency = poke_concurrency
        self._held: dict[str, HeldWait] = {}
        self._calendar = Calendar()
        self._origins = Origins(
            poke_concurrency=poke_concurrency, per_origin=per_host_concurrency, weight=weight
        )
        self._attempts = PokeAttempts(clock, self._origins, start_queued=self.start_queued)
        self._in_progress = self._attempts.in_progress
        self._wakeup = asyncio.Event()
        self._start_scheduled = False
        self._stopped = False
        self._failure: Exception | None = None
        self.subscriptions = Subscriptions()
        self.news = NewsPokes(self._held, clock, schedule=self._schedule)
        self._news_during_poke = self.news.during_poke
        self.outcomes = OutcomeWriter(store, clock, instruments, on_stored=lambda held: self.drop(held.id))
        self.progress_buffer = ProgressBuffer(store, clock)
        verdicts = VerdictHandler(
            clock,
            outcomes=self.outcomes,
            progress_buffer=self.progress_buffer,
            release=self.release,
            poke_at=self.poke_at,
            on_failure=self._fail,
            jitter=jitter,
            troubles=troubles or TroubleLog(clock, instruments),
        )
        self._on_result = verdicts.on_result
        self._live_waits = LiveWaits(
            self._held,
            self._origins,
            clock,
            in_progress=self._in_progress,
            poke_concurrency=poke_concurrency,
        )
        self.gauges = PokerGauges(
            instruments,
            self._held,
            self._calendar,
            self._origins,
            in_progress=self._in_progress,
            outcomes=self.outcomes,
            progress_buffer=self.progress_buffer,
            capacity_left=self.capacity_left,
        )

    # ------------------------------------------------------------ a wait comes, and goes

    def on_inserted(self, waits: Sequence[StoredWait]) -> None:
        """See `StoreListener`: holds new waits."""
        self.adopt(waits)

    def adopt(self, waits: Iterable[StoredWait]) -> None:
        """Holds stored waits.

        A new one is due now; one that has been poked before keeps its grid.
        """
        now, monotonic = self._clock.now(), self._clock.monotonic()
        due_now: list[HeldWait] = []
        try:
            for wait in waits:
                if wait.id not in self._held:
                    held = self._factory.create(wait)
                    # The wall clock may have been set back since the wait was accepted.
                    held.deadline = min(held.deadline, now + wait.spec.timeout)
                    self._held[wait.id] = held
                    due = now
                    if (runs := held.progress.runs) and not held.kind.probe.poked_at_start:
                        last_at, interval = runs[-1].last_at, held.pacing.poke_interval
                        due = next_poke_after_restart(held.phase, interval, last_at, now)
                        due = min(due, held.deadline)
                    subscribes = held.kind.has_topics or wait.spec.wake_on is not None
                    if (subscribes and self.subscriptions.add(held, wait)) or due <= now:
                        held.due = monotonic
                        due_now.append(held)
                    else:
                        self._schedule(held, monotonic + due - now)
        finally:  # a defect in one wait must not delay the others
            if self._calendar.put_all(due_now, monotonic):
                self._wakeup.set()

    def on_finished(self, outcomes: Sequence[StoredOutcome]) -> None:
        """See `StoreListener`: stops holding waits."""
        for outcome in outcomes:
            self.drop(outcome.wait.id)

    def drop(self, wait_id: str) -> None:
        """Stops holding a wait: it ended, was cancelled, or was superseded."""
        held = self._held.pop(wait_id, None)
        if held is not None:
            held.ended = True
            self._origins.forget(held)
            self._news_during_poke.discard(wait_id)
            self.subscriptions.remove(held)

    # ------------------------------------------------------------ a wait becomes due

    async def run(self) -> None:
        """Pokes until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.outcomes.run, name="outcomes")
            tasks.start_soon(self._attempts.run, name="poke timeouts")
            try:
                while self._failure is None:
                    self._queue_due()
                    due = self._calendar.next_due()
                    await self._clock.sleep_until(inf if due is None else due, self._wakeup)
                raise self._failure
            finally:
                self._stopped = True
                await self._attempts.cancel_all()

    def _fail(self, error: Exception) -> None:
        """Makes `run` raise a defect that was met in a callback of the event loop."""
        self._failure = error
        self._wakeup.set()

    def _queue_due(self) -> None:
        now, monotonic, origins = self._clock.now(), self._clock.monotonic(), self._origins
        queued: list[HeldWait] = []
        for held in self._calendar.take_due(monotonic):
            if held.ended or held.final:
                continue
            if now >= held.deadline:
                origins.add_final(held)
            elif held.queued or held.in_flight:  # an alarm before the deadline
                self._set_alarm(held, now)
            else:
                try:
                    origin = held.kind.probe.origin(held.target)
                except Exception:  # noqa: BLE001 - `find_origin` logs it
                    origin = find_origin(held)
                origins.add(held, origin)
                queued.append(held)
        self.start_queued()
        waiting, soon = [held for held in queued if held.queued], now + ALARM_SECONDS
        self._calendar.put_all([held for held in waiting if held.deadline >= soon], monotonic + ALARM_SECONDS)
        for held in [held for held in waiting if held.deadline < soon]:
            self._set_alarm(held, now)

    def _set_alarm(self, held: HeldWait, now: float) -> None:
        """Makes a wait that is queued or being poked come up again by its deadline.

        A far deadline gets an earlier alarm, which is set again. The calendar keeps an alarm until
        it is due, so a far one would stay long after the wait has ended.
        """
        pause = min(held.deadline - now, ALARM_SECONDS)
        if self._calendar.put(held, self._clock.monotonic() + pause):
            self._wakeup.set()

    # ------------------------------------------------------------ a poke starts, and ends

    def start_queued(self) -> None:
        """Starts up to `STARTS_PER_TURN` queued pokes now, the rest in later turns of the loop."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for _ in range(STARTS_PER_TURN):
            running = len(self._in_progress)
            if self._stopped or running >= 2 * self._concurrency:
                return
            taken = self._origins.take(now, monotonic, final_only=running >= self._concurrency)
            if taken is None:
                if self._origins.paced:
                    self._attempts.watch_pace(monotonic)
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
        except Exception as error:  # noqa: BLE001 - `run` raises it
            self._fail(error)

    def _start_poke(self, origin: OriginQueue, group: Sequence[HeldWait], now: float, started: float) -> None:
        """Starts one poke for a group. `now` and `started` are one moment, Unix and monotonic."""
        first = group[0]
        timeout, final = first.target.request_timeout, first.final
        cutoff = started + (min(timeout, FINAL_POKE_TIMEOUT) if final else timeout)
        attempt = PokeAttempt(group, origin, started, cutoff, final)
        if cutoff < self._attempts.next_check:
            self._attempts.watch(attempt)
        self._in_progress.add(attempt)
        if len(group) > 1:
            self._instruments.pokes_coalesced.inc(len(group) - 1)
        for held in group:
            held.in_flight += 1
            self._instruments.poke_lateness.observe(max(0.0, started - held.due))
            if not final and held.deadline < now + timeout:
                self._set_alarm(held, now)
        on_verdicts = partial(self._on_result, attempt)  # that of `VerdictHandler`
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
        self._in_progress.discard(attempt)
        attempt.cancel = None  # it leads back to the attempt: a reference cycle
        self._origins.done(attempt.origin, monotonic, timed_out=timed_out, failed=failed)
        if self._stopped:
            self._attempts.ended.set()
        if self._origins.queued:
            self._start_in_next_turn()

    def poke_at(self, held: HeldWait, due: float) -> None:
        """Schedules the next poke after one; soon, if news came meanwhile."""
        held.due = due
        if self._calendar.put(held, due):
            self._wakeup.set()
        if self._news_during_poke:
            self.news.on_scheduled(held)

    def _schedule(self, held: HeldWait, due: float) -> None:
        held.due = due
        if self._calendar.put(held, due):
            self._wakeup.set()

    # ------------------------------------------------------------ for the API and the other loops

    @property
    def held(self) -> int:
        """How many waits are held."""
        return len(self._held)

    def capacity_left(self) -> int:
        """How many more waits may be accepted."""
        return max(0, self._capacity - len(self._held))

    def holds(self, wait_id: str) -> bool:
        """Whether the wait is held."""
        return wait_id in self._held

    def live(self, wait_id: str) -> LiveWait | None:
        """Returns the current state of a wait; None when it is not held."""
        return self._live_waits.get(wait_id)

    def live_progress(self, wait_id: str) -> Progress | None:
        """Returns the progress of a wait up to its last poke; None when it is not held."""
        return self._live_waits.progress(wait_id)

    def poke_now(self, wait_id: str) -> bool:
        """Makes a wait due now; False when it is not held."""
        held = self._held.get(wait_id)
        if held is None or held.ended:
            return False
        if held.idle:
            self._schedule(held, self._clock.monotonic())
        return True

    def on_clock_step(self, moved: float) -> None:
        """Moves the deadlines with a wall clock that stepped by `moved` seconds.

        The next pokes stay: the calendar uses the monotonic clock.
        """
        for held in self._held.values():
            held.deadline += moved
            if held.quiet_until is not None:
                held.quiet_until += moved

    async def drain(self, grace: float) -> None:
        """Starts no more pokes; waits up to `grace` seconds for pokes and outcomes."""
        self._stopped = True
        limit = self._clock.monotonic() + grace
        while (self._in_progress or self.outcomes.pending) and self._clock.monotonic() < limit:
            await self._attempts.wait_for_end(min(limit, self._clock.monotonic() + 0.05))
