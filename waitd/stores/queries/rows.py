"""Finding rows by the ids of their waits."""

from collections.abc import Sequence

from sqlalchemy import func, literal_column, select

from waitd.core.errors import NotFound
from waitd.ports import StoredDelivery
from waitd.stores.codec import DeliveryRow, WaitRow, stored_delivery
from waitd.stores.operations.transaction import sliced
from waitd.stores.schema import deliveries, waits
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement, one_of, texts

#: How many deliveries are read with a wait, the newest; somebody may have it delivered anew any number of times.
SHOWN = 64

WAITS = Statement(select(waits).where(one_of(waits.c.id, "ids")))
_NEWEST_FIRST = func.row_number().over(partition_by=deliveries.c.wait_id, order_by=deliveries.c.id.desc())
_RANKED = (
    select(deliveries, _NEWEST_FIRST.label("rank")).where(one_of(deliveries.c.wait_id, "ids")).subquery()
)
DELIVERIES = Statement(
    select(*(_RANKED.c[column.name] for column in deliveries.c))
    .where(_RANKED.c.rank <= literal_column(str(SHOWN)))
    .order_by(_RANKED.c.id)
)


async def wait_rows(link: ConnectionThread, wait_ids: Sequence[str]) -> dict[str, WaitRow]:
    """The rows of these waits, by id."""
    rows = await WAITS.run(link, ids=texts(wait_ids)) if wait_ids else []
    return {row[0]: WaitRow._make(row) for row in rows}


async def deliveries_of(
    link: ConnectionThread, wait_ids: Sequence[str]
) -> dict[str, tuple[StoredDelivery, ...]]:
    """The newest deliveries of these waits (up to `SHOWN` each), oldest first, by the wait's id; waits without any are left out."""
    rows = await DELIVERIES.run(link, ids=texts(wait_ids)) if wait_ids else []
    found: dict[str, list[StoredDelivery]] = {}
    async for part in sliced(rows):
        for row in map(DeliveryRow._make, part):
            found.setdefault(row.wait_id, []).append(stored_delivery(row))
    return {wait_id: tuple(items) for wait_id, items in found.items()}


def seen_from(namespace: str | None, row: WaitRow | None) -> WaitRow | None:
    """The row, if it lies in the namespace (None: any)."""
    return row if row is not None and namespace in {None, row.namespace} else None


def not_found(wait_id: str) -> NotFound:
    """What is said of a wait that is not there, or in another namespace."""
    return NotFound(f"there is no wait {wait_id}")
