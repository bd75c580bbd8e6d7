"""The brokers of a test session, each started on first use."""

from pathlib import Path

from broker_adapter import Broker
from broker_servers import has_rabbit
from brokers import ALL_SINKS
from installation import require_apt_package


class RunningBrokers:
    """The brokers of a test session by kind."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.running: dict[str, Broker] = {}

    def get(self, kind: str) -> Broker:
        if kind not in self.running:
            self.running[kind] = self._start(kind)
        return self.running[kind]

    def _start(self, kind: str) -> Broker:
        if kind == "amqp":
            require_apt_package("rabbitmq-server", has_rabbit)
        broker_class, server_class = ALL_SINKS[kind]
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
