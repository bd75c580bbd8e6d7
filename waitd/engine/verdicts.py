"""What follows a poke: a verdict becomes the next poke or an outcome, and outcomes are stored."""

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from itertools import chain, repeat
from math import inf
from typing import Protocol

import structlog

from waitd.core.connections.proxies import noted_proxy, through_proxy
from waitd.core.errors import StoreUnavailable
from waitd.core.local_trouble import local_trouble, local_verdict
from waitd.core.waits.step import Finish, step
from waitd.core.waits.verdict import LOCAL_ERROR, Unreachable, Verdict
from waitd.core.waits.wait import Outcome
from waitd.engine.clock import Clock
from waitd.engine.held_wait import HeldWait
from waitd.engine.poke_attempts import PokeAttempt
from waitd.engine.progress_buffer import ProgressBuffer
from waitd.engine.trouble_log import TroubleLog
from waitd.metrics import Instruments
from waitd.ports import PokerStore, UnstoredOutcome

log = structlog.get_logger(__name__)

TIMED_OUT = Unreachable("timeout", "No complete answer in time.")
PROBE_FAILED = Unreachable("internal_error", "The probe failed; the daemon's log has the traceback.")
#: How many outcomes are written at a time.
BATCH = 1000


class Release(Protocol):
    """Takes a poke that has ended off its origin; the arguments are those of `Origins.done`."""

    def __call__(
        self, attempt: PokeAttempt, monotonic: float, /, *, timed_out: bool = False, failed: bool = False
    ) -> None: ...


class VerdictHandler:
    """Applies the verdicts of each poke to the waits that it was made for."""

    def __init__(
        self,
        clock: Clock,
        *,
        outcomes: "OutcomeWriter",
        progress_buffer: ProgressBuffer,
        release: Release,
        poke_at: Callable[[HeldWait, float], None],
        on_failure: Callable[[Exception], None],
        jitter: Callable[[], float],
        troubles: TroubleLog,
    ) -> None:
        """Creates a handler.

        Args:
            clock: wall and monotonic time.
            outcomes: stores how waits end.
            progress_buffer: stores the progress of the others.
            release: ends a poke at its origin.
            poke_at: schedules the next poke of a wait, monotonic seconds.
            on_failure: gets each exception; the event loop would only log it.
            jitter: a random number in [0, 1).
            troubles: hears of the daemon's own trouble.
        """
        self._clock = clock
        self._outcomes = outcomes
        self._progress_buffer = progress_buffer
        self._release = release
        self._poke_at = poke_at
        self._on_failure = on_failure
        self._jitter = jitter
        self._troubles = troubles
        self._trouble = troubles.trouble

    def on_result(self, attempt: PokeAttempt, result: Sequence[Verdict] | BaseException) -> None:
        """Ends a poke with a verdict for each of its waits, or with the error that ended it."""
        try:
            monotonic = self._clock.monotonic()
            verdicts = result
            if type(verdicts) is not list or len(verdicts) != len(attempt.group):
                verdicts = _verdicts_of(attempt, result)
            if verdicts and type(verdicts[0]) is not Unreachable:
                self._trouble.reached_at = monotonic
                self._release(attempt, monotonic)
            else:
                verdicts = self._end_unreached(attempt, verdicts, monotonic)
            if verdicts:
                self._apply_all(attempt, verdicts, monotonic)
        except Exception as error:  # noqa: BLE001 - `on_failure` reports it
            self._on_failure(error)

    def _end_unreached(
        self, attempt: PokeAttempt, verdicts: Sequence[Verdict], monotonic: float
    ) -> Sequence[Verdict]:
        """Ends a poke that did not reach its origin, or that was stopped."""
        failed = no_address = False
        if verdicts:
            verdicts = self._without_own(attempt, verdicts)
            failed = verdicts[0].reason != LOCAL_ERROR
            # It takes as long as a timeout, and is no answer.
            no_address = failed and verdicts[0].reason == "dns"
        self._release(attempt, monotonic, timed_out=attempt.expired or no_address, failed=failed)
        return verdicts

    def _without_own(self, attempt: PokeAttempt, verdicts: Sequence[Verdict]) -> Sequence[Verdict]:
        """Tells the daemon's own trouble from the origin's, and reports it."""
        first = verdicts[0]
        if not isinstance(first, Unreachable):
            return verdicts
        trouble = self._troubles.own_trouble(first, attempt.origin.name, "pokes")
        if trouble is None or first.reason == LOCAL_ERROR:
            return verdicts
        return [local_verdict(trouble)] * len(verdicts)

    def _apply_all(self, attempt: PokeAttempt, verdicts: Sequence[Verdict], monotonic: float) -> None:
        now = self._clock.now()
        group, elapsed = attempt.group, monotonic - attempt.started
        group[0].kind.duration.observe(elapsed)
        started_at = now - elapsed  # computed, since the wall clock may have jumped during the poke
        for held, verdict in zip(group, verdicts, strict=True):
            start = max(started_at, held.deadline) if attempt.final else started_at
            try:
                self._apply(held, verdict, start, now, monotonic)
            except Exception:  # it must not affect the other waits
                log.exception("verdict_not_applied", wait_id=held.id)
                held.in_flight += 1
                self._apply(held, PROBE_FAILED, start, now, monotonic)

    def _apply(
        self, held: HeldWait, verdict: Verdict, started_at: float, now: float, monotonic: float
    ) -> None:
        """Applies a verdict; `now` and `monotonic` are its time in Unix and monotonic seconds."""
        held.in_flight -= 1
        if held.ended:
            return
        held.kind.verdicts[type(verdict)].count += 1
        state = held.progress.state
        result = step(held, verdict, started_at, now, self._jitter())
        held.progress = result.progress
        retry_after: float | None = getattr(verdict, "retry_after", None)
        held.quiet_until = None if retry_after is None else now + retry_after
        if isinstance(result, Finish):
            self._outcomes.add(held, result.outcome, now)
            return
        if held.final and started_at >= held.deadline:  # the daemon's own trouble prevented it
            held.final = False
        if not held.final:  # else the final poke is in progress, and decides
            self._poke_at(held, monotonic + result.due - now)
        self._progress_buffer.add(held, state_changed=held.progress.state is not state)


def retry_pauses() -> Iterator[float]:
    """The pauses before a write that the store refused is retried, in seconds, without end."""
    return chain((0.1, 0.2, 0.5, 1.0, 2.0), repeat(5.0))


def _verdicts_of(attempt: PokeAttempt, result: Sequence[Verdict] | BaseException | None) -> list[Verdict]:
    """The verdicts of a poke that may have ended with an error; none if the poker stopped it."""
    group = attempt.group
    if isinstance(result, asyncio.CancelledError) and (attempt.expired or attempt.stopped):
        return [_timed_out(result)] * len(group) if attempt.expired else []
    if isinstance(result, BaseException):
        if trouble := local_trouble(result):
            return [local_verdict(trouble)] * len(group)
        defect = result
    elif result is not None and len(result) == len(group):
        return [*result]
    else:
        defect = RuntimeError(f"no verdict for each of {len(group)} waits: {result!r:.200}")
    # A defect of the probe does not end the wait.
    log.error("probe_failed", kind=group[0].kind.name, exc_info=defect)
    return [PROBE_FAILED] * len(group)


def _timed_out(cancelled: asyncio.CancelledError) -> Unreachable:
    proxy = noted_proxy(cancelled)
    return replace(TIMED_OUT, message=through_proxy(TIMED_OUT.message, proxy)) if proxy else TIMED_OUT


class OutcomeWriter:
    """A queue of outcomes and the loop that writes it.

    The store may refuse one wait; the others are written all the same.

    Attributes:
        pending: how many outcomes are not on disk yet.
        refused: how many of them the store refused at the last try.
    """

    def __init__(
        self,
        store: PokerStore,
        clock: Clock,
        instruments: Instruments,
        *,
        on_stored: Callable[[HeldWait], None],
    ) -> None:
        """`on_stored` is called with each wait whose outcome is on disk."""
        self._store = store
        self._clock = clock
        self._instruments = instruments
        self._on_stored = on_stored
        self._queue: deque[tuple[HeldWait, UnstoredOutcome]] = deque()
        self._refused: list[tuple[HeldWait, UnstoredOutcome]] = []
        self._added = asyncio.Event()
        self.pending = 0
        self.refused = 0

    def add(self, held: HeldWait, outcome: Outcome, now: float) -> None:
        """Marks a wait as ended and queues its outcome. `now` is Unix seconds."""
        held.ended = True
        self.pending += 1
        self._queue.append((held, UnstoredOutcome(held.id, held.progress, outcome, now)))
        self._added.set()

    async def run(self) -> None:
        """Writes until it is cancelled."""
        pauses, retry_at = retry_pauses(), inf
        while True:
            if not self._queue:
                await self._clock.sleep_until(retry_at, self._added)
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH))]
            refused = await self._write(batch)
            if self._clock.monotonic() >= retry_at:
                for start in range(0, len(self._refused), BATCH):
                    refused += await self._write(self._refused[start : start + BATCH])
                self._refused.clear()
                retry_at = inf
            self._refused += refused
            self.refused = len(self._refused)
            if not self._refused:
                pauses = retry_pauses()
            elif retry_at == inf:
                pause = next(pauses)
                retry_at = self._clock.monotonic() + pause
                log.warning("outcomes_not_stored", waits=self.pending, next_try_in=pause)

    async def _write(
        self, batch: Sequence[tuple[HeldWait, UnstoredOutcome]]
    ) -> list[tuple[HeldWait, UnstoredOutcome]]:
        """Writes a batch; returns what the store refused."""
        answers = await asyncio.gather(
            *(self._store.finish(outcome) for _, outcome in batch), return_exceptions=True
        )
        refused = []
        for (held, outcome), answer in zip(batch, answers, strict=True):
            if isinstance(answer, StoreUnavailable):
                refused.append((held, outcome))
                continue
            if isinstance(answer, BaseException):
                raise answer
            self.pending -= 1
            self._on_stored(held)
            if answer is not None:
                late = self._clock.monotonic() - held.due
                self._instruments.detection_delay.observe(max(0.0, late))
        return refused
