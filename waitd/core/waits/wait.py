"""What a wait is: its specification as accepted, its state, and what it has learned so far."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, NewType

import msgspec
from msgspec import Struct

from waitd.core.errors import InvalidInput
from waitd.core.waits.verdict import MESSAGE_LIMIT, VERDICT_NAMES, Verdict

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


# A struct: each line of a batch and each wait at a restart has one, and a dataclass takes five times as long to make.
# The collector need not look at it: what it holds is JSON, which holds nothing that could hold it.
class WaitSpec(Struct, omit_defaults=True, gc=False):
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
    labels: Mapping[str, str] = {}
    supersede_key: str | None = None
    submit: Mapping[str, Any] | None = None
    wake_on: str | None = None


def _plain(value: Any) -> Any:
    """Mappings that the encoder does not know by type."""
    if isinstance(value, Mapping):
        return dict(value)
    raise TypeError(f"a {type(value).__name__} is none")


_encode = msgspec.json.Encoder(enc_hook=_plain).encode
_decode = msgspec.json.Decoder(WaitSpec).decode


def encode_spec(spec: WaitSpec) -> str:
    """A specification as JSON: an object with its fields, but for those that have their default.

    Raises:
        InvalidInput: something in it is no JSON (lone surrogates, nested without end).
    """
    try:
        return _encode(spec).decode()
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError) as error:
        raise InvalidInput.at("", f"the wait cannot be kept as JSON: {error}") from None


def decode_spec(text: str) -> WaitSpec:
    """The specification that `encode_spec` made `text` of."""
    return _decode(text)


@dataclass(slots=True)
class VerdictRun:
    """Equal verdicts in a row: what was seen, from when to when (Unix seconds), how often."""

    verdict: str
    reason: str
    message: str
    first_at: float
    last_at: float
    times: int


@dataclass(slots=True)
class Progress:
    """What a wait has learned so far. It belongs to that wait and grows in place, with its last run: a hundred thousand waits that see the
    same once more make no new objects.

    Attributes:
        pokes: how many pokes have been judged.
        step: how many verdicts of the same backing-off kind came in a row (Unreachable, or Pending with exponential backoff).
        state: the probe's own memory, as text.
        runs: the last runs of equal verdicts, oldest first.
    """

    pokes: int = 0
    step: int = 0
    state: str | None = None
    runs: tuple[VerdictRun, ...] = ()


#: What every wait begins with; it has no run that could grow.
EMPTY_PROGRESS = Progress()


def record_verdict(progress: Progress, verdict: Verdict, at: float) -> Progress:
    """The progress after one more verdict at `at` (Unix seconds): the same, its last run grown, or a new one with a new run."""
    name, reason, message = VERDICT_NAMES[type(verdict)], verdict.reason, verdict.message[:MESSAGE_LIMIT]
    state = getattr(verdict, "state", None)
    runs = progress.runs
    last = runs[-1] if runs else None
    if last is None or last.reason != reason or last.verdict != name or last.message != message:
        step = progress.step + 1 if last is not None and last.verdict == name else 1
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
    """How a wait ended. `state` is one of the four terminal ones, `reason` a short constant word."""

    state: WaitState
    payload: Any = None
    message: str = ""
    reason: str = ""
