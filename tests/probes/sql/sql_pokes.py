"""Pokes of the kind `sql`, and the databases of its tests."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from daemon import until
from raw_server import Poked, ScriptedConnections

from waitd.core.connections.connection import Connection
from waitd.probes.sql.probe import SqlProbe

DATABASES = ("postgres", "mysql", "sqlite")
all_databases = pytest.mark.parametrize("database", DATABASES, indirect=True)
database_servers = pytest.mark.parametrize("database", ["postgres", "mysql"], indirect=True)

#: One instruction of SQLite that takes hours.
INSTR = (
    "SELECT instr(replace(hex(zeroblob(1000000)), '00', 'aa'),"
    " replace(hex(zeroblob(500000)), '00', 'aa') || 'b') * 0"
)


def children(pid: int) -> set[int]:
    """Returns the processes that another one started, and that have not ended."""
    return {int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}


@dataclass
class Database:
    """A database: its connection, and a function that executes statements without waitd."""

    name: str
    connection: Connection
    sql: Callable[[str], str]


class SqlPoker:
    """Pokes with one probe for each connection; `close` closes them."""

    def __init__(self) -> None:
        self._probes: dict[int, SqlProbe] = {}

    async def __call__(
        self, connection: Connection | Exception, *waits: dict[str, Any], sql: str = ""
    ) -> Any:
        """The verdict of one poke, or those of several waits with equal coalescing keys."""
        probe = self._probes.setdefault(id(connection), SqlProbe(ScriptedConnections([connection])))
        params = [{"conn_id": "db"} | ({"sql": sql} if sql else {}) | wait for wait in waits or ({},)]
        targets = [probe.parse(each, namespace="default") for each in params]
        assert len({target.key for target in targets}) == 1
        verdicts = await probe.poke([Poked(target) for target in targets])
        return verdicts if waits[1:] else verdicts[0]

    async def close(self) -> None:
        for probe in self._probes.values():
            await probe.__aexit__()
        # Closing TLS waits for the server's answer. Unfinished, it would warn in the next test.
        selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]  # no public way to see what is open
        await until(lambda: len(selector.get_map()) <= 1)  # the loop's own pipe
        await asyncio.sleep(0)
