"""The state machine of a wait: one verdict in, what to do out."""

from dataclasses import dataclass
from typing import NamedTuple, Protocol, assert_never

from waitd.core.waits.schedule import (
    Pacing,
    capped_retry_after,
    next_poke_after_pending,
    next_poke_after_unreachable,
)
from waitd.core.waits.verdict import Failure, Pending, Success, Unreachable, Verdict
from waitd.core.waits.wait import Outcome, Progress, WaitState, record_verdict


class PokedWait(Protocol):
    """What the state machine reads of a wait in hand. Times are Unix seconds."""

    @property
    def pacing(self) -> Pacing: ...
    @property
    def phase(self) -> float: ...
    @property
    def deadline(self) -> float: ...
    @property
    def silent_fail(self) -> bool: ...
    @property
    def progress(self) -> Progress: ...


class PokeAgain(NamedTuple):
    """The wait goes on. `due` is when to look next: after now and at or before the deadline, or now if the deadline is past."""

    progress: Progress
    due: float


@dataclass(frozen=True, slots=True)
class Finish:
    """The wait is over."""

    progress: Progress
    outcome: Outcome


def step(
    wait: PokedWait, verdict: Verdict, started_at: float, now: float, jitter: float
) -> PokeAgain | Finish:
    """What a verdict does to a wait.

    A wait times out only by the verdict of a poke that started at or after its deadline: no clock ends it unseen.

    Args:
        wait: the wait as it stood when the poke started.
        verdict: what the poke said.
        started_at: when the poke started, Unix seconds.
        now: when the verdict came in, Unix seconds.
        jitter: a number in [0, 1) from the caller's source of randomness.
    """
    if isinstance(verdict, Failure) and verdict.silenceable and wait.silent_fail:
        verdict = Unreachable(verdict.reason, verdict.message)
    progress = record_verdict(wait.progress, verdict, now)
    match verdict:
        case Pending() | Unreachable():
            if started_at >= wait.deadline:
                return Finish(progress, timeout_outcome(verdict))
            pacing, phase, count, asked = wait.pacing, wait.phase, progress.step, verdict.retry_after
            if isinstance(verdict, Pending):
                due = next_poke_after_pending(
                    pacing, phase, count, started_at=started_at, now=now, jitter=jitter
                )
                if asked is not None:
                    due = max(due, now + capped_retry_after(pacing, asked))
            else:
                due = next_poke_after_unreachable(
                    pacing, phase, count, asked, started_at=started_at, now=now, jitter=jitter
                )
            return PokeAgain(progress, due if due <= wait.deadline else max(now, wait.deadline))
        case Success():
            return Finish(
                progress, Outcome(WaitState.SUCCESS, verdict.payload, verdict.message, verdict.reason)
            )
        case Failure():
            return Finish(
                progress, Outcome(WaitState.FAILED, verdict.payload, verdict.message, verdict.reason)
            )
        case _:  # pragma: no cover - mypy proves it
            assert_never(verdict)


def timeout_outcome(last: Pending | Unreachable) -> Outcome:
    """The outcome of a wait whose deadline passed; the message says what was last seen."""
    seen = last.message or last.reason
    return Outcome(WaitState.TIMEOUT, None, f"The deadline passed; last seen: {seen}", "deadline")


def cancelled_outcome(reason: str = "cancelled", message: str = "") -> Outcome:
    """The outcome of a wait that somebody ended."""
    return Outcome(WaitState.CANCELLED, None, message, reason)
