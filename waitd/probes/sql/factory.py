"""The kind of SQL databases; or, where their drivers are not installed, what says so."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib.util import find_spec

from waitd.outgoing import Outgoing
from waitd.ports import Connections, Probe
from waitd.probes.not_installed import NotInstalled

KIND = "sql"
#: The modules that the extra brings.
_NEEDED = ("asyncpg", "aiomysql")


@asynccontextmanager
async def sql_probes(
    connections: Connections, outgoing: Outgoing | None = None, *, connections_per_database: int
) -> AsyncIterator[Mapping[str, Probe]]:
    """The probe by its kind; it is closed at the end."""
    if any(find_spec(name) is None for name in _NEEDED):
        yield {KIND: NotInstalled(KIND, "sql")}
        return
    from waitd.probes.sql.probe import SqlProbe  # noqa: PLC0415 - only where the drivers are there

    async with SqlProbe(
        connections, outgoing=outgoing, connections_per_database=connections_per_database
    ) as probe:
        yield {KIND: probe}
