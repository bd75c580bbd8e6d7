"""Adding waits: idempotency, superseding, and the insert."""

from collections.abc import Container, Iterable, Sequence
from typing import Any, NamedTuple

import uuid_utils
from sqlalchemy import Column, ColumnElement, Text, bindparam, select

from waitd.core.errors import Conflict, InvalidInput
from waitd.core.waits.audit import Caller
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.submission import initial_submission
from waitd.core.waits.wait import EMPTY_PROGRESS, WaitId, WaitState
from waitd.ports import IdempotentSubmit, Inserted, NewWait, StoredWait
from waitd.stores.codec import WaitRow, checked_keys, stored_wait
from waitd.stores.operations import airflow_index as telling
from waitd.stores.operations.finish import End, end
from waitd.stores.operations.requests import Candidate, Insert, Key
from waitd.stores.operations.transaction import Transaction, sliced
from waitd.stores.queries.rows import deliveries_of
from waitd.stores.schema import HOLDS_ITS_KEY, waits
from waitd.stores.sqlite import bulk
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement, one_of, texts
from waitd.stores.text import well_formed

COLUMNS = (
    "id",
    "namespace",
    "kind",
    "created_at",
    "deadline",
    "spec",
)
KEYS = ("idempotency_key", "body_digest", "supersede_key", "superseded")
_INSERT = bulk.insert_into("waits", COLUMNS)
_INSERT_WITH_KEYS = bulk.insert_into("waits", (*COLUMNS, *KEYS))
_LOSE_KEY = bulk.Bulk("UPDATE waits SET superseded = 1 WHERE id IN (VALUES ", 1, ")")
_STOP_DELIVERIES = bulk.Bulk(
    "UPDATE deliveries SET state = 'dead', next_attempt_at = NULL, last_error = 'superseded'"
    " WHERE state = 'queued' AND wait_id IN (VALUES ",
    1,
    ")",
)


#: How many waits are made ready before others get their turn: half a millisecond's worth.
PREPARED_AT_ONCE = 500
SUPERSEDED = cancelled_outcome(reason="superseded", message="A newer wait took the supersede key.")


def _by_key(column: Column[Any], *conditions: ColumnElement[bool]) -> Statement:
    in_namespace = waits.c.namespace == bindparam("namespace", type_=Text)
    return Statement(select(column, *waits.c).where(in_namespace, one_of(column, "keys"), *conditions))


_BY_IDEMPOTENCY_KEY = _by_key(waits.c.idempotency_key)
_BY_SUPERSEDE_KEY = _by_key(waits.c.supersede_key, HOLDS_ITS_KEY)


async def prepare(new_waits: Sequence[NewWait], now: float, by: Caller | None = None) -> Insert:
    """The operation that stores `new_waits`, accepted at `now` (Unix seconds). What cannot be kept gets its answer here."""
    candidates: list[Candidate | Exception] = []
    async for part in sliced(new_waits, PREPARED_AT_ONCE):
        candidates += [_candidate(new, now) for new in part]
    return Insert(candidates, by=by)


def _candidate(new: NewWait, now: float) -> Candidate | Exception:
    spec, namespace = new.spec, new.namespace
    try:
        checked_keys(new)
    except InvalidInput as error:
        return error
    wait_id, deadline = WaitId(str(uuid_utils.uuid7())), now + spec.timeout
    stored = StoredWait(
        wait_id,
        namespace,
        spec,
        WaitState.WAITING,
        now,
        deadline,
        EMPTY_PROGRESS,
        target=new.target,
        submission=initial_submission(spec.submit),
    )
    return Candidate(
        Inserted(stored, created=True),
        new.text,
        None if new.idempotency_key is None else Key(namespace, new.idempotency_key),
        new.body_digest,
        None if spec.supersede_key is None else Key(namespace, spec.supersede_key),
    )


async def apply(transaction: Transaction, operations: Sequence[Insert]) -> None:
    """Stores the waits of `operations` and sets their answers."""
    keys = _keys_of(operations)
    known = await _known(transaction.link, keys) if keys else {}
    fresh: list[Candidate] = []
    for operation in operations:
        operation.answer = []
        async for part in sliced(operation.candidates, 1000):
            operation.answer += [_answer(candidate, known, fresh) for candidate in part]
    losers, ends = await _supersede(transaction, fresh)
    _insert(transaction.link, fresh, losers)
    telling.note(transaction, (candidate.added.wait for candidate in fresh))
    await end(transaction, ends)
    gone = {item.wait.id for item in ends}
    transaction.added += [c.added.wait for c in fresh if c.added.wait.id not in gone]


def _insert(link: ConnectionThread, fresh: Sequence[Candidate], losers: Container[WaitId]) -> None:
    """The rows of new waits. `losers`: those that a later one of them has superseded. Most have no keys, and bind fewer values."""
    rows, with_keys = [], []
    for candidate in fresh:
        wait, text = candidate.added.wait, candidate.text
        row = (wait.id, wait.namespace, wait.spec.kind, wait.created_at, wait.deadline, text)
        key, supersede_key = candidate.idempotency_key, wait.spec.supersede_key
        if key is None and supersede_key is None:
            rows.append(row)
        else:
            keys = (None if key is None else key.text, candidate.body_digest, supersede_key)
            with_keys.append((*row, *keys, int(wait.id in losers)))
    bulk.write(link, _INSERT, rows)
    bulk.write(link, _INSERT_WITH_KEYS, with_keys)


class _EarlierSubmit(NamedTuple):
    """What came in under an idempotency key before, and the digest of what was sent."""

    wait: StoredWait
    body_digest: bytes | None


def _answer(
    candidate: Candidate | Exception, known: dict[Key, _EarlierSubmit], fresh: list[Candidate]
) -> Inserted | Exception:
    """The answer to one wait; what is new is put to `fresh`, and counts as known to those after it."""
    if isinstance(candidate, Exception):
        return candidate
    if candidate.idempotency_key is not None:
        before = known.setdefault(
            candidate.idempotency_key, _EarlierSubmit(candidate.added.wait, candidate.body_digest)
        )
        if before.body_digest != candidate.body_digest:
            return _other_body()
        if before.wait is not candidate.added.wait:
            return Inserted(before.wait, created=False)
    fresh.append(candidate)
    return candidate.added


async def replays(
    link: ConnectionThread, submits: Sequence[IdempotentSubmit]
) -> list[Inserted | Conflict | None]:
    """What came in under the keys of `submits` before; see `ApiStore.replays`."""
    keys = [Key(submit.namespace, submit.key) for submit in submits]
    # A key that is no text was never stored.
    known = await _known(link, {key for key in keys if well_formed(key.text) == key.text})
    return [_replay(known.get(key), submit) for key, submit in zip(keys, submits, strict=True)]


def _replay(before: _EarlierSubmit | None, submit: IdempotentSubmit) -> Inserted | Conflict | None:
    if before is None:
        return None
    return Inserted(before.wait, created=False) if before.body_digest == submit.body_digest else _other_body()


def _other_body() -> Conflict:
    return Conflict("the idempotency key was used before, with another body")


def _keys_of(operations: Sequence[Insert]) -> set[Key]:
    candidates = [c for operation in operations for c in operation.candidates if isinstance(c, Candidate)]
    return {c.idempotency_key for c in candidates if c.idempotency_key is not None}


async def _known(link: ConnectionThread, keys: set[Key]) -> dict[Key, _EarlierSubmit]:
    """The waits that came in before under `keys`, as they are now."""
    rows = await _rows_by_key(link, _BY_IDEMPOTENCY_KEY, keys)
    ended = [row.id for row in rows.values() if row.finished_at is not None]
    outbox = await deliveries_of(link, ended)
    known: dict[Key, _EarlierSubmit] = {}
    async for part in sliced(list(rows.items())):
        known |= {
            key: _EarlierSubmit(stored_wait(row, outbox.get(row.id, ())), row.body_digest)
            for key, row in part
        }
    return known


async def _supersede(
    transaction: Transaction, fresh: Sequence[Candidate]
) -> tuple[frozenset[WaitId], list[End]]:
    """Takes the supersede keys of `fresh` from the waits that hold them: nothing of those is delivered any more.

    Returns those of `fresh` that lost their key to a later one among them, and whom to end once `fresh` is in: them, and the older
    holders that still wait.
    """
    winners = {c.supersede_key: c for c in fresh if c.supersede_key is not None}
    if not winners:
        return frozenset(), []
    older = list((await _rows_by_key(transaction.link, _BY_SUPERSEDE_KEY, winners)).values())
    ids = [(row.id,) for row in older]
    bulk.write(transaction.link, _LOSE_KEY, ids)
    bulk.write(transaction.link, _STOP_DELIVERIES, ids)
    ended: list[StoredWait] = []
    async for part in sliced([row for row in older if row.finished_at is None]):
        ended += [transaction.as_seen(stored_wait(row)) for row in part]
    losers = [
        c.added.wait for c in fresh if c.supersede_key is not None and winners[c.supersede_key] is not c
    ]
    ends = [End(wait, SUPERSEDED, transaction.now, deliver=False) for wait in (*ended, *losers)]
    return frozenset(wait.id for wait in losers), ends


async def _rows_by_key(link: ConnectionThread, query: Statement, keys: Iterable[Key]) -> dict[Key, WaitRow]:
    by_namespace: dict[str, list[str]] = {}
    for namespace, key in keys:
        by_namespace.setdefault(namespace, []).append(key)
    found: dict[Key, WaitRow] = {}
    for namespace, some in by_namespace.items():
        for row in await query.run(link, namespace=namespace, keys=texts(some)):
            found[Key(namespace, row[0])] = WaitRow._make(row[1:])
    return found
