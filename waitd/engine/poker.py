"""The poker: holds every waiting wait, looks at each when it is due, and hands over those that ended.

    calendar ── due ──▶ origins ── a free place ──▶ a flight: probe.poke ──▶ core.step ──▶ calendar, or the ending

Waiting costs a calendar entry. A poke costs a flight, which has no task of its own where looking at the answer is enough.
"""

import asyncio
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from math import inf
from sys import getsizeof

import anyio
import structlog

from waitd.core.errors import InvalidInput
from waitd.core.waits.schedule import FINAL_POKE_TIMEOUT, Pacing, next_grid_point
from waitd.core.waits.step import Finish, step
from waitd.core.waits.verdict import Pending, Unreachable, Verdict
from waitd.engine.calendar import Calendar
from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait, ProbeKind, UnknownTarget
from waitd.engine.listeners import Listeners
from waitd.engine.memory_sizing import bytes_each, sampled
from waitd.engine.origins import OriginQueue, Origins
from waitd.engine.poke_attempt import PokeAttempt
from waitd.engine.recording import OutcomeWriter, ProgressBuffer
from waitd.engine.submitter import Submitter
from waitd.metrics import Instruments
from waitd.ports import LiveWait, PokerStore, Probe, StoredWait, Target, WaitingOn

log = structlog.get_logger(__name__)

#: Waits whose poke was missed while the daemon was down are looked at within this many seconds, spread by their phase.
CATCH_UP_SECONDS = 10.0
#: How often an entry that is queued or being poked is looked after, in seconds; and at its deadline.
ALARM_SECONDS = 30.0
#: How often pokes in flight are looked at for those that have had their time, in seconds: a timeout is that much late at most.
SWEEP_SECONDS = 0.05
#: A wait is not poked for news within this time after its last verdict, in seconds; news that comes faster shares a poke.
HINT_PAUSE = 0.2
#: How many different pacings are shared between the waits that have them.
PACINGS = 1000
#: How many pokes are started in one turn of the loop at most: others than pokes want their turn soon.
STARTED_AT_ONCE = 100


class Poker:
    """Holds and pokes. One per daemon; `run` is its loop."""

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
    ) -> None:
        self._clock = clock
        self._instruments = instruments
        self._kinds = {name: ProbeKind(name, probe, instruments) for name, probe in probes.items()}
        self._capacity = capacity
        self._concurrency = poke_concurrency
        self._jitter = jitter
        self._submitter = submitter
        if submitter is not None:
            submitter.wake = self.poke_now
        self._held: dict[str, HeldWait] = {}
        self._pacings: dict[tuple[float, bool, float | None], Pacing] = {}
        self._calendar = Calendar()
        #: Who is to be poked when there is news.
        self.listeners = Listeners()
        #: Those for whom news came while they were being poked.
        self._hinted: set[str] = set()
        self._origins = Origins(places=poke_concurrency, per_origin=per_host_concurrency)
        self._wakeup = asyncio.Event()
        self._flights: set[PokeAttempt] = set()
        self._taken_off = asyncio.Event()
        self._landed = asyncio.Event()
        self._starting = False
        self._endings = OutcomeWriter(store, clock, instruments, stored=lambda entry: self.drop(entry.id))
        #: What waits have learned and is not yet on disk.
        self.progress_buffer = ProgressBuffer(store, clock)
        self._draining = False
        self._failure: Exception | None = None

    # ------------------------------------------------------------ what others ask and tell

    @property
    def held(self) -> int:
        """How many waits are in hand."""
        return len(self._held)

    @property
    def pending_outcomes(self) -> int:
        """How many waits have ended and are not yet on disk."""
        return self._endings.open

    @property
    def refused_outcomes(self) -> int:
        """How many of them the store refused when it was last asked."""
        return self._endings.refused

    def capacity_left(self) -> int:
        """How many more waits would be accepted now."""
        return max(0, self._capacity - len(self._held))

    def live(self, wait_id: str) -> LiveWait | None:
        """What is known of a wait in hand; None where it is not held."""
        entry = self._held.get(wait_id)
        if entry is None:
            return None
        now, ahead = self._clock.now(), entry.due - self._clock.monotonic()
        return LiveWait(entry.progress, now + max(0.0, ahead), self._waiting_on(entry, now + ahead))

    def _waiting_on(self, entry: HeldWait, due: float) -> WaitingOn:
        """`due`: when it was or will be due, Unix seconds."""
        origin = self._origins.get(entry.kind.probe.origin(entry.target))
        stage, held_up_by = "scheduled", None
        if entry.ended:
            stage = "ending"
        elif entry.flying:
            stage = "poking"
        elif entry.queued or entry.last:
            stage = "queued"
            if not entry.last:  # the poke at the deadline starts at once, whatever its origin is doing
                held_up_by = self._origins.full(origin) or self._full()
        return WaitingOn(
            stage=stage,
            since=None if stage == "scheduled" else due,
            held_up_by=held_up_by,
            origin=origin.name,
            origin_limit=int(origin.limit),
            origin_running=origin.running,
            origin_held_down=origin.held_down,
            quiet_until=entry.quiet_until,
        )

    def _full(self) -> str | None:
        return "poke_concurrency" if len(self._flights) >= self._concurrency else None

    def poke_now(self, wait_id: str) -> bool:
        """Makes a wait in hand due at once; False where it is not held."""
        entry = self._held.get(wait_id)
        if entry is None or entry.ended:
            return False
        if entry.at_rest:
            self._schedule(entry, self._clock.monotonic())
        return True

    def poke_soon(self, wait_id: str) -> None:
        """There is news for a wait: it is poked at once, or once more where it is being poked, but not more often than is good."""
        entry = self._held.get(wait_id)
        if entry is None or entry.ended:
            return
        if entry.flying:
            self._hinted.add(entry.id)
        elif entry.at_rest:
            runs = entry.progress.runs
            pause = max(0.0, runs[-1].last_at + HINT_PAUSE - self._clock.now()) if runs else 0.0
            due = self._clock.monotonic() + min(pause, HINT_PAUSE)
            if due < entry.due:
                self._schedule(entry, due)

    def holds(self, wait_id: str) -> bool:
        """Whether the wait is in hand."""
        return wait_id in self._held

    def adopt(self, waits: Iterable[StoredWait]) -> None:
        """Takes waits in hand that are in the store. New ones are due at once; those met again keep to their grid."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        due_now: list[HeldWait] = []
        try:
            for wait in waits:
                if wait.id not in self._held:
                    entry = self._entry(wait)
                    self._held[wait.id] = entry
                    due = self._next_due(entry, now) if entry.progress.runs else now
                    if self.listeners.add(entry, wait) or due <= now:
                        entry.due = monotonic
                        due_now.append(entry)
                    else:
                        self._schedule(entry, monotonic + due - now)
        finally:  # a defect met with one of them is not to keep the others waiting
            if self._calendar.put_together(due_now, monotonic):
                self._wakeup.set()

    def _entry(self, wait: StoredWait) -> HeldWait:
        spec = wait.spec
        asked = (spec.poke_interval, spec.exponential_backoff, spec.max_wait)
        pacing = self._pacings.get(asked) or self._new_pacing(Pacing(*asked))
        kind = self._kinds.get(spec.kind)
        target: Target
        try:
            if kind is None:
                raise InvalidInput.at("/kind", f"this waitd knows no kind {spec.kind}")
            if spec.submit is not None:
                if self._submitter is None:
                    raise InvalidInput.at("/submit", "this waitd submits nothing")
                kind, target = self._submitter.target_of(wait, kind)
            else:
                target = wait.target or kind.probe.parse(spec.params, namespace=wait.namespace)
                if not kind.probe.polled:
                    pacing = Pacing(spec.timeout)
        except InvalidInput as error:
            log.warning("wait_not_understood", wait_id=wait.id, kind=spec.kind, why=str(error))
            probe = UnknownTarget(f"This waitd does not understand the wait: {error}")
            kind, target = ProbeKind(spec.kind, probe, self._instruments), probe
        return HeldWait.of(wait, kind, target, pacing)

    def _new_pacing(self, pacing: Pacing) -> Pacing:
        if len(self._pacings) < PACINGS:
            self._pacings[pacing] = pacing
        return pacing

    def _next_due(self, entry: HeldWait, now: float) -> float:
        """When a wait just taken in hand that has been poked before is poked again, Unix seconds."""
        if now >= entry.deadline:
            return now
        runs = entry.progress.runs
        interval = entry.pacing.poke_interval
        due = next_grid_point(entry.phase, interval, runs[-1].last_at - interval, now)
        if runs[-1].last_at + interval <= now:
            due = min(due, now + entry.phase * CATCH_UP_SECONDS)
        return min(due, entry.deadline)

    def drop(self, wait_id: str) -> None:
        """Lets go of a wait that ended: here, by a cancel, or by a newer one that superseded it."""
        entry = self._held.pop(wait_id, None)
        if entry is not None:
            entry.ended = True
            self._origins.forget(entry)
            self._hinted.discard(wait_id)
            self.listeners.remove(entry)

    def reanchor(self) -> None:
        """The wall clock jumped: deadlines that come earlier now than the next poke bring it forward."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for entry in self._held.values():
            deadline = monotonic + max(0.0, entry.deadline - now)
            if entry.at_rest and entry.due > deadline:
                self._schedule(entry, deadline)

    def bytes_each(self, sample: int) -> float:
        """What a wait in hand takes in memory, in bytes, by `sample` of them; 0 where there are none."""
        if not self._held:
            return 0.0
        tables = getsizeof(self._held) + self._calendar.bytes() + self.progress_buffer.bytes()
        return bytes_each(sampled(self._held, sample)) + tables / len(self._held)

    def refresh_gauges(self) -> None:
        """Sets the gauges that follow from what is in hand; called before a scrape."""
        instruments = self._instruments
        instruments.pokes_in_flight.set(len(self._flights))
        instruments.waits_overdue.set(self._origins.queued)
        instruments.waits_ending.set(self._endings.open)
        instruments.origins_limited.set(self._origins.limited)
        instruments.capacity_left.set(self.capacity_left())

    # ------------------------------------------------------------ the loop

    async def run(self) -> None:
        """Pokes until it is cancelled."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._endings.run, name="endings")
            tasks.start_soon(self._sweep, name="sweep of flights")
            try:
                while self._failure is None:
                    self._queue_due()
                    due = self._calendar.next_due()
                    await self._clock.sleep_until(inf if due is None else due, self._wakeup)
                raise self._failure
            finally:
                await self._give_up()

    async def _give_up(self) -> None:
        self._draining = True
        for flight in list(self._flights):
            flight.stop()
        with anyio.CancelScope(shield=True):
            while self._flights:
                await self._clock.sleep_until(inf, self._landed)

    def _queue_due(self) -> None:
        now, monotonic, origins = self._clock.now(), self._clock.monotonic(), self._origins
        queued: list[HeldWait] = []
        for entry in self._calendar.take_due(monotonic):
            if entry.ended or entry.last:
                continue
            if now >= entry.deadline:
                origins.add_last(entry)
            elif entry.queued or entry.flying:  # it was looked after in time; its deadline is still to come
                self._alarm(entry, now)
            else:
                origins.add(entry, entry.kind.probe.origin(entry.target))
                queued.append(entry)
        self._start()
        held_up, soon = [entry for entry in queued if entry.queued], now + ALARM_SECONDS
        self._calendar.put_together(
            [entry for entry in held_up if entry.deadline >= soon], monotonic + ALARM_SECONDS
        )
        for entry in [entry for entry in held_up if entry.deadline < soon]:
            self._alarm(entry, now)

    def _schedule(self, entry: HeldWait, due: float) -> None:
        entry.due = due
        if self._calendar.put(entry, due):
            self._wakeup.set()

    def _alarm(self, entry: HeldWait, now: float) -> None:
        """Makes an entry that is queued or being poked come up again by its deadline, whatever holds it up.

        Not at the deadline itself when that is far: each alarm leaves a reference in its bucket until the bucket comes up.
        """
        pause = min(entry.deadline - now, ALARM_SECONDS)
        if self._calendar.put(entry, self._clock.monotonic() + pause):
            self._wakeup.set()

    # ------------------------------------------------------------ flights

    def _start_soon(self) -> None:
        """In the next turn of the loop, pokes that may start do."""
        if not self._starting:
            self._starting = True
            asyncio.get_running_loop().call_soon(self._start_now)

    def _start_now(self) -> None:
        self._starting = False
        try:
            self._start()
        except Exception as error:  # noqa: BLE001 - `run` raises it
            self._fail(error)

    def _fail(self, error: Exception) -> None:
        """A defect of the poker's own, met in a callback of the loop: it must not go unseen, as those do."""
        self._failure = error
        self._wakeup.set()

    def _start(self) -> None:
        """Starts the pokes that may, but not so many that all others wait. Those at a deadline have as many places again."""
        now, monotonic = self._clock.now(), self._clock.monotonic()
        for _ in range(STARTED_AT_ONCE):
            flying = len(self._flights)
            if self._draining or flying >= 2 * self._concurrency:
                return
            taken = self._origins.take(now, monotonic, last_only=flying >= self._concurrency)
            if taken is None:
                return
            self._take_off(*taken, now, monotonic)
        self._start_soon()

    async def _sweep(self) -> None:
        """Ends pokes that have had their time. One look at all of them costs less than a timer for each."""
        while True:
            if not self._flights:
                await self._clock.sleep_until(inf, self._taken_off)
            await self._clock.sleep_until(self._clock.monotonic() + SWEEP_SECONDS, asyncio.Event())
            now = self._clock.monotonic()
            for flight in [flight for flight in self._flights if flight.cutoff <= now]:
                flight.expire()

    def _take_off(self, origin: OriginQueue, group: Sequence[HeldWait], now: float, started: float) -> None:
        """Begins to poke a group; `now` and `started` are the Unix and monotonic seconds when it was taken."""
        timeout, last = group[0].target.request_timeout, group[0].last
        cutoff = started + (min(timeout, FINAL_POKE_TIMEOUT) if last else timeout)
        flight = PokeAttempt(group, origin, started, cutoff, self._land)
        if not self._flights:
            self._taken_off.set()
        self._flights.add(flight)
        lateness = self._instruments.poke_lateness
        if len(group) > 1:
            self._instruments.pokes_coalesced.inc(len(group) - 1)
        for entry in group:
            entry.flying += 1
            lateness.observe(max(0.0, started - entry.due))
            if not last and entry.deadline < now + timeout:
                self._alarm(entry, now)
        flight.start()

    def _land(self, flight: PokeAttempt, verdicts: Sequence[Verdict]) -> None:
        """A group's poke is over, however it ended."""
        try:
            self._flights.discard(flight)
            self._origins.done(flight.origin, timed_out=flight.expired)
            if self._draining:
                self._landed.set()
            if self._origins.queued:
                self._start_soon()
            if verdicts:
                self._judge_all(flight, verdicts)
        except Exception as error:  # noqa: BLE001 - `run` raises it
            self._fail(error)

    def _judge_all(self, flight: PokeAttempt, verdicts: Sequence[Verdict]) -> None:
        now, landed = self._clock.now(), self._clock.monotonic()
        group, elapsed = flight.group, landed - flight.started
        group[0].kind.duration.observe(elapsed)
        started_at = now - elapsed  # not as it was read at the start: the wall clock may have jumped since
        for entry, verdict in zip(group, verdicts, strict=True):
            start = max(started_at, entry.deadline) if flight.last else started_at
            self._judge(entry, verdict, start, now, landed)

    def _judge(self, entry: HeldWait, verdict: Verdict, started_at: float, now: float, landed: float) -> None:
        """`now` and `landed`: Unix and monotonic seconds of the verdict."""
        entry.flying -= 1
        if entry.ended:
            return
        entry.kind.verdicts[type(verdict)].count += 1
        state = entry.progress.state
        result = step(entry, verdict, started_at, now, self._jitter())
        entry.progress = result.progress
        asked = verdict.retry_after if isinstance(verdict, (Pending, Unreachable)) else None
        entry.quiet_until = None if asked is None else now + asked
        if isinstance(result, Finish):
            self._endings.add(entry, result.outcome, now)
            return
        if not entry.last:  # else the poke at the deadline is on its way, and decides
            self._schedule(entry, landed + result.due - now)
            if self._hinted and entry.id in self._hinted:
                self._hinted.discard(entry.id)
                self.poke_soon(entry.id)
        self.progress_buffer.note(entry, state_changed=entry.progress.state is not state)

    # ------------------------------------------------------------ the end of the daemon

    async def drain(self, grace: float) -> None:
        """Starts no more pokes, waits up to `grace` seconds for those in flight and for outcomes on their way to disk."""
        self._draining = True
        limit = self._clock.monotonic() + grace
        while (self._flights or self._endings.open) and self._clock.monotonic() < limit:
            await self._clock.sleep_until(min(limit, self._clock.monotonic() + 0.05), self._landed)
