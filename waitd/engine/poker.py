"""The poker: holds every waiting wait, pokes each when it is due, and hands over those that ended.

    calendar ── due ──▶ origins' queues ──▶ dispatcher: probe.start_poke ──▶ verdicts: step
        ▲                                                                          │
        └──────────── pending, unreachable ────────────────────────────────────────┴──▶ outcome

While a wait is not due, it costs an entry in the calendar, and neither a task nor a timer.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from sys import getsizeof

import anyio

from waitd.core.waits.schedule import next_grid_point
from waitd.core.waits.wait import Progress
from waitd.engine.calendar import Calendar
from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait, find_origin
from waitd.engine.held_wait_factory import HeldWaitFactory
from waitd.engine.listeners import Listeners
from waitd.engine.memory_sizing import bytes_each, sampled
from waitd.engine.origins import Origins
from waitd.engine.poke_dispatcher import PokeDispatcher
from waitd.engine.progress_buffer import ProgressBuffer
from waitd.engine.submitter import Submitter
from waitd.engine.trouble_log import TroubleLog
from waitd.engine.verdicts import OutcomeWriter, VerdictHandler
from waitd.metrics import Instruments
from waitd.ports import LiveWait, PokerStore, Probe, StoredOutcome, StoredWait, StoreListener, WaitingOn

#: Waits whose poke was missed while the daemon was down are poked within this many seconds, spread
#: by their phase.
CATCH_UP_SECONDS = 10.0
#: A wait that is queued or being poked is checked this often, in seconds, and at its deadline.
ALARM_SECONDS = 30.0
#: News is a signal, or an S3 event, about a wait. A poke for news comes at least this many seconds
#: after the wait's last verdict; all news until then shares that poke.
NEWS_PAUSE_SECONDS = 0.2


class Poker(StoreListener):
    """Holds and pokes waits. A daemon has one; `run` is its loop.

    Attributes:
        listeners: the waits to be poked for news.
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
        jitter: Callable[[], float] = random.random,
        submitter: Submitter | None = None,
        troubles: TroubleLog | None = None,
    ) -> None:
        self._clock = clock
        self._instruments = instruments
        self._factory = HeldWaitFactory(probes, instruments, submitter)
        self._capacity = capacity
        self._held: dict[str, HeldWait] = {}
        self._calendar = Calendar()
        self.listeners = Listeners()
        #: The waits for which news arrived during their poke.
        self._news: set[str] = set()
        self._origins = Origins(poke_concurrency=poke_concurrency, per_origin=per_host_concurrency)
        self._wakeup = asyncio.Event()
        self.outcomes = OutcomeWriter(store, clock, instruments, on_stored=lambda held: self.drop(held.id))
        self.progress_buffer = ProgressBuffer(store, clock)
        verdicts = VerdictHandler(
            clock,
            outcomes=self.outcomes,
            progress_buffer=self.progress_buffer,
            poke_at=self._poke_at,
            on_failure=self._fail,
            jitter=jitter,
            troubles=troubles or TroubleLog(clock, instruments),
        )
        self._dispatcher = PokeDispatcher(
            self._origins,
            clock,
            instruments,
            poke_concurrency=poke_concurrency,
            set_alarm=self._set_alarm,
            on_result=verdicts.on_result,
            on_failure=self._fail,
        )
        self._failure: Exception | None = None

    # ------------------------------------------------------------ held waits

    @property
    def held(self) -> int:
        """How many waits are held."""
        return len(self._held)

    def capacity_left(self) -> int:
        """How many more waits may be accepted."""
        return max(0, self._capacity - len(self._held))

    def live(self, wait_id: str) -> LiveWait | None:
        """Returns the current state of a wait; None when it is not held."""
        held = self._held.get(wait_id)
        if held is None:
            return None
        now, ahead = self._clock.now(), held.due - self._clock.monotonic()
        return LiveWait(held.progress, now + max(0.0, ahead), self._waiting_on(held, now + ahead))

    def live_progress(self, wait_id: str) -> Progress | None:
        """Returns the progress of a wait up to its last poke; None when it is not held."""
        held = self._held.get(wait_id)
        return None if held is None else held.progress

    def _waiting_on(self, held: HeldWait, due: float) -> WaitingOn:
        """`due` is when the wait was or will be due, in Unix seconds."""
        origin = self._origins.get(find_origin(held))
        stage, held_up_by = "scheduled", None
        if held.ended:
            stage = "ending"
        elif held.in_flight:
            stage = "poking"
        elif held.queued or held.final:
            stage = "queued"
            if not held.final:  # no limit holds for the final poke
                full = "poke_concurrency" if self._dispatcher.is_full else None
                held_up_by = self._origins.full(origin) or full
        return WaitingOn(
            stage=stage,
            since=None if stage == "scheduled" else due,
            held_up_by=held_up_by,
            origin=origin.name,
            origin_limit=int(origin.limit),
            origin_running=origin.running,
            origin_held_down=origin.held_down,
            quiet_until=held.quiet_until,
        )

    def poke_now(self, wait_id: str) -> bool:
        """Makes a wait due now; False when it is not held."""
        held = self._held.get(wait_id)
        if held is None or held.ended:
            return False
        if held.idle:
            self._schedule(held, self._clock.monotonic())
        return True

    def poke_soon(self, wait_id: str) -> None:
        """Pokes a wait for news: now, after the poke in progress, or after `NEWS_PAUSE_SECONDS`."""
        held = self._held.get(wait_id)
        if held is None or held.ended:
            return
        if held.in_flight:
            self._news.add(held.id)
        elif held.idle:
            runs = held.progress.runs
            pause = max(0.0, runs[-1].last_at + NEWS_PAUSE_SECONDS - self._clock.now()) if runs else 0.0
            due = self._clock.monotonic() + min(pause, NEWS_PAUSE_SECONDS)
            if due < held.due:
                self._schedule(held, due)

    def holds(self, wait_id: str) -> bool:
        """Whether the wait is held."""
        return wait_id in self._held

    def on_inserted(self, waits: Sequence[StoredWait]) -> None:
        """See `StoreListener`: holds new waits."""
        self.adopt(waits)

    def on_finished(self, outcomes: Sequence[StoredOutcome]) -> None:
        """See `StoreListener`: stops holding waits."""
        for outcome in outcomes:
            self.drop(outcome.wait.id)

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
                    due = self._next_due(held, now) if held.progress.runs else now
                    listens = held.kind.has_topics or wait.spec.wake_on is not None
                    if (listens and self.listeners.add(held, wait)) or due <= now:
                        held.due = monotonic
                        due_now.append(held)
                    else:
                        self._schedule(held, monotonic + due - now)
        finally:  # a defect in one wait must not delay the others
            if self._calendar.put_all(due_now, monotonic):
                self._wakeup.set()

    def _next_due(self, held: HeldWait, now: float) -> float:
        """Returns when an adopted wait is poked again, in Unix seconds."""
        if now >= held.deadline:
            return now
        interval = held.pacing.poke_interval
        last_at = min(held.progress.runs[-1].last_at, now)  # the clock may have been set back
        due = next_grid_point(held.phase, interval, last_at - interval, now)
        if last_at + interval <= now:
            due = min(due, now + held.phase * CATCH_UP_SECONDS)
        return min(due, held.deadline)

    def drop(self, wait_id: str) -> None:
        """Stops holding a wait: it ended, was cancelled, or was superseded."""
        held = self._held.pop(wait_id, None)
        if held is not None:
            held.ended = True
            self._origins.forget(held)
            self._news.discard(wait_id)
            self.listeners.remove(held)

    def reanchor(self, moved: float) -> None:
        """Moves the deadlines with a wall clock that stepped by `moved` seconds.

        The next pokes stay: the calendar uses the monotonic clock.
        """
        for held in self._held.values():
            held.deadline += moved
            if held.quiet_until is not None:
                held.quiet_until += moved

    def bytes_each(self, sample: int) -> float:
        """Estimates the bytes of a held wait from `sample` waits; 0 when none is held."""
        if not self._held:
            return 0.0
        tables = getsizeof(self._held) + self._calendar.bytes() + self.progress_buffer.bytes()
        return bytes_each(sampled(self._held, sample)) + tables / len(self._held)

    def refresh_gauges(self) -> None:
        """Sets the gauges; called before a scrape."""
        instruments = self._instruments
        instruments.pokes_in_flight.set(self._dispatcher.in_progress)
        instruments.waits_overdue.set(self._origins.queued)
        instruments.waits_ending.set(self.outcomes.pending)
        instruments.origins_limited.set(self._origins.limited)
        instruments.capacity_left.set(self.capacity_left())

    # ------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Pokes until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.outcomes.run, name="outcomes")
            tasks.start_soon(self._dispatcher.run, name="poke timeouts")
            try:
                while self._failure is None:
                    self._queue_due()
                    due = self._calendar.next_due()
                    await self._clock.sleep_until(inf if due is None else due, self._wakeup)
                raise self._failure
            finally:
                await self._dispatcher.cancel_all()

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
        self._dispatcher.start_queued()
        held_up, soon = [held for held in queued if held.queued], now + ALARM_SECONDS
        self._calendar.put_all([held for held in held_up if held.deadline >= soon], monotonic + ALARM_SECONDS)
        for held in [held for held in held_up if held.deadline < soon]:
            self._set_alarm(held, now)

    def _schedule(self, held: HeldWait, due: float) -> None:
        held.due = due
        if self._calendar.put(held, due):
            self._wakeup.set()

    def _poke_at(self, held: HeldWait, due: float) -> None:
        """Schedules the next poke after one; now, if news arrived meanwhile."""
        held.due = due
        if self._calendar.put(held, due):
            self._wakeup.set()
        if self._news and held.id in self._news:
            self._news.discard(held.id)
            self.poke_soon(held.id)

    def _set_alarm(self, held: HeldWait, now: float) -> None:
        """Makes a wait that is queued or being poked come up again by its deadline.

        A far deadline gets an earlier alarm, which is set again. The calendar keeps an alarm until
        it is due, so a far one would stay long after the wait has ended.
        """
        pause = min(held.deadline - now, ALARM_SECONDS)
        if self._calendar.put(held, self._clock.monotonic() + pause):
            self._wakeup.set()

    # ------------------------------------------------------------ shutdown

    async def drain(self, grace: float) -> None:
        """Starts no more pokes; waits up to `grace` seconds for pokes and outcomes."""
        self._dispatcher.stop()
        limit = self._clock.monotonic() + grace
        while (self._dispatcher.in_progress or self.outcomes.pending) and self._clock.monotonic() < limit:
            await self._dispatcher.wait_for_end(min(limit, self._clock.monotonic() + 0.05))
