"""Reads audit entries, API keys and signals."""

from typing import Any

import msgspec
import orjson
from sqlalchemy import Text, bindparam, func, select

from waitd.core.auth.api_key import ApiKey
from waitd.core.auth.principal import ROLES_BY_NAME
from waitd.core.waits.audit import AuditEntry
from waitd.ports import AuditFilter, Signal, StoredAuditEntry
from waitd.stores.codec import check_times
from waitd.stores.connection import StoreConnection
from waitd.stores.schema import api_keys, audit, signals
from waitd.stores.statements import Statement, having
from waitd.stores.unreadable import UnreadableRows

_API_KEYS = Statement(select(api_keys).order_by(api_keys.c.created_at))
SIGNAL_PAYLOADS = Statement(
    select(signals.c.id, signals.c.payload)
    .where(
        signals.c.namespace == bindparam("namespace", type_=Text),
        signals.c.key == bindparam("key", type_=Text),
    )
    .order_by(signals.c.id)
)
SIGNAL_KEYS = Statement(
    select(signals.c.namespace, signals.c.key, func.max(signals.c.received_at)).group_by(
        signals.c.namespace, signals.c.key
    )
)


async def find_audit(
    connection: StoreConnection, filter_: AuditFilter, unreadable: UnreadableRows
) -> list[StoredAuditEntry]:
    """Audit entries that match the filter, newest first."""
    conditions = having(
        (audit.c.principal, filter_.principal),
        (audit.c.action, filter_.action),
        (audit.c.subject, filter_.subject),
    )
    newest_first = select(audit).where(*conditions).order_by(audit.c.number.desc())
    result: list[StoredAuditEntry] = []
    before = filter_.before
    while wanted := filter_.limit - len(result):  # what is unreadable must not end a page
        query = newest_first if before is None else newest_first.where(audit.c.number < before)
        rows = await Statement(query.limit(wanted)).fetch_all(connection)
        result += unreadable.readable("audit", rows, _audit_entry)
        if len(rows) < wanted:
            break
        before = rows[-1][0]
    return result


def _audit_entry(row: tuple[Any, ...]) -> StoredAuditEntry:
    number, *columns = row
    entry = msgspec.convert(columns, AuditEntry)
    check_times(entry.at)
    return StoredAuditEntry(number, entry)


async def all_api_keys(connection: StoreConnection, unreadable: UnreadableRows) -> list[ApiKey]:
    """Every API key, the oldest first. One that cannot be read admits no one."""
    return list(unreadable.readable("api_keys", await _API_KEYS.fetch_all(connection), _api_key))


def _api_key(row: tuple[Any, ...]) -> ApiKey:
    key_id, digest, role, *rest = row
    if not isinstance(digest, bytes):
        raise TypeError("its digest is no blob")
    namespace, *_ = msgspec.convert(rest, tuple[str, float, str, float | None, float | None, float | None])
    return ApiKey(key_id, digest, ROLES_BY_NAME[role], namespace, *rest[1:])


async def signal_payloads(
    connection: StoreConnection, namespace: str, key: str, unreadable: UnreadableRows
) -> list[Any]:
    """The payloads under a key, in the order in which they first came."""
    rows = await SIGNAL_PAYLOADS.fetch_all(connection, namespace=namespace, key=key)
    return list(unreadable.readable("signals", rows, lambda row: orjson.loads(row[1])))


async def signal_keys(connection: StoreConnection) -> list[Signal]:
    """Every key that has signals, with the time of its last one."""
    rows = await SIGNAL_KEYS.fetch_all(connection)
    return [Signal(*row) for row in rows if isinstance(row[2], float) and all(map(_is_text, row[:2]))]


def _is_text(value: object) -> bool:
    return isinstance(value, str)
