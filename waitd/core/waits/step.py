"""The state machine of a wait: a verdict goes in, the next action comes out."""

from dataclasses import dataclass
from typing import Protocol, assert_never

from msgspec import Struct

from waitd.core.waits.schedule import (
    LOCAL_GRACE,
    Pacing,
    capped_retry_after,
    next_poke_after_local_error,
    next_poke_after_pending,
    next_poke_after_unreachable,
)
from waitd.core.waits.verdict import LOCAL_ERROR, Failure, Pending, Success, Unreachable, Verdict
from waitd.core.waits.wait import Outcome, Progress, WaitState, record_local, record_verdict


class PokedWait(Protocol):
    """What `step` reads of a wait. Times are Unix seconds."""

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


# A msgspec struct, because every poke makes one.
class PokeAgain(Struct, frozen=True):
    """The wait continues.

    `due` is the time of the next poke: after now and at or before the deadline; now, if the
    deadline has passed, or later after the daemon's own trouble.
    """

    progress: Progress
    due: float


@dataclass(frozen=True, slots=True)
class Finish:
    """The wait has ended."""

    progress: Progress
    outcome: Outcome


def step(
    wait: PokedWait, verdict: Verdict, started_at: float, now: float, jitter: float
) -> PokeAgain | Finish:
    """Decides what follows a verdict.

    A wait times out only by the verdict of a poke that started at or after its deadline, never by
    the clock alone. A poke that the daemon's own trouble prevented decides nothing: it is repeated,
    up to `LOCAL_GRACE` seconds after the deadline.

    Args:
        wait: the wait as it was when the poke started.
        verdict: the verdict of the poke.
        started_at: when the poke started, in Unix seconds.
        now: when the verdict arrived, in Unix seconds.
        jitter: a random number in [0, 1).
    """
    if isinstance(verdict, Failure) and verdict.silenceable and wait.silent_fail:
        verdict = Unreachable(verdict.reason, verdict.message)
    if verdict.reason == LOCAL_ERROR:
        progress = record_local(wait.progress, verdict, now)
        if started_at < wait.deadline + LOCAL_GRACE:
            due = next_poke_after_local_error(wait.pacing, now, jitter)
            return PokeAgain(progress, due if started_at >= wait.deadline else min(due, wait.deadline))
    else:
        progress = record_verdict(wait.progress, verdict, now)
    match verdict:
        case Pending() | Unreachable():
            if started_at >= wait.deadline:
                return Finish(progress, timeout_outcome(verdict))
            pacing, phase, count, retry_after = wait.pacing, wait.phase, progress.step, verdict.retry_after
            if isinstance(verdict, Pending):
                due = next_poke_after_pending(
                    pacing, phase, count, started_at=started_at, now=now, jitter=jitter
                )
                if retry_after is not None:
                    due = max(due, now + capped_retry_after(pacing, retry_after))
                due = due if verdict.done_at is None else max(now, min(due, verdict.done_at))
            else:
                due = next_poke_after_unreachable(
                    pacing, phase, count, retry_after, started_at=started_at, now=now, jitter=jitter
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
    """The outcome of a wait whose deadline passed; its message contains the last verdict's."""
    seen = last.message or last.reason
    return Outcome(WaitState.TIMEOUT, None, f"The deadline passed; last seen: {seen}", "deadline")


def cancelled_outcome(reason: str = "cancelled", message: str = "") -> Outcome:
    """The outcome of a cancelled wait."""
    return Outcome(WaitState.CANCELLED, None, message, reason)
