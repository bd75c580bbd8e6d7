"""How much each namespace and each principal in it has in the database.

The writer counts it at start and adds what each transaction changes, so a limit costs no query.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import structlog
from sqlalchemy import ColumnElement, Table, Text, bindparam, func, select

from waitd.core.auth.quotas import Kept
from waitd.stores.connection import StoreConnection
from waitd.stores.schema import HAS_ENDED, IS_QUEUED, IS_WAITING, deliveries, signals, waits
from waitd.stores.sql_functions import by_index, total
from waitd.stores.statements import Statement

log = structlog.get_logger(__name__)


def _count(
    table: Table, index: str, *sizes: ColumnElement[Any], where: Sequence[ColumnElement[bool]]
) -> Statement:
    """Counts rows by namespace and principal. SQLite would rather read them all in that order."""
    owner = table.c.namespace, table.c.principal
    counts = select(*owner, func.count(), *(total(size) for size in sizes)).where(*where).group_by(*owner)
    return Statement(by_index(counts, table, index))


HELD = _count(waits, "waits_by_state", where=[IS_WAITING])
ENDED = _count(waits, "waits_finished_at", waits.c.kept_bytes, where=[HAS_ENDED])
SIGNALS = _count(signals, "signals_received_at", signals.c.kept_bytes, where=[])
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


async def count_usage(connection: StoreConnection) -> Usage:
    """Counts what is stored. What is on a damaged page is not counted."""
    usage = Usage()
    for statement, keeps in _COUNTED:
        try:
            rows = await statement.fetch_all(connection)
        except Exception as error:
            if not connection.is_damage(error):
                raise
            log.warning("usage_not_counted", counted=[str(kept) for kept in keeps], error=str(error))
            continue
        for namespace, principal, *counts in rows:
            if isinstance(namespace, str):  # a damaged row may hold anything
                for kept, count in zip(keeps, counts, strict=True):
                    usage.change(kept, namespace, principal if isinstance(principal, str) else "", int(count))
    return usage


async def count_redeliveries(connection: StoreConnection, namespaces: Iterable[str]) -> Usage:
    """Counts the deliveries that were queued again in these namespaces and are not done yet."""
    usage = Usage()
    for namespace in namespaces:
        for principal, count in await REDELIVERIES.fetch_all(connection, namespace=namespace):
            usage.change(Kept.REDELIVERIES, namespace, principal, count)
    return usage
