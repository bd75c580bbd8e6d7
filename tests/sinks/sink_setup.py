"""The setup of a sink test: a broker, a proxy in front of it, and an open sink."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from broker_adapter import Broker
from broker_proxy import Proxy
from fakes import FakeConnections

from waitd.core.waits.delivery import Receipt
from waitd.ports import OutboxItem


@dataclass
class SinkSetup:
    """A broker behind a proxy, an open sink, and the name of a queue, stream or topic."""

    broker: Broker
    proxy: Proxy
    connections: FakeConnections
    sink: Any
    name: str

    def params(self) -> dict[str, Any]:
        return self.broker.params(self.name, self.proxy.port)

    async def deliver(self, item: OutboxItem, within: float = 60, **params: Any) -> Receipt:
        async with asyncio.timeout(within):
            receipt: Receipt = await self.sink.deliver(self.sink.parse({**self.params(), **params}), item)
            return receipt

    async def read(self, count: int) -> Any:
        return await self.broker.read(self.name, count)


async def open_setup(broker: Broker, stack: AsyncExitStack) -> SinkSetup:
    """Starts the proxy, opens the sink and creates a destination; `stack` closes them."""
    proxy = broker.proxy()
    await proxy.up()
    stack.push_async_callback(proxy.down)
    connections = FakeConnections(broker.connection(proxy.port))
    sink = await stack.enter_async_context(broker.open_sink(connections))
    name = f"t{uuid4().hex[:12]}"
    await broker.create_destination(name)
    return SinkSetup(broker, proxy, connections, sink, name)
