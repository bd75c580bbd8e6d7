"""Brokers are started once, when the first test asks for them; each test has a proxy of its own in front."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
from broker_servers import install_rabbit
from brokers import BROKERS, PLACES, Broker
from scene import Scene, scene_of

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
        broker_class, server_class = PLACES[kind]
        server = server_class(self.directory / kind)
        broker: Broker = broker_class(server)
        try:
            server.start()
        except BaseException:
            server.end()
            raise
        return broker

    def kill(self) -> None:
        for broker in self.running.values():
            broker.server.end()


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Brokers]:
    running = Brokers(tmp_path_factory.mktemp("brokers"))
    yield running
    running.kill()


@pytest.fixture(params=KINDS)
async def scene(request: pytest.FixtureRequest, brokers: Brokers) -> AsyncIterator[Scene]:
    """The same test against each broker."""
    async with AsyncExitStack() as stack:
        yield await scene_of(brokers.get(request.param), stack)


@pytest.fixture(params=PLACES)
async def place(request: pytest.FixtureRequest, brokers: Brokers) -> AsyncIterator[Scene]:
    """The same test against each broker, and against a receiver of webhooks."""
    async with AsyncExitStack() as stack:
        yield await scene_of(brokers.get(request.param), stack)


def _one(kind: str) -> Any:
    @pytest.fixture(name=kind)
    async def one(brokers: Brokers) -> AsyncIterator[Scene]:
        async with AsyncExitStack() as stack:
            yield await scene_of(brokers.get(kind), stack)

    return one


redis, nats, sqs, kafka, amqp = (_one(kind) for kind in KINDS)
