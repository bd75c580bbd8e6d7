"""A wait: its accepted specification, its state, its progress and its outcome."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NewType

import msgspec
from msgspec import Struct

from waitd.core.errors import InvalidInput
from waitd.core.waits.verdict import LOCAL_ERROR, MESSAGE_LIMIT, VERDICT_NAMES, Verdict

WaitId = NewType("WaitId", str)
"""A UUIDv7 in canonical text form; ids sort by the time of their creation."""

#: How many runs of equal verdicts the progress of a wait keeps.
RUNS_KEPT = 8


class WaitState(StrEnum):
    """A wait leaves `waiting` once; the other four states are final."""

    WAITING = "waiting"
    SUCCESS = "success"
    FAILED = "failed"
    TIMEOUT = "timeout"
    CANCELLED = "cancelled"


# A msgspec struct, because every batch line and every wait at a restart makes one, and a dataclass
# takes five times as long to create. `gc=False`: JSON values cannot form reference cycles.
class WaitSpec(Struct, omit_defaults=True, gc=False):
    """A wait as it was accepted: validated, complete with defaults, immutable.

    Attributes:
        kind: the kind of probe.
        params: the probe's parameters, as accepted.
        poke_interval: seconds between pokes.
        timeout: seconds from acceptance to the deadline.
        exponential_backoff: double the interval after each pending answer, up to `max_wait`
            seconds.
        max_wait: the limit of the doubled interval, in seconds; None for no limit.
        soft_fail: sinks that can report a failure as "skipped" do so; the state is unchanged.
        silent_fail: a refusal (403 and the like) is poked again instead of ending the wait.
        sinks: each sink's parameters with its `kind`.
        labels: searchable names and values.
        supersede_key: at most one waiting wait has it; a new one cancels the older one.
        submit: the job that is submitted before the first poke, as accepted; None if there is none.
        wake_on: a signal with this key makes the wait poke at once.
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
    labels: Mapping[str, str] = {}
    supersede_key: str | None = None
    submit: Mapping[str, Any] | None = None
    wake_on: str | None = None


def _as_dict(value: Any) -> Any:
    """Converts mappings that msgspec does not support."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is not JSON")


_encode = msgspec.json.Encoder(enc_hook=_as_dict).encode
#: Parses what `encode_spec` returned.
decode_spec = msgspec.json.Decoder(WaitSpec).decode


def encode_spec(spec: WaitSpec) -> str:
    """A specification as a JSON object; fields that have their default are omitted.

    Raises:
        InvalidInput: a value is not valid JSON (lone surrogates, excessive nesting).
    """
    try:
        return _encode(spec).decode()
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidInput.at("", f"the wait cannot be stored as JSON: {error}") from None


@dataclass(slots=True)
class VerdictRun:
    """Equal consecutive verdicts, how many, and the first and last time (Unix seconds)."""

    verdict: str
    reason: str
    message: str
    first_at: float
    last_at: float
    times: int


@dataclass(slots=True)
class Progress:
    """The progress of one wait, updated in place: another equal verdict creates no objects.

    Attributes:
        pokes: the number of verdicts.
        step: the number of consecutive verdicts of the same type, which backoff counts.
        state: the probe's own state, as text.
        runs: the last runs of equal verdicts, oldest first.
    """

    pokes: int = 0
    step: int = 0
    state: str | None = None
    runs: tuple[VerdictRun, ...] = ()


#: The progress of a new wait. It is safe to share: without a run, `record_verdict` makes a new
#: object.
EMPTY_PROGRESS = Progress()


def record_local(progress: Progress, verdict: Verdict, at: float) -> Progress:
    """The progress after a poke that the daemon's own trouble prevented: it counts as no poke."""
    pokes, step = progress.pokes, progress.step
    recorded = record_verdict(progress, verdict, at)
    recorded.pokes, recorded.step = pokes, step
    return recorded


def record_verdict(progress: Progress, verdict: Verdict, at: float) -> Progress:
    """The progress after a verdict at `at` (Unix seconds).

    A verdict equal to the last one extends its run in place and returns the same object; any other
    verdict returns a new object with a new run.
    """
    name, reason, message = VERDICT_NAMES[type(verdict)], verdict.reason, verdict.message[:MESSAGE_LIMIT]
    state = getattr(verdict, "state", None)
    runs = progress.runs
    last = runs[-1] if runs else None
    if last is None or last.reason != reason or last.verdict != name or last.message != message:
        before = next((run for run in reversed(runs) if run.reason != LOCAL_ERROR), None)
        step = progress.step + 1 if before is not None and before.verdict == name else 1
        runs = (*runs[1 - RUNS_KEPT :], VerdictRun(name, reason, message, at, at, 1))
        return Progress(progress.pokes + 1, step, progress.state if state is None else state, runs)
    last.last_at = at
    last.times += 1
    progress.pokes += 1
    progress.step += 1
    if state is not None:
        progress.state = state
    return progress


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a wait ended. `state` is one of the four final states, `reason` a short constant word."""

    state: WaitState
    payload: Any = None
    message: str = ""
    reason: str = ""
