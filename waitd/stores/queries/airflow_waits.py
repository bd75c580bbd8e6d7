"""Reads waiting waits by the Airflow connection that they call back."""

import orjson
from sqlalchemy import Integer, Text, bindparam, select, text

from waitd.core.waits.wait import WaitId
from waitd.ports import AirflowWait
from waitd.stores.codec import well_formed
from waitd.stores.connection import StoreConnection
from waitd.stores.schema import airflow_waits, waits
from waitd.stores.sql_functions import json_items, json_text
from waitd.stores.statements import Statement

_sink = json_items(waits.c.spec, "sinks")
#: Jumps from one connection to the next along the index: the cost grows with connections, not
#: waits.
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
BY_CONNECTION = Statement(
    select(waits.c.id, _sink.c.value)
    .select_from(airflow_waits)
    .join(waits, waits.c.id == airflow_waits.c.wait_id)
    .where(
        airflow_waits.c.conn_id == bindparam("conn_id", type_=Text),
        airflow_waits.c.wait_id > bindparam("after", type_=Text),
        json_text(_sink.c.value, "kind", is_json=True) == "airflow",
        json_text(_sink.c.value, "conn_id", is_json=True) == airflow_waits.c.conn_id,
    )
    .order_by(airflow_waits.c.wait_id)
    .limit(bindparam("limit", type_=Integer))
)


async def connections(connection: StoreConnection) -> list[str]:
    """The conn_ids of the Airflow sinks of waiting waits."""
    return [conn_id for (conn_id,) in await CONNECTIONS.fetch_all(connection) if isinstance(conn_id, str)]


async def find(
    connection: StoreConnection, conn_id: str, after: WaitId | None, limit: int
) -> list[AirflowWait]:
    """A page of the waiting waits with a sink to this connection, in the order of their ids."""
    params = {"conn_id": well_formed(conn_id), "after": after or "", "limit": limit}
    rows = await BY_CONNECTION.fetch_all(connection, **params)
    return [AirflowWait(WaitId(wait_id), orjson.loads(sink)) for wait_id, sink in rows]
