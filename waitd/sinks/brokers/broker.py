"""What the sinks of message brokers share: one client per connection, and every trouble a sentence without secrets.

A broker's library is imported when the first event goes there, and off the loop. A client that has lost its broker is replaced by the
next attempt, not mended in the background: the retry delays say when that is, and an attempt during an outage is answered at once.
"""

import asyncio
import logging
import ssl
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from functools import cache
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, Self, TypeVar

from pydantic import Field

from waitd import models
from waitd.core.connections.connection import Connection, parse_origin
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.errors import NotInstalled, WaitdError
from waitd.core.waits.delivery import DeliveryFailed, Receipt
from waitd.outgoing import Outgoing
from waitd.ports import Connections, OutboxItem, SinkTarget
from waitd.sinks.client_pool import ClientPool

Target = TypeVar("Target", bound=SinkTarget)
Client = TypeVar("Client")
Sentences = tuple[tuple[type[BaseException] | tuple[type[BaseException], ...], str], ...]


class Misconfigured(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """The connection cannot be used as it is; its operator mends it. The message holds no secret."""


#: The name of a broker's connection, as a parameter.
ConnId = Annotated[
    models.ConnId, Field(description="The connection that knows the broker and the credentials.")
]


class BrokerSink(ABC, Generic[Target, Client]):
    """A `Sink` of `waitd.ports` over a broker's own client library. An asynchronous context, which closes the clients at its end."""

    #: The sink's name in a wait, which is the extra's name as well.
    kind: ClassVar[str]
    #: The package that must be importable.
    library: ClassVar[str]
    #: The broker in sentences.
    broker: ClassVar[str]
    #: Loggers of the library. What they tell of an outage, ten times a second or with tracebacks, a delivery says in one sentence.
    chatty: ClassVar[tuple[str, ...]] = ()

    def __init__(self, connections: Connections, outgoing: Outgoing | None = None) -> None:
        """`outgoing` holds the egress rules, default: those that always hold."""
        self._connections = connections
        self._outgoing = outgoing or Outgoing()
        self._clients: ClientPool[Client] = ClientPool(self._close, self._usable)

    async def __aenter__(self) -> Self:
        """Opens nothing yet."""
        for name in self.chatty:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes every client."""
        await self._clients.aclose()

    def parse(self, params: Mapping[str, Any]) -> Target:
        """The destination that these parameters (without `kind`) name.

        Raises:
            InvalidInput: with pointers relative to `params`.
            NotInstalled: the client library is missing.
        """
        if not _is_installed(self.library):
            raise NotInstalled.at(
                "/kind",
                f"the {self.kind} sink is not installed in this waitd: pip install 'waitd[{self.kind}]'",
            )
        return self._target(params)

    def signed(self, target: Target) -> bool | None:  # noqa: ARG002 - the port's shape
        """None: brokers know no signatures."""
        return None

    async def deliver(self, target: Target, parcel: OutboxItem) -> Receipt:
        """One attempt. The caller bounds it in time; every trouble is a `DeliveryFailed` or `Gone`, never an exception."""
        try:
            connection = await self._connections.get(target.conn_id or "")
            key = self._client_key(target)
            async with self._clients.lent(key, connection, lambda: self._open(connection, target)) as client:
                try:
                    return await self._send(client, target, parcel)
                except BaseException as error:
                    if self._spoils(error):
                        self._clients.drop(key, client)
                    raise
        except WaitdError as error:  # the operator may fix it before the last retry
            return DeliveryFailed(str(error))
        except TimeoutError:  # of opening a client: an attempt has its limit outside
            return DeliveryFailed(f"no connection to {self.broker} could be made in time")
        except asyncio.CancelledError:
            if _is_cancelled():
                raise
            return DeliveryFailed(f"the connection to {self.broker} was closed before it had answered")
        except Exception as error:  # noqa: BLE001 - whatever a library raises: the event is not delivered
            return self._explained(error, target, parcel)

    def _address(self, connection: Connection, default_port: int) -> "Address":
        """Where a connection's broker listens; `Misconfigured` where that is nowhere, or nowhere that events may go."""
        return self._judged(address_of(connection, default_port))

    def _judged(self, address: "Address") -> "Address":
        """The address, if the egress rules let events go there: it is the operator's choice, so its name is judged."""
        try:
            self._outgoing.judge_host(*address, HostSource.BY_OPERATOR)
        except EgressRefused as error:
            raise Misconfigured(f"no event may go there: {error.why}") from None
        return address

    def _client_key(self, target: Target) -> Hashable:
        """What tells one client from another; a new `Connection` under the same key replaces it."""
        return target.conn_id

    @abstractmethod
    def _target(self, params: Mapping[str, Any]) -> Target:
        """See `parse`."""

    @abstractmethod
    async def _open(self, connection: Connection, target: Target) -> Client:
        """A client of this connection; `Misconfigured` where it cannot be used."""

    @abstractmethod
    async def _close(self, client: Client) -> None:
        """Ends a client for good."""

    def _usable(self, client: Client) -> bool:  # noqa: ARG002 - for those that can tell
        """Whether a client can be used for another event."""
        return True

    def _spoils(self, error: BaseException) -> bool:  # noqa: ARG002 - for those that can tell
        """Whether a client must not be used any more once it has raised this, being cancelled included."""
        return False

    @abstractmethod
    async def _send(self, client: Client, target: Target, parcel: OutboxItem) -> Receipt:
        """Publishes, and waits for the broker's acknowledgement."""

    @abstractmethod
    def _explained(self, error: Exception, target: Target, parcel: OutboxItem) -> Receipt:
        """What an exception of `_open` or `_send` means."""


@cache
def _is_installed(library: str) -> bool:
    return find_spec(library) is not None


def _is_cancelled() -> bool:
    """Whether this task is being cancelled, or a library's future was."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def refused(error: Exception, sentences: Sentences, broker: str) -> DeliveryFailed:
    """The first sentence that fits; an error's own text may name addresses, and quote what was sent."""
    for cause in _causes(error):
        if isinstance(cause, ssl.SSLCertVerificationError):
            return DeliveryFailed(f"the TLS certificate of {broker} is not accepted")
        if isinstance(cause, ssl.SSLError):
            return DeliveryFailed(f"the TLS handshake with {broker} failed")
    for kinds, sentence in sentences:
        if isinstance(error, kinds):
            return DeliveryFailed(sentence)
    return DeliveryFailed(f"the event could not be sent to {broker} ({type(error).__name__})")


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception, and what libraries have wrapped in it."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


class Address(NamedTuple):
    """Host (no brackets) and port of a broker."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def address_of(connection: Connection, default_port: int) -> Address:
    """Where a connection's broker listens.

    Raises:
        Misconfigured: host and port make no address.
    """
    host = connection.host or ""
    bare_ipv6 = host.count(":") > 1 and not host.startswith("[")
    if set("/?#") & set(host):
        raise Misconfigured(
            f"the host of the connection {connection.conn_id} is to be a name or an address alone"
        )
    try:
        origin = parse_origin(
            f"http://{f'[{host}]' if bare_ipv6 else host}:{connection.port or default_port}"
        )
    except ValueError as error:
        raise Misconfigured(f"the connection {connection.conn_id} has no usable host: {error}") from None
    return Address(origin.host, origin.port)


def is_true(value: object) -> bool:
    """A switch in a connection's extra, which a URI can only write as text."""
    return str(value).lower() in {"true", "1", "yes", "on"}


class TlsFiles(NamedTuple):
    """Paths of PEM files, and the password of the key."""

    ca: str | None = None
    certificate: str | None = None
    key: str | None = None
    password: str | None = None


def tls_context(
    conn_id: str, files: TlsFiles, *, verify: bool = True, check_hostname: bool = True
) -> ssl.SSLContext:
    """How a connection speaks TLS. Reads files, so call it in a thread.

    Raises:
        Misconfigured: a file cannot be read.
    """
    try:
        context = ssl.create_default_context(cafile=files.ca)
        if files.certificate:
            context.load_cert_chain(files.certificate, files.key, files.password)
    except (OSError, TypeError, ValueError):  # the error's own text may quote the password
        raise Misconfigured(f"the TLS files of the connection {conn_id} cannot be read") from None
    context.check_hostname = verify and check_hostname
    if not verify:
        context.verify_mode = ssl.CERT_NONE
    return context


def tls_of(connection: Connection) -> ssl.SSLContext | None:
    """TLS as a connection's extra asks for it, under the names of Airflow's Redis connection: `ssl`, `ssl_ca_certs`, `ssl_certfile`,
    `ssl_keyfile`, `ssl_check_hostname`; `verify` false trusts anybody. None: no TLS. Reads files, so call it in a thread.

    Raises:
        Misconfigured: a file cannot be read.
    """
    extra = connection.extra
    if not is_true(extra.get("ssl")):
        return None
    return tls_context(
        connection.conn_id,
        TlsFiles(extra.get("ssl_ca_certs"), extra.get("ssl_certfile"), extra.get("ssl_keyfile")),
        verify=connection.verifies_tls(),
        check_hostname=is_true(extra.get("ssl_check_hostname", True)),
    )
