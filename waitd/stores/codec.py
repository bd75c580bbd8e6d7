"""Converts values to stored rows and JSON, and back."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, TypeVar

import msgspec
import orjson

from waitd import exact_json
from waitd.core.costs.model import MeasuredUsage
from waitd.core.errors import InvalidInput, Problem
from waitd.core.waits.event import build_event
from waitd.core.waits.job_cancel import JobCancel
from waitd.core.waits.submission import Submission, initial_submission
from waitd.core.waits.verdict import VERDICT_NAMES
from waitd.core.waits.wait import (
    EMPTY_PROGRESS,
    Outcome,
    Progress,
    VerdictRun,
    WaitId,
    WaitSpec,
    WaitState,
    decode_spec,
)
from waitd.ports import NewWait, StoredDelivery, StoredWait

Item = TypeVar("Item")
#: How many values are encoded or decoded before other tasks run: about a millisecond's worth.
SLICE = 100
#: The largest stored progress, in bytes.
PROGRESS_LIMIT = 4096
#: Lengths, in characters, to which messages are cut until the progress fits.
_MESSAGE_LENGTHS = (120, 60, 20, 0)
_STATES = {state.value: state for state in WaitState}
_VERDICTS = frozenset(VERDICT_NAMES.values())
#: The first moment that RFC 3339 cannot express, Unix seconds.
_END_OF_TIME = 253_402_300_800.0


async def sliced(items: Sequence[Item], size: int = SLICE) -> AsyncIterator[Sequence[Item]]:
    """Yields `items` in slices of `size`; other tasks run in between."""
    for start in range(0, len(items), size):
        if start:
            await asyncio.sleep(0)
        yield items[start : start + size]


def well_formed(text: str) -> str:
    """Replaces lone surrogates, which neither JSON nor SQLite can store, by question marks."""
    return text if text.isascii() else text.encode("utf-8", "replace").decode()


def plain_json(value: Any) -> Any:
    """Converts mappings and sequences of types that orjson does not support."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError


def check_texts(new: NewWait) -> None:
    """Checks the texts that are stored in columns of their own.

    Raises:
        InvalidInput: one of them has lone surrogates or a NUL character.
    """
    if new.idempotency_key is None and new.spec.supersede_key is None and new.namespace.isprintable():
        return
    problems = [
        Problem(f"/{name}", "is not valid text")
        for name, text in (
            ("namespace", new.namespace),
            ("idempotency_key", new.idempotency_key),
            ("supersede_key", new.spec.supersede_key),
        )
        if text is not None and ("\0" in text or well_formed(text) != text)
    ]
    if problems:
        raise InvalidInput(problems)


# ---------------------------------------------------------------- waits


class WaitRow(NamedTuple):
    """A row of `waits`: its columns, in their order."""

    id: str
    namespace: str
    kind: str
    state: str
    created_at: float
    deadline: float
    spec: str
    progress: str | None
    event: bytes | None
    finished_at: float | None
    finished_seq: int | None
    idempotency_key: str | None
    body_digest: bytes | None
    supersede_key: str | None
    superseded: int
    submission: str | None
    job_cancel: str | None
    job_cancel_at: float | None
    cpu_seconds: float | None
    byte_seconds: float | None
    principal: str | None = None
    kept_bytes: int | None = None


def decode_wait(row: WaitRow, deliveries: tuple[StoredDelivery, ...] = ()) -> StoredWait:
    """The wait in a row. Raises one of `DECODE_ERRORS` if the row makes no sense."""
    row = msgspec.convert(tuple(row), WaitRow)  # a column may hold any type
    spec, state = _checked_spec(row.spec), _STATES[row.state]
    check_times(row.created_at, row.deadline, row.finished_at or 0.0, row.job_cancel_at or 0.0)
    if (state is WaitState.WAITING) != (row.finished_at is None) or (row.finished_at is None) != (
        row.event is None
    ):
        raise ValueError(f"its state is {state.value}, which does not go with its event and its end")
    return StoredWait(
        WaitId(row.id),
        row.namespace,
        spec,
        state,
        row.created_at,
        row.deadline,
        decode_progress(row.progress),
        None if row.event is None else decode_outcome(row.event),
        row.finished_at,
        deliveries,
        submission=decode_submission(row.submission) if row.submission else initial_submission(spec.submit),
        job_cancel=decode_job_cancel(row.job_cancel) if row.job_cancel else None,
        measured=None if row.cpu_seconds is None else MeasuredUsage(row.cpu_seconds, row.byte_seconds or 0.0),
        principal=row.principal or "",
        spec_size=len(row.spec),
    )


def _checked_spec(text: str) -> WaitSpec:
    """A stored specification; what the engine counts on is checked."""
    spec = decode_spec(text)
    if min(spec.poke_interval, spec.timeout, spec.max_wait or 1.0) <= 0:
        raise ValueError("a duration in its spec is not positive")
    if not all(isinstance(sink["kind"], str) for sink in spec.sinks):
        raise ValueError("a sink in its spec has no kind")
    if spec.submit is not None and not isinstance(spec.submit.get("cancel_job_on") or (), list | tuple):
        raise ValueError("cancel_job_on in its spec is no list")
    return spec


def check_times(*times: float) -> None:
    """Checks that the API can show moments in Unix seconds."""
    if not all(0.0 <= at < _END_OF_TIME for at in times):
        raise ValueError("one of its times is out of range")


class WaitingRow(NamedTuple):
    """The columns of a waiting wait that the engine needs; a restart reads them for every wait."""

    id: str
    namespace: str
    created_at: float
    deadline: float
    spec: str
    progress: str | None
    submission: str | None


def decode_waiting(row: tuple[Any, ...]) -> StoredWait:
    """The waiting wait in the columns of a `WaitingRow`. Raises one of `DECODE_ERRORS`."""
    wait_id, namespace, created_at, deadline, spec_text, progress, submission = msgspec.convert(
        row, WaitingRow
    )
    spec = _checked_spec(spec_text)
    check_times(created_at, deadline)
    return StoredWait(
        WaitId(wait_id),
        namespace,
        spec,
        WaitState.WAITING,
        created_at,
        deadline,
        decode_progress(progress),
        submission=decode_submission(submission) if submission else initial_submission(spec.submit),
        spec_size=len(spec_text),
    )


_submission_decoder = msgspec.json.Decoder(Submission)
_job_cancel_decoder = msgspec.json.Decoder(JobCancel)


def encode_submission(submission: Submission) -> str:
    """The stored form of a job's state."""
    return orjson.dumps(tuple(submission), default=plain_json).decode()


def decode_submission(stored: str) -> Submission:
    """The inverse of `encode_submission`."""
    return _submission_decoder.decode(stored)


def encode_job_cancel(job_cancel: JobCancel) -> str:
    """The stored form of the state of cancelling a job."""
    return orjson.dumps(tuple(job_cancel)).decode()


def decode_job_cancel(stored: str) -> JobCancel:
    """The inverse of `encode_job_cancel`."""
    return _job_cancel_decoder.decode(stored)


# ---------------------------------------------------------------- progress


_progress_decoder = msgspec.json.Decoder(
    tuple[int, int, str | None, list[tuple[str, str, str, float, float, int]]]
)


def encode_progress(progress: Progress) -> str | None:
    """The stored form of `progress`: compact JSON; None where nothing has been observed.

    A progress over `PROGRESS_LIMIT` gets shorter messages, then loses its oldest runs. Counts and
    the probe's own state (at most 1 KiB, see `Pending.state`) are never changed.
    """
    if progress == EMPTY_PROGRESS:
        return None
    encoded = _dump_progress(progress)
    for length in _MESSAGE_LENGTHS:
        if len(encoded) <= PROGRESS_LIMIT:
            break
        shorter = tuple(replace(run, message=run.message[:length]) for run in progress.runs)
        encoded = _dump_progress(replace(progress, runs=shorter))
    runs = tuple(replace(run, message="") for run in progress.runs)
    while len(encoded) > PROGRESS_LIMIT and runs:
        runs = runs[1:]
        encoded = _dump_progress(replace(progress, runs=runs))
    return encoded.decode()


def decode_progress(stored: str | None) -> Progress:
    """The inverse of `encode_progress`."""
    if stored is None:
        return EMPTY_PROGRESS
    pokes, step, state, runs = _progress_decoder.decode(stored)
    for verdict, _, _, first_at, last_at, _ in runs:
        check_times(first_at, last_at)
        if verdict not in _VERDICTS:
            raise ValueError(f"there is no verdict {verdict}")
    return Progress(pokes, step, state, tuple([VerdictRun(*run) for run in runs]))


def _dump_progress(progress: Progress) -> bytes:
    try:
        return orjson.dumps(_progress_values(progress))
    except TypeError:  # a hostile target sent text with lone surrogates
        state = None if progress.state is None else well_formed(progress.state)
        runs = tuple(
            replace(run, reason=well_formed(run.reason), message=well_formed(run.message))
            for run in progress.runs
        )
        return orjson.dumps(_progress_values(replace(progress, state=state, runs=runs)))


def _progress_values(progress: Progress) -> tuple[Any, ...]:
    runs = [
        (run.verdict, run.reason, run.message, run.first_at, run.last_at, run.times) for run in progress.runs
    ]
    return progress.pokes, progress.step, progress.state, runs


# ---------------------------------------------------------------- events


def encode_event(wait: StoredWait, outcome: Outcome, finished_at: float) -> bytes:
    """The event of `wait`'s end, as every delivery sends it.

    Never fails: a payload that JSON cannot hold (a hostile target may nest it too deep) is left
    out.
    """
    readable = replace(outcome, message=well_formed(outcome.message), reason=well_formed(outcome.reason))
    try:
        return _dump_event(wait, readable, finished_at)
    except TypeError:
        return _dump_event(wait, replace(readable, payload=None, reason="result_omitted"), finished_at)


def _dump_event(wait: StoredWait, outcome: Outcome, finished_at: float) -> bytes:
    event = build_event(
        wait.id,
        wait.namespace,
        wait.spec,
        outcome,
        pokes=wait.progress.pokes,
        created_at=wait.created_at,
        finished_at=finished_at,
    )
    return exact_json.dumps(event, plain_json)


def decode_outcome(event: bytes) -> Outcome:
    """The outcome in an event. Raises one of `DECODE_ERRORS` if it is none of waitd's."""
    data = exact_json.loads(event)["data"]
    if not isinstance(data["message"], str) or not isinstance(data["reason"], str):
        raise TypeError("the message or the reason in its event is no text")
    return Outcome(WaitState(data["state"]), data["payload"], data["message"], data["reason"])
