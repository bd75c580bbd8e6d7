"""Signals: kept under their key for a while, the same payload once."""

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import orjson
import uuid_utils
from sqlalchemy import Float, Integer, LargeBinary, Text, bindparam, delete, func, select, text

from waitd.core.errors import Conflict, InvalidInput
from waitd.core.waits.audit import Caller
from waitd.ports import Signal, SignalKey
from waitd.stores.operations.requests import PruneSignals, SaveSignal
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import signals
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement

#: How many different payloads are kept under one key.
MOST_OF_A_KEY = 32

_NAMESPACE, _KEY = bindparam("namespace", type_=Text), bindparam("key", type_=Text)
_OF_KEY = (signals.c.namespace == _NAMESPACE, signals.c.key == _KEY)
COUNT = Statement(
    select(func.count(), func.max(signals.c.digest == bindparam("digest", type_=LargeBinary))).where(*_OF_KEY)
)
_KEEP = Statement(
    text(
        "INSERT INTO signals (id, namespace, key, digest, payload, received_at)"
        " VALUES (:id, :namespace, :key, :digest, :payload, :received_at)"
        " ON CONFLICT (namespace, key, digest) DO UPDATE SET received_at = excluded.received_at"
    )
)
OF_KEY = Statement(select(signals.c.payload).where(*_OF_KEY).order_by(signals.c.id))
KEYS = Statement(
    select(signals.c.namespace, signals.c.key, func.max(signals.c.received_at)).group_by(
        signals.c.namespace, signals.c.key
    )
)
OLD = Statement(
    select(signals.c.id, signals.c.namespace, signals.c.key)
    .where(signals.c.received_at < bindparam("before", type_=Float))
    .order_by(signals.c.received_at)
    .limit(bindparam("limit", type_=Integer))
)
_DELETE = Statement(delete(signals).where(signals.c.id == bindparam("id", type_=Text)))


def prepare(namespace: str, key: str, payload: Any, by: Caller | None = None) -> SaveSignal:
    """The operation that keeps a signal.

    Raises:
        InvalidInput: the payload is no JSON (lone surrogates, integers over 64 bits).
    """
    try:
        encoded = orjson.dumps(payload, option=orjson.OPT_SORT_KEYS)
    except TypeError as error:
        raise InvalidInput.at("", f"the payload cannot be kept as JSON: {error}") from None
    return SaveSignal(Signal(namespace, key), encoded.decode(), sha256(encoded).digest(), by=by)


async def keep(transaction: Transaction, operations: Sequence[SaveSignal]) -> None:
    """Keeps signals. The answer is None, or a Conflict where too many are kept under the key."""
    for operation in operations:
        signal = operation.signal
        where = {"namespace": signal.namespace, "key": signal.key}
        ((count, known),) = await COUNT.run(transaction.link, **where, digest=operation.digest)
        if count >= MOST_OF_A_KEY and not known:
            operation.answer = Conflict(f"{count} different payloads are kept under this key already")
            continue
        _KEEP.write(
            transaction.link,
            **where,
            id=str(uuid_utils.uuid7()),
            digest=operation.digest,
            payload=operation.payload,
            received_at=transaction.now,
        )
        transaction.signals.append(signal._replace(received_at=transaction.now))


async def prune(transaction: Transaction, operations: Sequence[PruneSignals]) -> None:
    """Deletes the oldest signals; the answer is their keys."""
    for operation in operations:
        old = await OLD.run(transaction.link, before=operation.before, limit=operation.limit)
        for signal_id, _, _ in old:
            _DELETE.write(transaction.link, id=signal_id)
        operation.answer = [SignalKey(namespace, key) for _, namespace, key in old]


async def of_key(link: ConnectionThread, namespace: str, key: str) -> list[Any]:
    """The payloads under a key, in the order in which they first came."""
    return [orjson.loads(payload) for (payload,) in await OF_KEY.run(link, namespace=namespace, key=key)]


async def keys(link: ConnectionThread) -> list[Signal]:
    """Every key that has signals, and when its last one came."""
    return [Signal(namespace, key, received_at) for namespace, key, received_at in await KEYS.run(link)]
