"""Brokers are started once, when the first test asks for them; each test has a proxy of its own in front."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from brokers import BROKERS, PLACES
from running_brokers import Brokers
from scene import Scene, scene_of

KINDS = tuple(BROKERS)


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
