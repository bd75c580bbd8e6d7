"""What waiting has cost, by the day on which waits ended: sums that outlive the waits, written in the transaction that ends them.

A row for each day, namespace, label, value and kind. The label "" stands for all waits, so that its rows add up to the whole; a wait
without a label counts under that label's value "". Of a label, a day and namespace have a bounded number of values; what comes beyond
is one more, `OTHER`.
"""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from sqlalchemy import ColumnElement, Integer, Select, Text, bindparam, delete, func, literal_column, select

from waitd.core.costs.model import MeasuredUsage, WaitingTotals
from waitd.ports import CostFilter, CostSums, StoredWait
from waitd.stores.operations.requests import SaveOverhead
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import costs
from waitd.stores.sqlite import bulk
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement, one_of, texts
from waitd.stores.text import well_formed

OTHER = "(other)"
#: The namespace of what belongs to no wait, and so to nobody.
NO_NAMESPACE = ""
#: How many rows of old days one write deletes.
_PRUNED = 1000
_KEY = ("label", "namespace", "day", "value", "kind")
_SUMS = ("waits", "seconds", "pokes", "parked", "resumed", "cpu_seconds", "byte_seconds")
_ADD = bulk.Bulk(
    f"INSERT INTO costs ({', '.join((*_KEY, *_SUMS))}) VALUES ",  # noqa: S608 - names of our own
    len(_KEY) + len(_SUMS),
    f" ON CONFLICT ({', '.join(_KEY)}) DO UPDATE SET "
    + ", ".join(f"{name} = costs.{name} + excluded.{name}" for name in _SUMS),
)
_ROWID = literal_column("rowid", Integer)
PRUNE = Statement(
    delete(costs).where(
        _ROWID.in_(
            select(_ROWID)
            .select_from(costs)
            .where(costs.c.day < bindparam("before", type_=Text))
            .limit(_PRUNED)
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


async def add(transaction: Transaction, ended: Iterable[StoredWait]) -> None:
    """Adds what waits that end in this transaction have cost."""
    rules = transaction.rules.costs
    sums: dict[_CostKey, WaitingTotals] = {}
    for wait in ended:
        if wait.measured is None or wait.finished_at is None:
            continue
        spec, day = wait.spec, day_of(wait.finished_at)
        one = WaitingTotals.of(
            spec.kind,
            spec.sinks,
            seconds=wait.finished_at - wait.created_at,
            pokes=wait.progress.pokes,
            measured=wait.measured,
        )
        for label in ("", *rules.labels):
            value = spec.labels.get(label, "") if label else ""
            if label:
                known = await transaction.known_values.of(transaction.link, label, wait.namespace, day)
                if value not in known:
                    if len(known) < rules.values:
                        known.add(value)
                    else:
                        value = OTHER
            key = _CostKey(label, wait.namespace, day, value, spec.kind)
            sums[key] = sums[key].plus(one) if key in sums else one
    bulk.write(transaction.link, _ADD, [_row(key, waiting) for key, waiting in sums.items()])


def save_overhead(transaction: Transaction, operations: Sequence[SaveOverhead]) -> None:
    """Adds what belonged to no wait, and deletes sums of days that are older than they are kept."""
    if not operations:
        return
    total = WaitingTotals("")
    for operation in operations:
        total = total.plus(WaitingTotals("", measured=operation.measured))
    key = _CostKey("", NO_NAMESPACE, day_of(transaction.now), "", "")
    bulk.write(transaction.link, _ADD, [_row(key, total)])
    before = day_of(transaction.now - transaction.rules.costs.retention)
    PRUNE.write(transaction.link, before=before)


def _row(key: _CostKey, waiting: WaitingTotals) -> tuple[Any, ...]:
    return (*key, *waiting[1:-1], *waiting.measured)


# ---------------------------------------------------------------- reading

_DIMENSIONS = {"kind": costs.c.kind, "day": costs.c.day}


async def find(link: ConnectionThread, wanted: CostFilter) -> CostSums:
    """The sums; see `ApiStore.costs`."""
    dimension = _DIMENSIONS.get(wanted.by, costs.c.value)
    label = "" if wanted.by in _DIMENSIONS else well_formed(wanted.by)
    of_label = _within(wanted, label)
    order = dimension.desc() if wanted.by == "day" else func.sum(costs.c.seconds).desc()
    first = await Statement(
        select(dimension)
        .where(*of_label)
        .group_by(dimension)
        .order_by(order, dimension)
        .limit(wanted.limit + 1)
    ).run(link)
    names = [name for (name,) in first[: wanted.limit]]
    rows: dict[str, list[WaitingTotals]] = {name: [] for name in names}
    for name, *sums in await Statement(
        _summed(dimension).where(*of_label, one_of(dimension, "names")).group_by(dimension, costs.c.kind)
    ).run(link, names=texts(names)):
        rows[name].append(_waiting(sums))
    whole = select(costs.c.kind, *_columns()).where(*_within(wanted, "")).group_by(costs.c.kind)
    total = [_waiting(sums) for sums in await Statement(whole).run(link)]
    overhead = await Statement(
        select(*_columns()).where(
            costs.c.label == "", costs.c.namespace == NO_NAMESPACE, costs.c.day >= wanted.since
        )
    ).run(link)
    measured = MeasuredUsage(*(value or 0.0 for value in overhead[0][-2:]))
    return CostSums(list(rows.items()), len(first) > len(names), total, measured)


def _columns() -> list[ColumnElement[Any]]:
    return [func.sum(costs.c[name]) for name in _SUMS]


def _summed(dimension: ColumnElement[Any]) -> Select[Any]:
    return select(dimension, costs.c.kind, *_columns())


def _within(wanted: CostFilter, label: str) -> list[ColumnElement[bool]]:
    conditions = [costs.c.label == label, costs.c.day >= wanted.since]
    if wanted.namespace is None:
        return [*conditions, costs.c.namespace != NO_NAMESPACE]
    return [*conditions, costs.c.namespace == well_formed(wanted.namespace)]


def _waiting(row: Sequence[Any]) -> WaitingTotals:
    kind, waits, seconds, pokes, parked, resumed, *measured = row
    return WaitingTotals(kind, waits, seconds, pokes, parked, resumed, MeasuredUsage(*measured))
