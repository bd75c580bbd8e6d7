"""Adds up what waits have cost, by the day on which they ended, in the transaction that ends them.

A row holds the sums of a day, namespace, label, value and kind, and outlives the waits. The label
"" stands for all waits, so that its rows add up to the whole. A wait without a label counts under
that label's value "". The values of a label are bounded per day and namespace; the rest counts as
`OTHER`.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import Text, bindparam, delete, select

from waitd.core.costs.model import WaitingTotals
from waitd.ports import StoredWait
from waitd.stores import bulk
from waitd.stores.operations.commands import SaveOverhead
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import NO_NAMESPACE, costs
from waitd.stores.sql_functions import RowId
from waitd.stores.statements import Statement

OTHER = "(other)"
#: How many rows of old days one write deletes.
_PRUNE_ROWS = 1000
_ADD = bulk.insert_into(costs, on_conflict=bulk.OnConflict.ADD)
_ROW_ID = RowId("costs")
PRUNE = Statement(
    delete(costs).where(
        _ROW_ID.in_(
            select(_ROW_ID)
            .select_from(costs)
            .where(costs.c.day < bindparam("before", type_=Text))
            .limit(_PRUNE_ROWS)
        )
    )
)


class _CostKey(NamedTuple):
    label: str
    namespace: str
    day: str
    value: str
    kind: str


def day_of(at: float) -> str:
    """The day of a moment (Unix seconds), UTC, as it is stored: `2026-11-21`."""
    return datetime.fromtimestamp(at, UTC).date().isoformat()


async def add(transaction: Transaction, finished: Iterable[StoredWait]) -> None:
    """Adds the costs of waits that end in this transaction."""
    sums: dict[_CostKey, WaitingTotals] = {}
    for wait in finished:
        if wait.measured is None or wait.finished_at is None:
            continue
        day = day_of(wait.finished_at)
        totals = WaitingTotals.from_wait(
            wait.spec.kind,
            wait.spec.sinks,
            seconds=wait.finished_at - wait.created_at,
            pokes=wait.progress.pokes,
            measured=wait.measured,
        )
        for label in ("", *transaction.rules.costs.labels):
            value = await _bounded_value(transaction, wait, label, day) if label else ""
            key = _CostKey(label, wait.namespace, day, value, wait.spec.kind)
            sums[key] = sums[key].plus(totals) if key in sums else totals
    transaction.connection.defer_rows(_ADD, [_row(key, totals) for key, totals in sums.items()])


async def _bounded_value(transaction: Transaction, wait: StoredWait, label: str, day: str) -> str:
    """The wait's value of a label, or `OTHER` if the label has its full number of values."""
    value = wait.spec.labels.get(label, "")
    known = await transaction.label_values.get(transaction.connection, label, wait.namespace, day)
    if value not in known:
        if len(known) >= transaction.rules.costs.max_values:
            return OTHER
        known.add(value)
    return value


def save_overhead(transaction: Transaction, commands: Sequence[SaveOverhead]) -> None:
    """Adds usage that belongs to no wait, and deletes the sums of days that are too old."""
    if not commands:
        return
    total = WaitingTotals("")
    for command in commands:
        total = total.plus(WaitingTotals("", measured=command.measured))
    key = _CostKey("", NO_NAMESPACE, day_of(transaction.now), "", "")
    transaction.connection.defer_rows(_ADD, [_row(key, total)])
    PRUNE.defer(transaction.connection, before=day_of(max(command.before for command in commands)))


def _row(key: _CostKey, totals: WaitingTotals) -> tuple[Any, ...]:
    return (*key, *totals[1:-1], *totals.measured)
