"""The setup of a sink test: a broker, a proxy in front of it, and an open sink."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from broker_adapter import Broker
from broker_proxy import Proxy
from fakes import FakeConnections

from waitd.core.connections.connection import Connection
from waitd.core.waits.delivery import Receipt
from waitd.ports import OutboxItem


@dataclass
class SinkSetup:
    """A broker behind a proxy, an open sink, and the name of a queue, stream or topic."""

    #: The adapter; a test of one kind uses what only that kind has.
    broker: Any
    proxy: Proxy
    connections: FakeConnections
    sink: Any
    name: str

    @property
    def connection(self) -> Connection:
        """The connection that the sink uses."""
        return self.connections.by_id["broker"]

    @connection.setter
    def connection(self, changed: Connection) -> None:
        self.connections.by_id["broker"] = changed

    def params(self) -> dict[str, Any]:
        return dict(self.broker.params(self.name, self.proxy.port))

    async def deliver(self, item: OutboxItem, within: float = 60, **params: Any) -> Receipt:
        async with asyncio.timeout(within):
            receipt: Receipt = await self.sink.deliver(self.sink.parse({**self.params(), **params}), item)
            return receipt

    async def read(self, count: int) -> Any:
        return await self.broker.read(self.name, count)


@asynccontextmanager
async def open_setup(broker: Broker) -> AsyncIterator[SinkSetup]:
    """Starts the proxy, opens the sink and creates a destination."""
    proxy = broker.proxy()
    await proxy.up()
    try:
        connections = FakeConnections(broker.connection(proxy.port))
        async with broker.open_sink(connections) as sink:
            name = f"t{uuid4().hex[:12]}"
            await broker.create_destination(name)
            yield SinkSetup(broker, proxy, connections, sink, name)
    finally:
        await proxy.down()
