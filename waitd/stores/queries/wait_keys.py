"""Reads waits by a caller's key: the idempotency key, or the supersede key."""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from sqlalchemy import Column, ColumnElement, Text, bindparam, select

from waitd.core.errors import Conflict, Unreadable
from waitd.ports import IdempotentSubmit, Inserted, StoredDelivery, StoredWait
from waitd.stores.codec import WaitRow, sliced, well_formed
from waitd.stores.connection import StoreConnection
from waitd.stores.queries.waits import decode_one, deliveries_of
from waitd.stores.schema import HOLDS_SUPERSEDE_KEY, waits
from waitd.stores.statements import Statement, one_of, text_list
from waitd.stores.unreadable import UnreadableRows


class Key(NamedTuple):
    """A caller's key, which is unique within its namespace."""

    namespace: str
    text: str


class EarlierSubmit(NamedTuple):
    """The wait that was submitted under an idempotency key, and the digest of the request body."""

    wait: StoredWait | Unreadable
    body_digest: bytes | None


def _wait_or_error(
    row: WaitRow, deliveries: tuple[StoredDelivery, ...], unreadable: UnreadableRows
) -> StoredWait | Unreadable:
    try:
        return decode_one(row, unreadable, deliveries)
    except Unreadable as error:
        return error


def _by_key(column: Column[Any], *conditions: ColumnElement[bool]) -> Statement:
    in_namespace = waits.c.namespace == bindparam("namespace", type_=Text)
    return Statement(select(column, *waits.c).where(in_namespace, one_of(column, "keys"), *conditions))


_BY_IDEMPOTENCY_KEY = _by_key(waits.c.idempotency_key)
_BY_SUPERSEDE_KEY = _by_key(waits.c.supersede_key, HOLDS_SUPERSEDE_KEY)


async def find_earlier(
    connection: StoreConnection, keys: Iterable[Key], unreadable: UnreadableRows
) -> dict[Key, EarlierSubmit]:
    """The waits that were submitted under these idempotency keys, as they are now."""
    rows = await _rows_by_key(connection, _BY_IDEMPOTENCY_KEY, keys)
    ended = [row.id for row in rows.values() if row.finished_at is not None]
    by_wait = await deliveries_of(connection, ended, unreadable)
    return {
        key: EarlierSubmit(_wait_or_error(row, by_wait.get(row.id, ()), unreadable), row.body_digest)
        async for part in sliced(list(rows.items()))
        for key, row in part
    }


async def find_superseded(connection: StoreConnection, keys: Iterable[Key]) -> list[WaitRow]:
    """The rows of the waits that hold these supersede keys."""
    return list((await _rows_by_key(connection, _BY_SUPERSEDE_KEY, keys)).values())


async def find_replays(
    connection: StoreConnection, submits: Sequence[IdempotentSubmit], unreadable: UnreadableRows
) -> list[Inserted | Conflict | None]:
    """See `ApiStore.find_replays`."""
    keys = [Key(submit.namespace, submit.key) for submit in submits]
    # A key with lone surrogates was never stored.
    stored = {key for key in keys if well_formed(key.text) == key.text}
    earlier = await find_earlier(connection, stored, unreadable)
    return [replay(earlier.get(key), submit.body_digest) for key, submit in zip(keys, submits, strict=True)]


def replay(earlier: EarlierSubmit | None, body_digest: bytes | None) -> Inserted | Conflict | None:
    """The answer to a submit whose key was used before: the wait, or a Conflict."""
    if earlier is None:
        return None
    if isinstance(earlier.wait, Unreadable):
        return earlier.wait
    if earlier.body_digest != body_digest:
        return Conflict("the idempotency key was used before, with another body")
    return Inserted(earlier.wait, created=False)


async def _rows_by_key(
    connection: StoreConnection, query: Statement, keys: Iterable[Key]
) -> dict[Key, WaitRow]:
    by_namespace: dict[str, list[str]] = {}
    for namespace, key in keys:
        by_namespace.setdefault(namespace, []).append(key)
    result: dict[Key, WaitRow] = {}
    for namespace, texts in by_namespace.items():
        for row in await query.fetch_all(connection, namespace=namespace, keys=text_list(texts)):
            result[Key(namespace, row[0])] = WaitRow._make(row[1:])
    return result
