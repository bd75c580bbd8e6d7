"""The base of the broker sinks: one client per connection, and errors as sentences without secrets.

A broker's library is imported in a thread when the first event is sent. Clients do not reconnect:
the next attempt opens a new client, so the retry schedule decides when, and an attempt during an
outage fails at once.
"""

import asyncio
import logging
import ssl
from abc import ABC, abstractmethod
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.util import find_spec
from typing import Annotated, Any, ClassVar, Generic, NamedTuple, Protocol, Self, TypeVar, cast

from pydantic import Field

from waitd import models
from waitd.core.connections.connection import Connection, parse_origin
from waitd.core.connections.egress import EgressRefused, HostSource
from waitd.core.connections.sent_secrets import connection_mask, plain_mask
from waitd.core.errors import NotInstalled, WaitdError
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected, Receipt
from waitd.outgoing import EgressGuard, TlsContexts, TlsFiles
from waitd.ports import Connections, OutboxItem
from waitd.sinks.client_pool import OPEN_SECONDS, ClientPool
from waitd.sinks.own_trouble import receipt_unless_own

Client = TypeVar("Client")
#: The receipt for each error; the first match counts. A text stands for `DeliveryFailed`.
ErrorReceipts = tuple[
    tuple[type[BaseException] | tuple[type[BaseException], ...], str | DeliveryRejected], ...
]


class InvalidConnection(WaitdError):  # noqa: N818 - reads as a sentence where it is raised
    """The operator has to fix the connection. The message holds no secret."""


#: The parameter that names a broker's connection.
ConnId = Annotated[
    models.ConnId, Field(description="The connection with the broker's address and credentials.")
]


class BrokerParams(Protocol):
    """What the parameters of every broker sink have in common."""

    @property
    def conn_id(self) -> str: ...


Params = TypeVar("Params", bound=BrokerParams)


@dataclass(frozen=True, slots=True)
class BrokerTarget(Generic[Params]):
    """Parsed parameters, and the destination that they name."""

    params: Params
    conn_id: str
    destination: str


class BrokerSink(ABC, Generic[Params, Client]):
    """A `Sink` of `waitd.ports` over a broker's own client library.

    Used as an asynchronous context manager, which closes the clients.
    """

    #: The model of the parameters, which is also shown in the API document.
    params_model: ClassVar[type[Any]]
    #: The sink's name in a wait, and the name of its optional dependency.
    kind: ClassVar[str]
    #: The client library's package.
    library: ClassVar[str]
    #: The broker's name in messages.
    broker: ClassVar[str]
    #: Loggers to silence: during an outage they log several times a second or with tracebacks.
    noisy_loggers: ClassVar[tuple[str, ...]] = ()

    def __init__(self, connections: Connections, egress: EgressGuard | None = None) -> None:
        """`egress` enforces the egress rules; default: those that always hold."""
        self._connections = connections
        self._egress = egress or EgressGuard()
        self._clients: ClientPool[Client] = ClientPool(self._close, self._usable)

    async def __aenter__(self) -> Self:
        """Opens no client yet."""
        for name in self.noisy_loggers:
            logging.getLogger(name).setLevel(logging.CRITICAL)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Closes every client."""
        await self._clients.aclose()

    def parse(self, params: Mapping[str, Any]) -> BrokerTarget[Params]:
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
        parameters: Params = models.parse_model(self.params_model, dict(params))
        self._check(parameters)
        return BrokerTarget(parameters, parameters.conn_id, self._destination(parameters))

    def signed(self, target: BrokerTarget[Params]) -> bool | None:  # noqa: ARG002 - part of the interface
        """None: events to brokers are not signed."""
        return None

    async def deliver(self, target: BrokerTarget[Params], item: OutboxItem) -> Receipt:
        """One attempt; the caller limits its time. Failures are receipts, never exceptions."""
        try:
            connection = await self._connection(target.conn_id)
        except WaitdError as error:  # the operator may fix it before the last retry
            receipt = receipt_unless_own(error, DeliveryFailed(str(error)))
            return self._masked(receipt, self._connections.cached_any(target.conn_id))
        return self._masked(await self._attempt(connection, target, item), connection)

    async def try_connection(self, connection: Connection) -> str | None:
        """Logs in to the broker once; returns why that fails, or None."""
        if not _is_installed(self.library):
            return f"the {self.kind} sink is not installed in this waitd"
        receipt: Receipt = Delivered()
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                client = await self._open(connection, cast("Params", None))
                try:
                    await self._ping(client)
                finally:
                    await self._close(client)
        except WaitdError as error:
            receipt = DeliveryFailed(str(error))
        except TimeoutError:
            receipt = DeliveryFailed(f"could not connect to {self.broker} in time")
        except Exception as error:  # noqa: BLE001 - whatever a library raises
            receipt = self._classify_error(error, cast("OutboxItem", None))
        receipt = self._masked(receipt, connection)
        return None if isinstance(receipt, Delivered) else str(getattr(receipt, "error", ""))

    async def _ping(self, client: Client) -> None:
        """Asks the broker for an answer, where opening a client does not."""

    async def _connection(self, conn_id: str) -> Connection:
        """The connection with the credentials to use. Raises WaitdError."""
        return await self._connections.get(conn_id)

    def _masked(self, receipt: Receipt, connection: Connection | None) -> Receipt:
        if connection is None or not isinstance(receipt, DeliveryFailed | DeliveryRejected):
            return receipt
        mask = connection_mask(connection).joined(plain_mask(*self._egress.proxy_secrets))
        return replace(receipt, error=mask.mask_text(receipt.error))

    async def _attempt(
        self, connection: Connection, target: BrokerTarget[Params], item: OutboxItem
    ) -> Receipt:
        try:
            key = self._client_key(target.params)
            opening = partial(self._open, connection, target.params)
            async with self._clients.use(key, connection, opening) as client:
                try:
                    return await self._send(client, target.params, item)
                except BaseException as error:
                    if self._breaks_client(error):
                        self._clients.discard(key, client)
                    raise
        except WaitdError as error:
            return receipt_unless_own(error, DeliveryFailed(str(error)))
        except TimeoutError:  # while opening a client: the attempt itself is limited by the caller
            return DeliveryFailed(f"could not connect to {self.broker} in time")
        except asyncio.CancelledError:
            if _task_is_cancelled():
                raise
            return DeliveryFailed(f"the connection to {self.broker} was closed before it answered")
        except Exception as error:  # noqa: BLE001 - whatever a library raises, the event is not delivered
            return receipt_unless_own(error, self._classify_error(error, item))

    def _address(self, connection: Connection, default_port: int) -> "BrokerAddress":
        """The broker's address. Raises InvalidConnection where it is malformed or forbidden."""
        return self._check_egress(broker_address(connection, default_port))

    def _check_egress(self, address: "BrokerAddress") -> "BrokerAddress":
        """The address itself, if the egress rules allow it.

        The operator chose it, so the host's name is checked, not what it resolves to.
        """
        try:
            self._egress.check_host(*address, HostSource.OPERATOR)
        except EgressRefused as error:
            raise InvalidConnection(f"the egress rules block {self.broker}: {error.why}") from None
        return address

    def _check(self, params: Params) -> None:
        """Checks what the model cannot. Raises InvalidInput, NotSupported."""

    def _destination(self, params: Params) -> str:
        """The destination; its deliveries share a concurrency limit."""
        return f"{self.kind} {params.conn_id}"

    def _client_key(self, params: Params) -> Hashable:
        """The client's key in the pool; a changed `Connection` replaces the client."""
        return params.conn_id

    @abstractmethod
    async def _open(self, connection: Connection, params: Params) -> Client:
        """Opens a client. Raises InvalidConnection where the connection cannot be used."""

    @abstractmethod
    async def _close(self, client: Client) -> None:
        """Closes a client for good."""

    def _usable(self, client: Client) -> bool:  # noqa: ARG002 - for overriding
        """Whether an open client can be used for another event."""
        return True

    def _breaks_client(self, error: BaseException) -> bool:  # noqa: ARG002 - for overriding
        """Whether the client is unusable after this error, which may be a cancellation."""
        return False

    @abstractmethod
    async def _send(self, client: Client, params: Params, item: OutboxItem) -> Receipt:
        """Publishes the event and waits for the broker's acknowledgement."""

    def _classify_error(self, error: Exception, item: OutboxItem) -> Receipt:  # noqa: ARG002 - for overriding
        """The receipt for an exception of `_open` or `_send`.

        The error's own text is not used: it may name addresses or quote what was sent.
        """
        for cause in _causes(error):
            if isinstance(cause, ssl.SSLCertVerificationError):
                return DeliveryFailed(f"the TLS certificate of {self.broker} is not trusted")
            if isinstance(cause, ssl.SSLError):
                return DeliveryFailed(f"the TLS handshake with {self.broker} failed")
        for types, receipt in self._error_receipts():
            if isinstance(error, types):
                return DeliveryFailed(receipt) if isinstance(receipt, str) else receipt
        return DeliveryFailed(f"the event could not be sent to {self.broker} ({type(error).__name__})")

    @staticmethod
    @abstractmethod
    def _error_receipts() -> ErrorReceipts:
        """The receipts for the library's errors."""


@cache
def _is_installed(library: str) -> bool:
    return find_spec(library) is not None


def _task_is_cancelled() -> bool:
    """Whether this task is being cancelled, as opposed to a future of the library."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """An exception and those that it wraps; a library may have made a cycle of them."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


class BrokerAddress(NamedTuple):
    """A broker's host (without brackets) and port."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def broker_address(connection: Connection, default_port: int) -> BrokerAddress:
    """The address in a connection's host and port.

    Raises:
        InvalidConnection: they are not a valid address.
    """
    host = connection.host or ""
    bare_ipv6 = host.count(":") > 1 and not host.startswith("[")
    if set("/?#") & set(host):
        raise InvalidConnection(
            f"the host of the connection {connection.conn_id} must be a name or an address, not a URL"
        )
    try:
        origin = parse_origin(
            f"http://{f'[{host}]' if bare_ipv6 else host}:{connection.port or default_port}"
        )
    except ValueError as error:
        raise InvalidConnection(f"the connection {connection.conn_id} has no usable host: {error}") from None
    return BrokerAddress(origin.host, origin.port)


def is_true(value: object) -> bool:
    """A boolean in a connection's extra, which a URI can only write as text."""
    return str(value).lower() in {"true", "1", "yes", "on"}


def tls_context(
    tls: TlsContexts, conn_id: str, files: TlsFiles, *, verify: bool = True, check_hostname: bool = True
) -> ssl.SSLContext:
    """The TLS context of a connection. Reads files, so call it in a thread.

    Raises:
        InvalidConnection: a file cannot be read.
    """
    try:
        return tls.for_library(files, verify=verify, check_hostname=check_hostname)
    except (OSError, TypeError, ValueError):  # whose own text may quote the password
        raise InvalidConnection(f"the TLS files of the connection {conn_id} cannot be read") from None


def connection_tls_context(tls: TlsContexts, connection: Connection) -> ssl.SSLContext | None:
    """The TLS context that a connection's extra describes, or None without TLS.

    The fields are those of Airflow's Redis connection: `ssl`, `ssl_ca_certs`, `ssl_certfile`,
    `ssl_keyfile`, `ssl_check_hostname`; `verify` false or `ssl_cert_reqs` none trusts any
    certificate. Reads files, so call it in a thread.

    Raises:
        InvalidConnection: a file cannot be read.
    """
    extra = connection.extra
    if not is_true(extra.get("ssl")):
        return None
    return tls_context(
        tls,
        connection.conn_id,
        TlsFiles(extra.get("ssl_ca_certs"), extra.get("ssl_certfile"), extra.get("ssl_keyfile")),
        verify=connection.verifies_tls() and extra.get("ssl_cert_reqs") != "none",
        check_hostname=is_true(extra.get("ssl_check_hostname", True)),
    )
