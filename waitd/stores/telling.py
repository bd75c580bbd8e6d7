"""Waiting waits by whom they will tell. Sinks are part of a wait's specification, so this reads through all that wait: for slow, regular
work, in the driver's thread.
"""

import orjson
from sqlalchemy import Integer, Text, bindparam, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from waitd.core.wait import WaitId
from waitd.ports import ToldThere
from waitd.stores.statements import Statement
from waitd.stores.tables import IS_WAITING, waits
from waitd.stores.text import well_formed

_sink = func.json_each(waits.c.spec, "$.sinks").table_valued("value", joins_implicitly=True)
_KIND = func.json_extract(_sink.c.value, "$.kind")
_CONN_ID = func.json_extract(_sink.c.value, "$.conn_id")
_OF_KIND = bindparam("kind", type_=Text) == _KIND
CONNECTIONS = Statement(select(_CONN_ID).where(IS_WAITING, _OF_KIND, _CONN_ID.is_not(None)).distinct())
TELLING = Statement(
    select(waits.c.id, _sink.c.value)
    .where(
        IS_WAITING,
        waits.c.id > bindparam("after", type_=Text),
        _OF_KIND,
        bindparam("conn_id", type_=Text) == _CONN_ID,
    )
    .order_by(waits.c.id)
    .limit(bindparam("limit", type_=Integer))
)


async def sink_connections(connection: AsyncConnection, kind: str) -> list[str]:
    """The conn_ids that sinks of this kind name, of waits that are waiting."""
    return [conn_id for (conn_id,) in await CONNECTIONS.run(connection, kind=kind)]


async def waits_telling(
    connection: AsyncConnection, kind: str, conn_id: str, after: WaitId | None, limit: int
) -> list[ToldThere]:
    """A page of the waiting waits with such a sink, in the order of their ids."""
    values = {"kind": kind, "conn_id": well_formed(conn_id), "after": after or "", "limit": limit}
    return [
        ToldThere(WaitId(wait_id), orjson.loads(sink))
        for wait_id, sink in await TELLING.run(connection, **values)
    ]
