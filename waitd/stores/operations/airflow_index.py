"""Which Airflow waiting waits will tell. It stands in each wait's specification, and once more in a table of its own: the sweep for gone
tasks asks each minute, and would have to read through all that waits otherwise.
"""

from collections.abc import Iterable

import orjson
from sqlalchemy import Integer, Text, bindparam, func, select, text

from waitd.core.waits.wait import WaitId
from waitd.ports import AirflowWait, StoredWait
from waitd.stores.operations.transaction import Transaction
from waitd.stores.schema import airflow_waits, waits
from waitd.stores.sqlite import bulk
from waitd.stores.sqlite.connection_thread import ConnectionThread
from waitd.stores.sqlite.statements import Statement
from waitd.stores.text import well_formed

_INSERT = bulk.insert_into("airflow_waits", ("conn_id", "wait_id"))
# SQLite looks each pair up by the key where they come from a SELECT; of VALUES alone it makes a scan of the table.
_DELETE = bulk.Bulk(
    "DELETE FROM airflow_waits WHERE (conn_id, wait_id) IN (SELECT column1, column2 FROM (VALUES ", 2, "))"
)
_sink = func.json_each(waits.c.spec, "$.sinks").table_valued("value", joins_implicitly=True)
#: Hops from one to the next along the index, so that its cost is the number of connections and not that of waits.
CONNECTIONS = Statement(
    text("""
        WITH RECURSIVE hop(conn_id) AS (
            SELECT min(conn_id) FROM airflow_waits
            UNION ALL
            SELECT (SELECT min(a.conn_id) FROM airflow_waits AS a WHERE a.conn_id > hop.conn_id)
            FROM hop WHERE hop.conn_id IS NOT NULL
        )
        SELECT conn_id FROM hop WHERE conn_id IS NOT NULL
    """)
)
TELLING = Statement(
    select(waits.c.id, _sink.c.value)
    .select_from(airflow_waits)
    .join(waits, waits.c.id == airflow_waits.c.wait_id)
    .where(
        airflow_waits.c.conn_id == bindparam("conn_id", type_=Text),
        airflow_waits.c.wait_id > bindparam("after", type_=Text),
        func.json_extract(_sink.c.value, "$.kind") == "airflow",
        func.json_extract(_sink.c.value, "$.conn_id") == airflow_waits.c.conn_id,
    )
    .order_by(airflow_waits.c.wait_id)
    .limit(bindparam("limit", type_=Integer))
)


def note(transaction: Transaction, added: Iterable[StoredWait]) -> None:
    """Waits are waiting from now on."""
    bulk.write(transaction.link, _INSERT, _rows(added))


def forget(transaction: Transaction, ended: Iterable[StoredWait]) -> None:
    """Waits have ended."""
    bulk.write(transaction.link, _DELETE, _rows(ended))


def _rows(some: Iterable[StoredWait]) -> list[tuple[str, str]]:
    """A row for each connection by which one of them tells an Airflow."""
    told = [
        (sink.get("conn_id"), wait.id)
        for wait in some
        for sink in wait.spec.sinks
        if sink.get("kind") == "airflow"
    ]
    return list(dict.fromkeys((conn_id, wait_id) for conn_id, wait_id in told if isinstance(conn_id, str)))


async def airflow_connections(link: ConnectionThread) -> list[str]:
    """The conn_ids by which waits that are waiting will tell an Airflow."""
    return [conn_id for (conn_id,) in await CONNECTIONS.run(link)]


async def find_airflow_waits(
    link: ConnectionThread, conn_id: str, after: WaitId | None, limit: int
) -> list[AirflowWait]:
    """A page of the waiting waits that will tell this Airflow, in the order of their ids."""
    values = {"conn_id": well_formed(conn_id), "after": after or "", "limit": limit}
    return [
        AirflowWait(WaitId(wait_id), orjson.loads(sink))
        for wait_id, sink in await TELLING.run(link, **values)
    ]
