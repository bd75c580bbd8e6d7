"""Fixtures of the sink tests. Each broker starts once per session; each test has its own proxy."""

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import Any

import pytest
from brokers import ALL_SINKS, BROKERS
from fakes import FakeConnections
from running_brokers import RunningBrokers
from sink_setup import SinkSetup, open_setup
from webhook_receiver import Receiver, receiving
from webhook_setup import webhook_sink

from waitd.sinks.webhook import WebhookSink

KINDS = tuple(BROKERS)


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBrokers]:
    running = RunningBrokers(tmp_path_factory.mktemp("brokers"))
    yield running
    running.kill()


@pytest.fixture(params=KINDS)
async def broker_setup(request: pytest.FixtureRequest, brokers: RunningBrokers) -> AsyncIterator[SinkSetup]:
    """Runs the test against each broker."""
    async with AsyncExitStack() as stack:
        yield await open_setup(brokers.get(request.param), stack)


@pytest.fixture(params=ALL_SINKS)
async def sink_setup(request: pytest.FixtureRequest, brokers: RunningBrokers) -> AsyncIterator[SinkSetup]:
    """Runs the test against each broker, and against a webhook receiver."""
    async with AsyncExitStack() as stack:
        yield await open_setup(brokers.get(request.param), stack)


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with receiving() as running:
        yield running


@pytest.fixture
def connections() -> FakeConnections:
    return FakeConnections()


@pytest.fixture
async def sink(connections: FakeConnections) -> AsyncIterator[WebhookSink]:
    """An open webhook sink without a secret."""
    async with webhook_sink(connections) as opened:
        yield opened


def _setup_fixture(kind: str) -> Any:
    @pytest.fixture(name=kind)
    async def setup(brokers: RunningBrokers) -> AsyncIterator[SinkSetup]:
        async with AsyncExitStack() as stack:
            yield await open_setup(brokers.get(kind), stack)

    return setup


redis, nats, sqs, kafka, amqp = (_setup_fixture(kind) for kind in KINDS)
