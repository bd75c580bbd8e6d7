"""What a test of a broker's sink plays in: the broker, a proxy before it, the sink."""

import asyncio
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from broker_proxy import Proxy
from brokers import Broker, Known

from waitd.core.waits.delivery import Receipt
from waitd.ports import OutboxItem


@dataclass
class Scene:
    """One broker, the proxy before it, a sink that is open, and a place to send to."""

    broker: Broker
    proxy: Proxy
    known: Known
    sink: Any
    name: str

    def params(self) -> dict[str, Any]:
        return self.broker.params(self.name, self.proxy.port)

    async def deliver(self, parcel: OutboxItem, patience: float = 60, **more: Any) -> Receipt:
        async with asyncio.timeout(patience):
            receipt: Receipt = await self.sink.deliver(self.sink.parse({**self.params(), **more}), parcel)
            return receipt

    async def read(self, count: int) -> Any:
        return await self.broker.read(self.name, count)


async def scene_of(broker: Broker, stack: AsyncExitStack) -> Scene:
    proxy = broker.proxy()
    await proxy.up()
    stack.push_async_callback(proxy.down)
    known = Known()
    known.known["broker"] = broker.connection(proxy.port)
    sink = await stack.enter_async_context(broker.opened(known))
    name = f"t{uuid4().hex[:12]}"
    await broker.prepare(name)
    return Scene(broker, proxy, known, sink, name)
