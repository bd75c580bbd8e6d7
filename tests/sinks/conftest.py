"""Fixtures of the sink tests. Each broker starts once per session; each test has its own proxy."""

from collections.abc import AsyncIterator, Iterable, Iterator
from typing import Any

import pytest
from brokers import ALL_SINKS, BROKERS
from fakes import FakeConnections
from running_brokers import RunningBrokers
from sink_setup import SinkSetup, open_setup
from webhook_receiver import Receiver, receiving
from webhook_setup import webhook_sink

from waitd.sinks.webhook import WebhookSink


@pytest.fixture(autouse=True)
def _open_on_a_busy_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Lets clients open on a machine that is too busy for the limit of production."""
    monkeypatch.setattr("waitd.sinks.client_pool.OPEN_SECONDS", 60)


@pytest.fixture(scope="session")
def brokers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningBrokers]:
    running = RunningBrokers(tmp_path_factory.mktemp("brokers"))
    yield running
    running.kill()


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


def _setup_fixture(name: str, kinds: Iterable[str]) -> Any:
    """A fixture that runs the test against each of these kinds."""

    @pytest.fixture(name=name, params=kinds)
    async def setup(request: pytest.FixtureRequest, brokers: RunningBrokers) -> AsyncIterator[SinkSetup]:
        async with open_setup(brokers.get(request.param)) as opened:
            yield opened

    return setup


broker_setup = _setup_fixture("broker_setup", BROKERS)
sink_setup = _setup_fixture("sink_setup", ALL_SINKS)
redis, nats, sqs, kafka, amqp, webhook = (_setup_fixture(kind, [kind]) for kind in ALL_SINKS)
