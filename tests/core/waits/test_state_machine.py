"""The core as a stateful property test: waits are submitted, poked, cancelled, superseded and
delivered, and the process crashes.

`World` stands for the engine and the store. It keeps what a store keeps, loses in a crash what a
process loses, and leaves every decision to the core. Its invariants are waitd's guarantees.
"""

from copy import deepcopy
from dataclasses import dataclass, field

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from waitd.core.waits.delivery import (
    RETRY_DELAYS,
    Delivered,
    DeliveryFailed,
    DeliveryRejected,
    DeliveryState,
    Receipt,
    after_attempt,
    first_attempt_at,
)
from waitd.core.waits.schedule import Pacing
from waitd.core.waits.step import Finish, cancelled_outcome, step
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.core.waits.wait import RUNS_KEPT, Outcome, Progress, WaitState

jitters = st.floats(0, 1, exclude_max=True)
verdicts = st.sampled_from(
    [
        Pending("http_404"),
        Pending("running", state="k"),
        Unreachable("timeout"),
        Unreachable("http_429", retry_after=700),
        Success({"n": 1}),
        Failure("job_failed"),
        Failure("http_403", silenceable=True),
    ]
)
no_outcome = st.sampled_from([Pending("http_404"), Unreachable("timeout")])


@dataclass
class Delivery:
    state: DeliveryState
    attempts: int
    due: float | None
    sent: int = 0
    settled: int = 0


@dataclass
class Wait:
    pacing: Pacing
    phase: float
    deadline: float
    silent_fail: bool
    key: str | None
    due: float
    progress: Progress = field(default_factory=Progress)
    stored_progress: Progress = field(default_factory=Progress)
    outcomes: list[Outcome] = field(default_factory=list)
    deliveries: list[Delivery] = field(default_factory=list)
    pokes_past_deadline: int = 0
    superseded_at_sent: int | None = None


class World(RuleBasedStateMachine):
    waits = Bundle("waits")

    def __init__(self) -> None:
        super().__init__()
        self.now = 1_800_000_000.0
        self.all: list[Wait] = []

    def end(self, wait: Wait, outcome: Outcome, *, deliver: bool = True) -> None:
        """One transaction: the outcome and its delivery."""
        wait.outcomes.append(outcome)
        state = DeliveryState.QUEUED if deliver else DeliveryState.DEAD
        wait.deliveries.append(Delivery(state, 0, first_attempt_at(self.now) if deliver else None))
        wait.stored_progress = deepcopy(wait.progress)  # stored progress is not updated in place

    @rule(
        target=waits,
        interval=st.floats(0.1, 4000),
        timeout=st.floats(0.1, 20_000),
        backoff=st.booleans(),
        silent=st.booleans(),
        phase=jitters,
        key=st.sampled_from([None, None, "a", "b"]),
    )
    def add(
        self, interval: float, timeout: float, backoff: bool, silent: bool, phase: float, key: str | None
    ) -> Wait:
        for older in self.all:
            if key is not None and older.key == key:
                if not older.outcomes:
                    self.end(older, cancelled_outcome("superseded"), deliver=False)
                for delivery in older.deliveries:
                    if delivery.state is DeliveryState.QUEUED:
                        delivery.state, delivery.due = DeliveryState.DEAD, None
                older.superseded_at_sent = sum(d.sent for d in older.deliveries)
        wait = Wait(
            Pacing(interval, backoff, 3600 if backoff else None),
            phase,
            self.now + timeout,
            silent,
            key,
            self.now,
        )
        self.all.append(wait)
        return wait

    @rule(seconds=st.floats(0.01, 5000))
    def tick(self, seconds: float) -> None:
        self.now += seconds

    @rule(seconds=st.floats(-7200, 7200))
    def clock_jump(self, seconds: float) -> None:
        self.now += seconds
        for wait in self.all:  # as the poker does: pokes keep their distance, within the deadline
            wait.due = min(wait.due + seconds, max(wait.deadline, self.now))

    def poke(self, wait: Wait, verdict: Verdict, duration: float, jitter: float) -> None:
        if wait.outcomes:
            return
        self.now = max(self.now, min(wait.due, wait.deadline))
        started = self.now
        wait.pokes_past_deadline += started >= wait.deadline
        self.now += duration
        pokes = wait.progress.pokes
        result = step(wait, verdict, started, self.now, jitter)
        assert result.progress.pokes == pokes + 1
        wait.progress = result.progress
        if isinstance(result, Finish):
            self.end(wait, result.outcome)
            return
        assert started < wait.deadline
        assert result.due >= self.now
        assert result.due > self.now or self.now >= wait.deadline
        assert result.due <= max(wait.deadline, self.now)
        wait.due = result.due

    @rule(wait=waits, verdict=verdicts, duration=st.floats(0, 30), jitter=jitters)
    def verdict(self, wait: Wait, verdict: Verdict, duration: float, jitter: float) -> None:
        self.poke(wait, verdict, duration, jitter)

    @rule(wait=waits, verdict=no_outcome, duration=st.floats(0, 1), jitter=jitters)
    def verdict_past_the_deadline(self, wait: Wait, verdict: Verdict, duration: float, jitter: float) -> None:
        self.now = max(self.now, wait.deadline)
        self.poke(wait, verdict, duration, jitter)
        assert wait.outcomes

    @rule(wait=waits)
    def cancel(self, wait: Wait) -> None:
        if not wait.outcomes:
            self.end(wait, cancelled_outcome())

    @rule()
    def crash(self) -> None:
        for wait in self.all:
            if not wait.outcomes:
                wait.progress = deepcopy(wait.stored_progress)
                wait.due = self.now

    @rule(wait=waits)
    def flush(self, wait: Wait) -> None:
        wait.stored_progress = deepcopy(wait.progress)  # stored progress is not updated in place

    @rule(
        wait=waits,
        receipt=st.sampled_from(
            [Delivered(), DeliveryFailed("500"), DeliveryFailed("429", 60.0), DeliveryRejected("410")]
        ),
        jitter=jitters,
    )
    def deliver(self, wait: Wait, receipt: Receipt, jitter: float) -> None:
        for delivery in wait.deliveries:
            self.attempt(delivery, receipt, jitter)

    @rule(wait=waits, jitter=jitters)
    def fail_every_delivery_attempt(self, wait: Wait, jitter: float) -> None:
        for delivery in wait.deliveries:
            for _ in RETRY_DELAYS:
                self.attempt(delivery, DeliveryFailed("500"), jitter)
            assert delivery.state is not DeliveryState.QUEUED

    def attempt(self, delivery: Delivery, receipt: Receipt, jitter: float) -> None:
        if delivery.state is not DeliveryState.QUEUED:
            return
        assert delivery.due is not None
        self.now = max(self.now, delivery.due)
        delivery.sent += 1
        after = after_attempt(delivery.attempts + 1, receipt, self.now, jitter)
        delivery.state, delivery.attempts, delivery.due = after.state, after.attempts, after.next_attempt_at
        delivery.settled += after.state is not DeliveryState.QUEUED

    @rule(target=waits, wait=consumes(waits))
    def keep(self, wait: Wait) -> Wait:
        return wait

    @invariant()
    def a_wait_has_at_most_one_outcome_with_one_delivery_each(self) -> None:
        assert all(len(wait.outcomes) <= 1 for wait in self.all)
        assert all(len(wait.deliveries) == len(wait.outcomes) for wait in self.all)

    @invariant()
    def a_wait_times_out_by_exactly_one_poke_after_its_deadline(self) -> None:
        for wait in self.all:
            assert wait.pokes_past_deadline <= 1
            if wait.outcomes and wait.outcomes[0].state is WaitState.TIMEOUT:
                assert wait.pokes_past_deadline == 1

    @invariant()
    def a_delivery_settles_once(self) -> None:
        for wait in self.all:
            for delivery in wait.deliveries:
                assert delivery.settled <= 1
                assert (delivery.due is None) == (delivery.state is not DeliveryState.QUEUED)

    @invariant()
    def a_superseded_wait_delivers_nothing_later(self) -> None:
        for wait in self.all:
            if wait.superseded_at_sent is not None:
                assert sum(d.sent for d in wait.deliveries) == wait.superseded_at_sent

    @invariant()
    def progress_stays_small(self) -> None:
        assert all(len(wait.progress.runs) <= RUNS_KEPT for wait in self.all)


TestWorld = World.TestCase
TestWorld.settings = settings(max_examples=200, stateful_step_count=40)
