"""What tests of the kind `sql` look at: a database, and a way past waitd."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
from daemon import until
from raw_server import Poked, ScriptedConnections

from waitd.core.connections.connection import Connection
from waitd.probes.sql.probe import SqlProbe

DATABASES = ("postgres", "mysql", "sqlite")
every = pytest.mark.parametrize("database", DATABASES, indirect=True)
servers = pytest.mark.parametrize("database", ["postgres", "mysql"], indirect=True)


@dataclass
class Database:
    """One database to look at: its connection, and a way past waitd."""

    name: str
    connection: Connection
    sql: Callable[[str], str]


class Looks:
    """Looks at connections, each over one probe, which is closed at the end."""

    def __init__(self) -> None:
        self._probes: dict[int, SqlProbe] = {}

    async def __call__(
        self, connection: Connection | Exception, *waits: dict[str, Any], sql: str = ""
    ) -> Any:
        """The verdict, or those of several waits that ask the same."""
        probe = self._probes.setdefault(id(connection), SqlProbe(ScriptedConnections([connection])))
        asked = [{"conn_id": "db"} | ({"sql": sql} if sql else {}) | wait for wait in waits or ({},)]
        targets = [probe.parse(params, namespace="default") for params in asked]
        assert len({target.key for target in targets}) == 1
        found = await probe.poke([Poked(target) for target in targets])
        return found if waits[1:] else found[0]

    async def close(self) -> None:
        for probe in self._probes.values():
            await probe.__aexit__()
        # TLS that is being closed waits for the other side's word; left to the loop's end, it would warn in whatever test comes next.
        selector = asyncio.get_running_loop()._selector  # type: ignore[attr-defined]  # the default loop's own; it says what is open
        await until(lambda: len(selector.get_map()) <= 1, 10)  # the loop's own pipe
        await asyncio.sleep(0)
