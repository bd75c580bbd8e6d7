"""How much each namespace and each principal in it has in the database.

The writer counts it at start and adds what each transaction changes, so a limit costs no query.
"""

import sqlite3
from collections.abc import Iterable, Mapping

import structlog
from sqlalchemy import Text, bindparam, func, select, text

from waitd.core.auth.quotas import Kept
from waitd.stores.schema import IS_QUEUED, deliveries
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement
from waitd.stores.unreadable import is_damage

log = structlog.get_logger(__name__)

# SQLite would rather read all rows in the order of their namespaces.
HELD = Statement(
    text(
        "SELECT namespace, principal, count(*) FROM waits INDEXED BY waits_by_state"
        " WHERE state = 'waiting' GROUP BY namespace, principal"
    )
)
ENDED = Statement(
    text(
        "SELECT namespace, principal, count(*), total(kept_bytes) FROM waits INDEXED BY waits_finished_at"
        " WHERE finished_at IS NOT NULL GROUP BY namespace, principal"
    )
)
SIGNALS = Statement(
    text(
        "SELECT namespace, principal, count(*), total(kept_bytes)"
        " FROM signals INDEXED BY signals_received_at GROUP BY namespace, principal"
    )
)
REDELIVERIES = Statement(
    select(deliveries.c.redelivered_by, func.count())
    .where(
        IS_QUEUED,
        deliveries.c.redelivered_by.is_not(None),
        deliveries.c.namespace == bindparam("namespace", type_=Text),
    )
    .group_by(deliveries.c.redelivered_by)
)
#: What each statement counts, in the order of its columns.
_COUNTED = (
    (HELD, (Kept.WAITS,)),
    (ENDED, (Kept.ENDED_WAITS, Kept.ENDED_BYTES)),
    (SIGNALS, (Kept.SIGNALS, Kept.SIGNAL_BYTES)),
)


class Usage:
    """Counts by kept thing, namespace and principal; the principal "" is not known."""

    def __init__(self) -> None:
        #: By what is kept, the namespace, and the principal or None; read-only for others.
        self.counts: dict[tuple[Kept, str, str | None], int] = {}

    def get(self, kept: Kept, namespace: str, principal: str | None = None) -> int:
        """How much a principal has in the namespace; None: all of them together."""
        return self.counts.get((kept, namespace, principal), 0)

    def both(self, kept: Kept, namespace: str, principal: str) -> tuple[int, int]:
        """How much the namespace has, and how much of it the principal."""
        if not self.counts:
            return 0, 0
        get = self.counts.get
        return get((kept, namespace, None), 0), get((kept, namespace, principal), 0)

    def change(self, kept: Kept, namespace: str, principal: str, by: int) -> None:
        """Counts `by` more for the principal and the namespace."""
        counts, own, shared = self.counts, (kept, namespace, principal), (kept, namespace, None)
        counts[own] = counts.get(own, 0) + by
        counts[shared] = counts.get(shared, 0) + by

    def by_namespace(self, kept: Kept) -> Mapping[str, int]:
        """How much each namespace has."""
        return {
            namespace: count
            for (counted, namespace, principal), count in self.counts.items()
            if counted is kept and principal is None
        }

    def add(self, changes: "Usage") -> None:
        """Adds the changes of a transaction that is on disk."""
        counts = self.counts
        for key, by in changes.items():
            if count := counts.get(key, 0) + by:
                counts[key] = count
            else:
                counts.pop(key, None)

    def items(self) -> Iterable[tuple[tuple[Kept, str, str | None], int]]:
        """Every count, by what is kept, the namespace, and the principal or None."""
        return self.counts.items()


async def count_usage(connection: ConnectionThread) -> Usage:
    """Counts what is stored. What is on a damaged page is not counted."""
    usage = Usage()
    for statement, keeps in _COUNTED:
        try:
            rows = await statement.fetch_all(connection)
        except sqlite3.Error as error:
            if not is_damage(error):
                raise
            log.warning("usage_not_counted", counted=[str(kept) for kept in keeps], error=str(error))
            continue
        for namespace, principal, *counts in rows:
            if isinstance(namespace, str):  # a damaged row may hold anything
                for kept, count in zip(keeps, counts, strict=True):
                    usage.change(kept, namespace, principal if isinstance(principal, str) else "", int(count))
    return usage


async def count_redeliveries(connection: ConnectionThread, namespaces: Iterable[str]) -> Usage:
    """Counts the deliveries that were queued again in these namespaces and are not done yet."""
    usage = Usage()
    for namespace in namespaces:
        for principal, count in await REDELIVERIES.fetch_all(connection, namespace=namespace):
            usage.change(Kept.REDELIVERIES, namespace, principal, count)
    return usage
