"""The brokers of a test session, each started when it is first asked for."""

from pathlib import Path

from broker_servers import has_rabbit
from brokers import PLACES, Broker
from installation import require_apt_package


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
        if kind == "amqp":
            require_apt_package("rabbitmq-server", has_rabbit)
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
