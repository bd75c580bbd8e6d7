"""Saves signals for a while; the same payload under the same key is saved once."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson
import uuid_utils
from sqlalchemy import Float, Integer, LargeBinary, Text, bindparam, case, delete, exists, func, select, text

from waitd.core.auth.quotas import Kept
from waitd.core.errors import Conflict, InvalidInput, LimitReached
from waitd.core.waits.audit import Caller
from waitd.ports import Signal, SignalKey
from waitd.stores.operations.commands import PruneSignals, SaveSignal
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import signals
from waitd.stores.statements import Statement, one_of, text_list

#: How many different payloads are kept under one key.
MAX_PAYLOADS = 32

_COUNT = Statement(
    select(
        func.count(), func.max(case((signals.c.digest == bindparam("digest", type_=LargeBinary), 1), else_=0))
    ).where(
        signals.c.namespace == bindparam("namespace", type_=Text),
        signals.c.key == bindparam("key", type_=Text),
    )
)
_SAVE = Statement(
    text(
        "INSERT INTO signals (id, namespace, key, digest, payload, received_at, principal, kept_bytes)"
        " VALUES (:id, :namespace, :key, :digest, :payload, :received_at, :principal, :kept_bytes)"
        " ON CONFLICT (namespace, key, digest) DO UPDATE SET received_at = excluded.received_at"
    )
)
_same = signals.alias()
_OLD = Statement(
    select(signals.c.id, signals.c.namespace, signals.c.key, signals.c.principal, signals.c.kept_bytes)
    .where(
        signals.c.received_at < bindparam("before", type_=Float),
        exists().where(_same.c.id == signals.c.id),  # not one with a damaged id, which is not found
    )
    .order_by(signals.c.received_at)
    .limit(bindparam("limit", type_=Integer))
)
_DELETE = Statement(delete(signals).where(one_of(signals.c.id, "ids")))


def make_command(namespace: str, key: str, payload: Any, by: Caller | None = None) -> SaveSignal:
    """The command that saves a signal.

    Raises:
        InvalidInput: JSON cannot hold the payload (lone surrogates, integers over 64 bits).
    """
    try:
        encoded = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise InvalidInput.at("", f"the payload cannot be stored as JSON: {error}") from None
    return SaveSignal(Signal(namespace, key), encoded.decode(), sha256(encoded).digest(), by=by)


async def save(transaction: Transaction, commands: Sequence[SaveSignal]) -> None:
    """Saves signals.

    The answer is None, a Conflict where the key has too many payloads, or a LimitReached.
    """
    for command in commands:
        signal = command.signal
        key = {"namespace": signal.namespace, "key": signal.key}
        ((count, known),) = await _COUNT.fetch_all(transaction.connection, **key, digest=command.digest)
        if count >= MAX_PAYLOADS and not known:
            command.answer = Conflict(f"{count} different payloads are kept under this key already")
            continue
        principal = command.by.principal.name if command.by else ""
        size = len(command.payload) + len(signal.key)
        if not known:
            if reached := _limit_reached(transaction, signal.namespace, principal, size):
                command.answer = reached
                continue
            transaction.changes.change(Kept.SIGNALS, signal.namespace, principal, 1)
            transaction.changes.change(Kept.SIGNAL_BYTES, signal.namespace, principal, size)
        _SAVE.defer(
            transaction.connection,
            must_change=1,
            **key,
            id=str(uuid_utils.uuid7()),
            digest=command.digest,
            payload=command.payload,
            received_at=transaction.now,
            principal=principal,
            kept_bytes=size,
        )
        transaction.signals.append(signal._replace(received_at=transaction.now))


def _limit_reached(
    transaction: Transaction, namespace: str, principal: str, size: int
) -> LimitReached | None:
    for kept, needed in ((Kept.SIGNALS, 1), (Kept.SIGNAL_BYTES, size)):
        room = transaction.room(kept, namespace, principal)
        if room.left < needed:
            return room.reached
    return None


async def prune(transaction: Transaction, commands: Sequence[PruneSignals]) -> None:
    """Deletes the oldest signals; the answer is their keys."""
    for command in commands:
        old = await _OLD.fetch_all(transaction.connection, before=command.before, limit=command.limit)
        ids = text_list(row[0] for row in old)
        _DELETE.defer(transaction.connection, must_change=len(old), ids=ids)
        command.answer = [SignalKey(namespace, key) for _, namespace, key, _, _ in old]
        for _, namespace, _, principal, size in old:
            transaction.changes.change(Kept.SIGNALS, namespace, principal or "", -1)
            transaction.changes.change(Kept.SIGNAL_BYTES, namespace, principal or "", -(size or 0))
