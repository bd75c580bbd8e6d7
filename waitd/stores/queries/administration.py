"""Reads audit entries, API keys and signals."""

from typing import Any

import orjson
from sqlalchemy import Text, bindparam, func, select

from waitd.core.auth.api_key import ApiKey
from waitd.core.auth.principal import ROLES_BY_NAME
from waitd.core.waits.audit import AuditEntry
from waitd.ports import AuditFilter, Signal, StoredAuditEntry
from waitd.stores.schema import api_keys, audit, signals
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement, having

_API_KEYS = Statement(select(api_keys).order_by(api_keys.c.created_at))
SIGNAL_PAYLOADS = Statement(
    select(signals.c.payload)
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


async def find_audit(connection: ConnectionThread, filter_: AuditFilter) -> list[StoredAuditEntry]:
    """Audit entries that match the filter, newest first."""
    conditions = having(
        (audit.c.principal, filter_.principal),
        (audit.c.action, filter_.action),
        (audit.c.subject, filter_.subject),
    )
    query = select(audit).where(*conditions).order_by(audit.c.number.desc()).limit(filter_.limit)
    if filter_.before is not None:
        query = query.where(audit.c.number < filter_.before)
    rows = await Statement(query).fetch_all(connection)
    return [StoredAuditEntry(number, AuditEntry(*entry)) for number, *entry in rows]


async def all_api_keys(connection: ConnectionThread) -> list[ApiKey]:
    """Every API key, the oldest first."""
    return [
        ApiKey(key_id, bytes(digest), ROLES_BY_NAME[role], *rest)
        for key_id, digest, role, *rest in await _API_KEYS.fetch_all(connection)
    ]


async def signal_payloads(connection: ConnectionThread, namespace: str, key: str) -> list[Any]:
    """The payloads under a key, in the order in which they first came."""
    rows = await SIGNAL_PAYLOADS.fetch_all(connection, namespace=namespace, key=key)
    return [orjson.loads(payload) for (payload,) in rows]


async def signal_keys(connection: ConnectionThread) -> list[Signal]:
    """Every key that has signals, with the time of its last one."""
    rows = await SIGNAL_KEYS.fetch_all(connection)
    return [Signal(namespace, key, received_at) for namespace, key, received_at in rows]
