"""What a wait is: its specification as accepted, its state, and what it has learned so far."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple, NewType

from waitd.core.verdict import MESSAGE_LIMIT, Verdict, name_of

WaitId = NewType("WaitId", str)
"""A UUIDv7 in its canonical text form; later ids sort after earlier ones."""

#: How many runs of equal verdicts a wait remembers.
RUNS_KEPT = 8


class WaitState(StrEnum):
    """`waiting` is left once; the other four absorb."""

    WAITING = "waiting"
    SUCCESS = "success"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


@dataclass(frozen=True, slots=True)
class WaitSpec:
    """A wait as it was accepted: checked, complete with defaults, never changed.

    Attributes:
        kind: which probe pokes it.
        params: that probe's own parameters, as accepted.
        poke_interval: seconds between pokes.
        timeout: seconds from acceptance to the deadline.
        exponential_backoff: double the interval with each pending answer, up to `max_wait` seconds.
        soft_fail: sinks that can, report a failure as "skipped"; the state stays what it is.
        silent_fail: a refusal (403 and the like) is poked again instead of ending the wait.
        sinks: each sink's parameters with its `kind`.
        labels: searchable words about the wait.
        supersede_key: at most one waiting wait holds it.
        submit: the job that is submitted before the first poke, as accepted; None where there is none.
        wake_on: a signal under this key makes it be poked at once.
    """

    kind: str
    params: Mapping[str, Any]
    poke_interval: float
    timeout: float
    exponential_backoff: bool = False
    max_wait: float | None = None
    soft_fail: bool = False
    silent_fail: bool = False
    sinks: tuple[Mapping[str, Any], ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    supersede_key: str | None = None
    submit: Mapping[str, Any] | None = None
    wake_on: str | None = None


class Run(NamedTuple):
    """Equal verdicts in a row: what was seen, from when to when (Unix seconds), how often."""

    verdict: str
    reason: str
    message: str
    first_at: float
    last_at: float
    times: int


class Progress(NamedTuple):
    """What a wait has learned so far.

    Attributes:
        pokes: how many pokes have been judged.
        step: how many verdicts of the same backing-off kind came in a row (Unreachable, or Pending with exponential backoff).
        state: the probe's own memory, as text.
        runs: the last runs of equal verdicts, oldest first.
    """

    pokes: int = 0
    step: int = 0
    state: str | None = None
    runs: tuple[Run, ...] = ()


NOTHING_SEEN = Progress()
_NO_RUN = Run("", "", "", 0.0, 0.0, 0)
#: Makes a NamedTuple without its own `__new__`, a Python function that takes as long as all the rest of `observe`.
_tuple = tuple.__new__


def observe(progress: Progress, verdict: Verdict, at: float) -> Progress:
    """The progress after one more verdict at `at` (Unix seconds): the last run grows, or a new one begins."""
    name, reason, message = name_of(verdict), verdict.reason, verdict.message[:MESSAGE_LIMIT]
    pokes, step, state, runs = progress
    last = runs[-1] if runs else _NO_RUN
    if last.reason == reason and last.verdict == name and last.message == message:
        run = _tuple(Run, (name, reason, last.message, last.first_at, at, last.times + 1))
        runs = (run,) if len(runs) == 1 else (*runs[:-1], run)
        step += 1
    else:
        runs = (*runs[1 - RUNS_KEPT :], Run(name, reason, message, at, at, 1))
        step = step + 1 if last.verdict == name else 1
    new_state = getattr(verdict, "state", None)
    return _tuple(Progress, (pokes + 1, step, state if new_state is None else new_state, runs))


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a wait ended. `state` is one of the four terminal ones, `reason` a short constant word."""

    state: WaitState
    payload: Any = None
    message: str = ""
    reason: str = ""
