"""Brokers are started once, when the first test asks for them; each test has a proxy of its own in front."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from broker_proxy import Proxy
from broker_servers import install_rabbit
from brokers import BROKERS, AnySink, Broker, Known, opened

from waitd.core.delivery import Receipt
from waitd.ports import Parcel

KINDS = tuple(BROKERS)


class Brokers:
    """The brokers of a test session by kind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: dict[str, Broker] = {}

    def get(self, kind: str) -> Broker:
        if kind not in self.running:
            self.running[kind] = self._started(kind)
        return self.running[kind]

    def _started(self, kind: str) -> Broker:
        if kind == "amqp" and (why_not := install_rabbit()):
            pytest.skip(why_not)
        broker_class, server_class = BROKERS[kind]
        server = server_class(self.directory / kind)
        broker: Broker = broker_class(server)
        try:
            server.start()
        except BaseException:
            server.kill()
            raise
        return broker

    def kill(self) -> None:
        for broker in self.running.values():
            broker.server.kill()


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    running = Brokers(tmp_path_factory.mktemp("brokers"))
    yield running
    running.kill()


@dataclass
class Scene:
    """One broker, the proxy before it, a sink that is open, and a place to send to."""

    broker: Broker
    proxy: Proxy
    known: Known
    sink: AnySink
    name: str

    def params(self) -> dict[str, Any]:
        return self.broker.params(self.name, self.proxy.port)

    async def deliver(self, parcel: Parcel, patience: float = 20, **more: Any) -> Receipt:
        async with asyncio.timeout(patience):
            return await self.sink.deliver(self.sink.parse({**self.params(), **more}), parcel)

    async def read(self, count: int) -> Any:
        return await self.broker.read(self.name, count)


async def scene_of(broker: Broker, stack: AsyncExitStack) -> Scene:
    proxy = broker.proxy()
    await proxy.up()
    stack.push_async_callback(proxy.down)
    known = Known()
    known.known["broker"] = broker.connection(proxy.port)
    sink = await stack.enter_async_context(opened(broker, known))
    name = f"t{uuid4().hex[:12]}"
    await broker.prepare(name)
    return Scene(broker, proxy, known, sink, name)


@pytest.fixture(params=KINDS)
async def scene(request: pytest.FixtureRequest, brokers: Brokers) -> AsyncIterator[Scene]:
    """The same test against each broker."""
    async with AsyncExitStack() as stack:
        yield await scene_of(brokers.get(request.param), stack)


def _one(kind: str) -> Any:
    @pytest.fixture(name=kind)
    async def one(brokers: Brokers) -> AsyncIterator[Scene]:
        async with AsyncExitStack() as stack:
            yield await scene_of(brokers.get(kind), stack)

    return one


redis, nats, sqs, kafka, amqp = (_one(kind) for kind in KINDS)
