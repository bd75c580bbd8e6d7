"""Inserts waits: idempotency keys, superseding, and the rows."""

from collections.abc import Container, Sequence

import uuid_utils
from sqlalchemy import true, update

from waitd.core.auth.quotas import Kept, Room
from waitd.core.errors import InvalidInput, LimitReached
from waitd.core.waits.audit import Caller
from waitd.core.waits.step import cancelled_outcome
from waitd.core.waits.submission import initial_submission
from waitd.core.waits.wait import EMPTY_PROGRESS, WaitId, WaitState
from waitd.ports import Inserted, NewWait, StoredWait
from waitd.stores import bulk
from waitd.stores.codec import check_texts, decode_wait, sliced
from waitd.stores.connection import StoreConnection
from waitd.stores.operations import airflow_index
from waitd.stores.operations.commands import Candidate, Insert
from waitd.stores.operations.finish import Ending, finish_waits
from waitd.stores.operations.transaction import Transaction
from waitd.stores.queries.wait_keys import EarlierSubmit, Key, find_earlier, find_superseded, replay
from waitd.stores.schema import IS_QUEUED, deliveries, waits
from waitd.stores.statements import Statement, one_of, text_list

COLUMNS = ("id", "namespace", "kind", "created_at", "deadline", "spec", "principal")
_KEY_COLUMNS = ("idempotency_key", "body_digest", "supersede_key", "superseded")
_INSERT = bulk.insert_into(waits, COLUMNS)
_INSERT_WITH_KEYS = bulk.insert_into(waits, (*COLUMNS, *_KEY_COLUMNS))
_LOSE_KEY = Statement(update(waits).values(superseded=true()).where(one_of(waits.c.id, "ids")))
_STOP_DELIVERIES = Statement(
    update(deliveries)
    .values(state="dead", next_attempt_at=None, last_error="superseded")
    .where(IS_QUEUED, one_of(deliveries.c.wait_id, "ids"))
)
#: How many waits are prepared before other tasks run: half a millisecond's worth.
PREPARE_SLICE = 500
#: How many waits are answered before other tasks run.
_ANSWER_SLICE = 1000
SUPERSEDED = cancelled_outcome(reason="superseded", message="A newer wait took the supersede key.")


async def make_command(new_waits: Sequence[NewWait], now: float, by: Caller | None = None) -> Insert:
    """The command that inserts waits accepted at `now` (Unix seconds).

    A wait with invalid text gets its error as the answer.
    """
    principal = by.principal.name if by else ""
    candidates = [
        _candidate(new, now, principal) async for part in sliced(new_waits, PREPARE_SLICE) for new in part
    ]
    return Insert(candidates, by=by)


def _candidate(new: NewWait, now: float, principal: str) -> Candidate | Exception:
    spec, namespace = new.spec, new.namespace
    try:
        check_texts(new)
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
        principal=principal,
        spec_size=len(new.spec_json),
    )
    return Candidate(
        Inserted(stored, created=True),
        new.spec_json,
        None if new.idempotency_key is None else Key(namespace, new.idempotency_key),
        new.body_digest,
        None if spec.supersede_key is None else Key(namespace, spec.supersede_key),
    )


async def insert(transaction: Transaction, commands: Sequence[Insert]) -> None:
    """Inserts the waits of `commands` and sets the answers."""
    keys = {
        candidate.idempotency_key
        for command in commands
        for candidate in command.candidates
        if isinstance(candidate, Candidate) and candidate.idempotency_key is not None
    }
    earlier = await find_earlier(transaction.connection, keys, transaction.unreadable) if keys else {}
    new: list[Candidate] = []
    for command in commands:
        rooms = Rooms(transaction)
        command.answer = [
            _answer(candidate, earlier, new, rooms)
            async for part in sliced(command.candidates, _ANSWER_SLICE)
            for candidate in part
        ]
        rooms.count()
    losers, endings = await _supersede(transaction, new)
    _insert_rows(transaction.connection, new, losers)
    airflow_index.insert(transaction, (candidate.inserted.wait for candidate in new))
    await finish_waits(transaction, endings)
    ended = {ending.wait.id for ending in endings}
    transaction.inserted += [c.inserted.wait for c in new if c.inserted.wait.id not in ended]


class Rooms:
    """How many more waits one command may insert for each namespace and principal."""

    def __init__(self, transaction: Transaction) -> None:
        self._transaction = transaction
        #: By namespace and principal: how many more waits, and how many were taken.
        self._rooms: dict[tuple[str, str], tuple[float, int]] = {}

    def take(self, wait: StoredWait) -> LimitReached | None:
        """Counts a new wait; returns the limit that leaves no room for it, None: there is room."""
        owner = wait.namespace, wait.principal
        left, taken = self._rooms.get(owner) or (self._transaction.room_for_waits(*owner), 0)
        if taken >= left:
            return self._smallest(*owner).reached
        self._rooms[owner] = left, taken + 1
        return None

    def count(self) -> None:
        """Counts the waits that were taken as held."""
        for (namespace, principal), (_, taken) in self._rooms.items():
            self._transaction.changes.change(Kept.WAITS, namespace, principal, taken)

    def _smallest(self, namespace: str, principal: str) -> Room:
        """The room that leaves no more."""
        room = self._transaction.room
        size = room(Kept.ENDED_BYTES, namespace, principal)
        if size.left <= 0:
            return size
        held, ended = room(Kept.WAITS, namespace, principal), room(Kept.ENDED_WAITS, namespace, principal)
        return ended if ended.left < held.left else held


def _answer(
    candidate: Candidate | Exception, earlier: dict[Key, EarlierSubmit], new: list[Candidate], rooms: Rooms
) -> Inserted | Exception:
    """The answer to one wait.

    A new wait is added to `new`, and to `earlier` for the ones after it.
    """
    if isinstance(candidate, Exception):
        return candidate
    key = candidate.idempotency_key
    if key is not None:
        replayed = replay(earlier.get(key), candidate.body_digest)
        if replayed is not None:
            return replayed
    if reached := rooms.take(candidate.inserted.wait):
        return reached
    if key is not None:
        earlier[key] = EarlierSubmit(candidate.inserted.wait, candidate.body_digest)
    new.append(candidate)
    return candidate.inserted


def _insert_rows(connection: StoreConnection, new: Sequence[Candidate], losers: Container[WaitId]) -> None:
    """Inserts the rows. `losers` are new waits that a later new wait supersedes.

    Most waits have no keys; they take the shorter statement.
    """
    rows, rows_with_keys = [], []
    for candidate in new:
        wait, spec = candidate.inserted.wait, candidate.spec_json
        row = (wait.id, wait.namespace, wait.spec.kind, wait.created_at, wait.deadline, spec, wait.principal)
        key, supersede_key = candidate.idempotency_key, wait.spec.supersede_key
        if key is None and supersede_key is None:
            rows.append(row)
        else:
            keys = (None if key is None else key.text, candidate.body_digest, supersede_key)
            rows_with_keys.append((*row, *keys, wait.id in losers))
    connection.defer_rows(_INSERT, rows)
    connection.defer_rows(_INSERT_WITH_KEYS, rows_with_keys)


async def _supersede(
    transaction: Transaction, new: Sequence[Candidate]
) -> tuple[frozenset[WaitId], list[Ending]]:
    """Takes the supersede keys of `new` from their holders, and stops the holders' deliveries.

    Returns the new waits that lose their key to a later one among `new`, and the waits to end once
    `new` is inserted: those, and the older holders that are still waiting.
    """
    winners = {c.supersede_key: c for c in new if c.supersede_key is not None}
    if not winners:
        return frozenset(), []
    holders = await find_superseded(transaction.connection, winners)
    ids = text_list(row.id for row in holders)
    if holders:
        _LOSE_KEY.defer(transaction.connection, must_change=len(holders), ids=ids)
        _STOP_DELIVERIES.defer(transaction.connection, ids=ids)
    waiting = [
        transaction.with_live_progress(wait)
        async for part in sliced([row for row in holders if row.finished_at is None])
        for wait in transaction.unreadable.readable("waits", part, decode_wait)
    ]
    losers = [
        c.inserted.wait for c in new if c.supersede_key is not None and winners[c.supersede_key] is not c
    ]
    endings = [Ending(wait, SUPERSEDED, transaction.now, deliver=False) for wait in (*waiting, *losers)]
    return frozenset(wait.id for wait in losers), endings
