"""The interface of the adapters: a broker's connection, parameters, TLS, and a consumer."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from broker_certificates import server_context
from broker_proxy import Proxy
from broker_servers import Server
from fakes import FakeConnections
from kafka_cluster import KafkaCluster

from waitd.core.connections.connection import Connection
from waitd.outgoing import EgressGuard
from waitd.sinks.brokers.broker import BrokerSink

AnySink = BrokerSink[Any, Any]


@dataclass(frozen=True)
class ReceivedMessage:
    """A message as a consumer received it."""

    body: bytes
    #: Headers, attributes or fields, by lower-case name.
    headers: Mapping[str, str]


class Broker(ABC):
    """One kind of broker."""

    kind: ClassVar[str]
    sink: ClassVar[type[AnySink]]
    #: The largest message that the broker accepts, in bytes.
    max_bytes: ClassVar[int]
    #: Whether it drops a second message with the same delivery id.
    deduplicates: ClassVar[bool] = False
    #: Whether what it has received outlives a kill.
    durable: ClassVar[bool] = True

    def __init__(self, server: Any) -> None:
        self.server: Server | KafkaCluster = server

    def proxy(self) -> Proxy:
        return Proxy(self.server.port)

    def open_sink(self, connections: FakeConnections, egress: EgressGuard | None = None) -> Any:
        """A sink that is not entered yet."""
        return self.sink(connections, egress)

    @abstractmethod
    def connection(self, port: int) -> Connection: ...

    def with_wrong_credentials(self, connection: Connection) -> Connection:
        return replace(connection, password="planted-wrong")

    def with_tls(self, connection: Connection, *, ca: str | None = None, verify: bool = True) -> Connection:
        """The same connection over TLS; `ca` is the file of the trusted authority."""
        extra = {"ssl": True, "verify": verify} | ({"ssl_ca_certs": ca} if ca else {})
        return replace(connection, extra={**connection.extra, **extra})

    def enable_tls(self, proxy: Proxy) -> None:
        """Serves TLS at the proxy's port; the proxy terminates it where the server cannot."""
        proxy.tls = server_context()

    def with_other_name(self, connection: Connection) -> Connection:
        """The same broker under a host name that its certificate does not contain."""
        return replace(connection, host="localhost")

    @abstractmethod
    def params(self, name: str, port: int) -> dict[str, Any]: ...

    async def create_destination(self, name: str) -> None:  # noqa: B027 - some brokers create it on the first message
        """Creates the queue, stream or topic called `name`."""

    @abstractmethod
    async def read(self, name: str, count: int) -> list[ReceivedMessage]:
        """All messages, at least `count`, oldest first."""
