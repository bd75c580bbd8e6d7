"""Reads the sums of what ended waits have cost."""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import ColumnElement, Text, bindparam, func, select

from waitd.core.costs.model import MeasuredUsage, WaitingTotals
from waitd.ports import CostFilter, CostSums
from waitd.stores.codec import well_formed
from waitd.stores.connection import StoreConnection
from waitd.stores.schema import COST_SUMS, NO_NAMESPACE, costs
from waitd.stores.statements import Statement, one_of, text_list

_SUMS = [func.sum(costs.c[name]) for name in COST_SUMS]
LABEL_VALUES = Statement(
    select(costs.c.value)
    .distinct()
    .where(
        costs.c.label == bindparam("label", type_=Text),
        costs.c.namespace == bindparam("namespace", type_=Text),
        costs.c.day == bindparam("day", type_=Text),
    )
)
_DIMENSIONS = {"kind": costs.c.kind, "day": costs.c.day}


async def find_label_values(connection: StoreConnection, label: str, namespace: str, day: str) -> set[str]:
    """The values of a label that have sums on this day."""
    rows = await LABEL_VALUES.fetch_all(connection, label=label, namespace=namespace, day=day)
    return {value for (value,) in rows}


async def find(connection: StoreConnection, filter_: CostFilter) -> CostSums:
    """See `ApiStore.find_costs`."""
    dimension = _DIMENSIONS.get(filter_.by, costs.c.value)
    conditions = _matching(filter_, "" if filter_.by in _DIMENSIONS else well_formed(filter_.by))
    order = dimension.desc() if filter_.by == "day" else func.sum(costs.c.seconds).desc()
    first = await Statement(
        select(dimension)
        .where(*conditions)
        .group_by(dimension)
        .order_by(order, dimension)
        .limit(filter_.limit + 1)
        .offset(filter_.skip)
    ).fetch_all(connection)
    names = [name for (name,) in first[: filter_.limit] if isinstance(name, str)]
    rows: dict[str, list[WaitingTotals]] = {name: [] for name in names}
    for name, *sums in await Statement(
        select(dimension, costs.c.kind, *_SUMS)
        .where(*conditions, one_of(dimension, "names"))
        .group_by(dimension, costs.c.kind)
    ).fetch_all(connection, names=text_list(names)):
        rows[name].append(_decode_totals(sums))
    return CostSums(
        list(rows.items()),
        len(first) > filter_.limit,
        await _total(connection, filter_),
        await _overhead(connection, filter_.since),
    )


async def _total(connection: StoreConnection, filter_: CostFilter) -> list[WaitingTotals]:
    query = select(costs.c.kind, *_SUMS).where(*_matching(filter_, "")).group_by(costs.c.kind)
    return [_decode_totals(sums) for sums in await Statement(query).fetch_all(connection)]


async def _overhead(connection: StoreConnection, since: str) -> MeasuredUsage:
    query = select(*_SUMS).where(costs.c.label == "", costs.c.namespace == NO_NAMESPACE, costs.c.day >= since)
    [sums] = await Statement(query).fetch_all(connection)
    return MeasuredUsage(*(value or 0.0 for value in sums[-2:]))


def _matching(filter_: CostFilter, label: str) -> list[ColumnElement[bool]]:
    conditions = [costs.c.label == label, costs.c.day >= filter_.since]
    if filter_.namespace is None:
        return [*conditions, costs.c.namespace != NO_NAMESPACE]
    return [*conditions, costs.c.namespace == well_formed(filter_.namespace)]


def _decode_totals(row: Sequence[Any]) -> WaitingTotals:
    kind, waits, seconds, pokes, parked, resumed, *measured = row
    return WaitingTotals(kind, waits, seconds, pokes, parked, resumed, MeasuredUsage(*measured))
