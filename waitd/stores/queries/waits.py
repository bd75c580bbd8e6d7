"""Reads waits: by id, by filter, by idempotency key, and all that wait."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from sqlalchemy import (
    Column,
    ColumnElement,
    Integer,
    Select,
    Text,
    bindparam,
    func,
    literal,
    literal_column,
    select,
)

from waitd.core.errors import Conflict, NotFound
from waitd.core.waits.wait import WaitId
from waitd.ports import IdempotentSubmit, Inserted, StoredDelivery, StoredWait, WaitFilter
from waitd.stores.codec import (
    DeliveryRow,
    WaitingRow,
    WaitRow,
    decode_delivery,
    decode_wait,
    decode_waiting,
    sliced,
    well_formed,
)
from waitd.stores.schema import HAS_JOB_TO_CANCEL, HOLDS_SUPERSEDE_KEY, IS_WAITING, deliveries, waits
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement, having, one_of, text_list

#: How many waits are decoded before other tasks run, where all are read: about three milliseconds'
#: worth.
LOAD_SLICE = 500
#: How many deliveries are read with a wait, the newest; a wait may be redelivered any number of
#: times.
MAX_DELIVERIES = 64

_AFTER, _LIMIT = bindparam("after", type_=Text), bindparam("limit", type_=Integer)
BY_ID = Statement(select(waits).where(one_of(waits.c.id, "ids")))
_NEWEST_FIRST = func.row_number().over(partition_by=deliveries.c.wait_id, order_by=deliveries.c.id.desc())
_RANKED = (
    select(deliveries, _NEWEST_FIRST.label("rank")).where(one_of(deliveries.c.wait_id, "ids")).subquery()
)
DELIVERIES = Statement(
    select(*(_RANKED.c[column.name] for column in deliveries.c))
    .where(_RANKED.c.rank <= literal_column(str(MAX_DELIVERIES)))
    .order_by(_RANKED.c.id)
)
WAITING = Statement(
    select(*(waits.c[name] for name in WaitingRow._fields))
    .where(IS_WAITING, waits.c.id > _AFTER)
    .order_by(waits.c.id)
    .limit(_LIMIT)
)
WAITING_IDS = Statement(
    select(waits.c.id).where(IS_WAITING, waits.c.id > _AFTER).order_by(waits.c.id).limit(_LIMIT)
)
JOBS_TO_CANCEL = Statement(
    select(waits).where(HAS_JOB_TO_CANCEL, waits.c.id > _AFTER).order_by(waits.c.id).limit(_LIMIT)
)
COUNTS = Statement(select(waits.c.state, waits.c.kind, func.count()).group_by(waits.c.state, waits.c.kind))


async def rows_by_id(connection: ConnectionThread, wait_ids: Sequence[str]) -> dict[str, WaitRow]:
    """The rows of these waits, by id."""
    rows = await BY_ID.fetch_all(connection, ids=text_list(wait_ids)) if wait_ids else []
    return {row[0]: WaitRow._make(row) for row in rows}


async def deliveries_of(
    connection: ConnectionThread, wait_ids: Sequence[str]
) -> dict[str, tuple[StoredDelivery, ...]]:
    """The newest `MAX_DELIVERIES` deliveries of each wait, oldest first, by the wait's id."""
    rows = await DELIVERIES.fetch_all(connection, ids=text_list(wait_ids)) if wait_ids else []
    by_wait: dict[str, list[StoredDelivery]] = {}
    async for part in sliced(rows):
        for row in map(DeliveryRow._make, part):
            by_wait.setdefault(row.wait_id, []).append(decode_delivery(row))
    return {wait_id: tuple(items) for wait_id, items in by_wait.items()}


def visible_in(namespace: str | None, row: WaitRow | None) -> WaitRow | None:
    """The row if it belongs to the namespace; None stands for any namespace."""
    return row if row is not None and namespace in {None, row.namespace} else None


def not_found(wait_id: str) -> NotFound:
    """The error for a wait that does not exist or belongs to another namespace."""
    return NotFound(f"there is no wait {wait_id}")


async def get(connection: ConnectionThread, wait_id: str, namespace: str | None) -> StoredWait:
    """One wait with its newest deliveries, oldest first.

    Raises:
        NotFound: it does not exist, or it belongs to another namespace.
    """
    wait_id = well_formed(wait_id)
    row = visible_in(namespace, (await rows_by_id(connection, [wait_id])).get(wait_id))
    if row is None:
        raise not_found(wait_id)
    if row.finished_at is None:  # deliveries are written in the transaction that ends a wait
        return decode_wait(row)
    return decode_wait(row, (await deliveries_of(connection, [wait_id])).get(wait_id, ()))


async def find(connection: ConnectionThread, filter_: WaitFilter) -> list[StoredWait]:
    """Waits that match the filter, newest first, each with its newest deliveries."""
    rows = [WaitRow._make(row) for row in await Statement(matching(filter_)).fetch_all(connection)]
    by_wait = await deliveries_of(connection, [row.id for row in rows if row.finished_at is not None])
    return [decode_wait(row, by_wait.get(row.id, ())) async for part in sliced(rows) for row in part]


def matching(filter_: WaitFilter) -> Select[Any]:
    """The query for the rows that match the filter."""
    conditions = having(
        (waits.c.namespace, filter_.namespace), (waits.c.state, filter_.state), (waits.c.kind, filter_.kind)
    )
    query = select(waits).where(*conditions).order_by(waits.c.id.desc()).limit(filter_.limit)
    if filter_.before is not None:
        query = query.where(waits.c.id < well_formed(filter_.before))
    for name, value in (filter_.labels or {}).items():
        # Compared as values: a JSON path cannot escape every label's name.
        label = func.json_each(waits.c.spec, "$.labels").table_valued("key", "value", joins_implicitly=True)
        query = query.where(
            select(literal(1))
            .where(label.c.key == well_formed(name), label.c.value == literal(well_formed(value), Text))
            .exists()
        )
    return query


async def load_waiting(connection: ConnectionThread, after: WaitId | None, limit: int) -> list[StoredWait]:
    """A page of waiting waits in the order of their ids."""
    rows = await WAITING.fetch_all(connection, after=after or "", limit=limit)
    return [decode_waiting(WaitingRow._make(row)) async for part in sliced(rows, LOAD_SLICE) for row in part]


async def waiting_ids(connection: ConnectionThread, after: WaitId | None, limit: int) -> list[WaitId]:
    """A page of the ids of waiting waits, in their order."""
    rows = await WAITING_IDS.fetch_all(connection, after=after or "", limit=limit)
    return [WaitId(wait_id) for (wait_id,) in rows]


async def jobs_to_cancel(connection: ConnectionThread, after: WaitId | None, limit: int) -> list[StoredWait]:
    """A page of ended waits whose jobs have yet to be cancelled, in the order of their ids."""
    rows = await JOBS_TO_CANCEL.fetch_all(connection, after=after or "", limit=limit)
    return [decode_wait(WaitRow._make(row)) for row in rows]


async def counts(connection: ConnectionThread) -> Mapping[tuple[str, str], int]:
    """The number of waits by (state, kind)."""
    return {(state, kind): count for state, kind, count in await COUNTS.fetch_all(connection)}


# ---------------------------------------------------------------- by a caller's key


class Key(NamedTuple):
    """A caller's key, which is unique within its namespace."""

    namespace: str
    text: str


class EarlierSubmit(NamedTuple):
    """The wait that was submitted under an idempotency key, and the digest of the request body."""

    wait: StoredWait
    body_digest: bytes | None


def _by_key(column: Column[Any], *conditions: ColumnElement[bool]) -> Statement:
    in_namespace = waits.c.namespace == bindparam("namespace", type_=Text)
    return Statement(select(column, *waits.c).where(in_namespace, one_of(column, "keys"), *conditions))


_BY_IDEMPOTENCY_KEY = _by_key(waits.c.idempotency_key)
_BY_SUPERSEDE_KEY = _by_key(waits.c.supersede_key, HOLDS_SUPERSEDE_KEY)


async def find_earlier(connection: ConnectionThread, keys: Iterable[Key]) -> dict[Key, EarlierSubmit]:
    """The waits that were submitted under these idempotency keys, as they are now."""
    rows = await _rows_by_key(connection, _BY_IDEMPOTENCY_KEY, keys)
    ended = [row.id for row in rows.values() if row.finished_at is not None]
    by_wait = await deliveries_of(connection, ended)
    return {
        key: EarlierSubmit(decode_wait(row, by_wait.get(row.id, ())), row.body_digest)
        async for part in sliced(list(rows.items()))
        for key, row in part
    }


async def find_superseded(connection: ConnectionThread, keys: Iterable[Key]) -> list[WaitRow]:
    """The rows of the waits that hold these supersede keys."""
    return list((await _rows_by_key(connection, _BY_SUPERSEDE_KEY, keys)).values())


async def find_replays(
    connection: ConnectionThread, submits: Sequence[IdempotentSubmit]
) -> list[Inserted | Conflict | None]:
    """See `ApiStore.find_replays`."""
    keys = [Key(submit.namespace, submit.key) for submit in submits]
    # A key with lone surrogates was never stored.
    earlier = await find_earlier(connection, {key for key in keys if well_formed(key.text) == key.text})
    return [replay(earlier.get(key), submit.body_digest) for key, submit in zip(keys, submits, strict=True)]


def replay(earlier: EarlierSubmit | None, body_digest: bytes | None) -> Inserted | Conflict | None:
    """The answer to a submit whose key was used before: the wait, or a Conflict."""
    if earlier is None:
        return None
    if earlier.body_digest != body_digest:
        return Conflict("the idempotency key was used before, with another body")
    return Inserted(earlier.wait, created=False)


async def _rows_by_key(
    connection: ConnectionThread, query: Statement, keys: Iterable[Key]
) -> dict[Key, WaitRow]:
    by_namespace: dict[str, list[str]] = {}
    for namespace, key in keys:
        by_namespace.setdefault(namespace, []).append(key)
    result: dict[Key, WaitRow] = {}
    for namespace, texts in by_namespace.items():
        for row in await query.fetch_all(connection, namespace=namespace, keys=text_list(texts)):
            result[Key(namespace, row[0])] = WaitRow._make(row[1:])
    return result
