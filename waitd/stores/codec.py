"""Values to JSON and rows, and back."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, NamedTuple

import orjson

from waitd.core.costs.model import MeasuredUsage
from waitd.core.errors import InvalidInput, Problem
from waitd.core.waits.delivery import DeliveryId
from waitd.core.waits.event import build_event
from waitd.core.waits.submission import CancelState, JobCancel, Submission, SubmitState, initial_submission
from waitd.core.waits.wait import Outcome, WaitId, WaitState, decode_spec
from waitd.ports import NewWait, OutboxItem, StoredDelivery, StoredWait
from waitd.stores.progress import decode_progress
from waitd.stores.text import well_formed

_STATES = {state.value: state for state in WaitState}


def _plain(value: Any) -> Any:
    """Mappings and sequences that orjson does not know by type."""
    if isinstance(value, Mapping):
        return dict(value)
    if isinstance(value, tuple | set | frozenset):
        return list(value)
    raise TypeError


def encode_sink(sink: Mapping[str, Any]) -> str:
    """The stored form of one sink's parameters."""
    return orjson.dumps(sink, default=_plain).decode()


def checked_keys(new: NewWait) -> None:
    """Sees to it that SQLite will take the texts that are columns of their own.

    Raises:
        InvalidInput: one of them has lone surrogates or a NUL.
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


def event_bytes(wait: StoredWait, outcome: Outcome, finished_at: float) -> bytes:
    """The event of how `wait` ended, encoded once and for all.

    Never fails: a payload that is no JSON (a hostile target can nest it too deep) is left out, as one that is too large is.
    """
    readable = replace(outcome, message=well_formed(outcome.message), reason=well_formed(outcome.reason))
    try:
        return _event_bytes(wait, readable, finished_at)
    except TypeError:
        return _event_bytes(wait, replace(readable, payload=None, reason="result_omitted"), finished_at)


def outcome_in(event: bytes) -> Outcome:
    """The outcome that an event tells of."""
    data = orjson.loads(event)["data"]
    return Outcome(WaitState(data["state"]), data["payload"], data["message"], data["reason"])


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


class DeliveryRow(NamedTuple):
    """A row of `deliveries`: its columns, in their order."""

    id: str
    wait_id: str
    namespace: str
    sink: str
    destination: str
    state: str
    attempts: int
    created_at: float
    next_attempt_at: float | None
    last_attempt_at: float | None
    last_error: str | None


def stored_wait(row: WaitRow, deliveries: tuple[StoredDelivery, ...] = ()) -> StoredWait:
    """The wait in a row."""
    spec = decode_spec(row.spec)
    return StoredWait(
        WaitId(row.id),
        row.namespace,
        spec,
        _STATES[row.state],
        row.created_at,
        row.deadline,
        decode_progress(row.progress),
        None if row.event is None else outcome_in(row.event),
        row.finished_at,
        deliveries,
        submission=decode_submission(row.submission) if row.submission else initial_submission(spec.submit),
        job_cancel=decode_job_cancel(row.job_cancel) if row.job_cancel else None,
        measured=None if row.cpu_seconds is None else MeasuredUsage(row.cpu_seconds, row.byte_seconds or 0.0),
    )


class WaitingRow(NamedTuple):
    """What a row of `waits` holds of a wait that is waiting, but for its caller's keys. A restart reads all of them."""

    id: str
    namespace: str
    created_at: float
    deadline: float
    spec: str
    progress: str | None
    submission: str | None


def waiting_wait(row: WaitingRow) -> StoredWait:
    """The waiting wait in a row."""
    wait_id, namespace, created_at, deadline, spec_text, progress, submission = row
    spec = decode_spec(spec_text)
    return StoredWait(
        WaitId(wait_id),
        namespace,
        spec,
        WaitState.WAITING,
        created_at,
        deadline,
        decode_progress(progress),
        submission=decode_submission(submission) if submission else initial_submission(spec.submit),
    )


def encode_submission(submission: Submission) -> str:
    """The stored form of what is known of a job."""
    return orjson.dumps(tuple(submission), default=_plain).decode()


def decode_submission(stored: str) -> Submission:
    """The submission whose stored form is `stored`."""
    state, *rest = orjson.loads(stored)
    return Submission(SubmitState(state), *rest)


def encode_job_cancel(job_cancel: JobCancel) -> str:
    """The stored form of how far the cancelling of a job has come."""
    return orjson.dumps(tuple(job_cancel)).decode()


def decode_job_cancel(stored: str) -> JobCancel:
    """What `encode_job_cancel` made `stored` of."""
    state, *rest = orjson.loads(stored)
    return JobCancel(CancelState(state), *rest)


def stored_delivery(row: DeliveryRow) -> StoredDelivery:
    """The delivery in a row."""
    return StoredDelivery(
        id=DeliveryId(row.id),
        wait_id=WaitId(row.wait_id),
        namespace=row.namespace,
        sink=orjson.loads(row.sink),
        state=row.state,
        attempts=row.attempts,
        created_at=row.created_at,
        next_attempt_at=row.next_attempt_at,
        last_error=row.last_error,
    )


def parcel(row: DeliveryRow, event: bytes) -> OutboxItem:
    """The delivery in a row, with its wait's event, ready to go."""
    return OutboxItem(
        id=DeliveryId(row.id),
        wait_id=WaitId(row.wait_id),
        namespace=row.namespace,
        sink=orjson.loads(row.sink),
        event=event,
        attempts=row.attempts,
        created_at=row.created_at,
    )


def _event_bytes(wait: StoredWait, outcome: Outcome, finished_at: float) -> bytes:
    event = build_event(
        wait.id,
        wait.namespace,
        wait.spec,
        outcome,
        pokes=wait.progress.pokes,
        created_at=wait.created_at,
        finished_at=finished_at,
    )
    return orjson.dumps(event, default=_plain)
