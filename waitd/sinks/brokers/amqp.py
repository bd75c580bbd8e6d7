"""The amqp sink: publishes to a RabbitMQ exchange. The publisher confirm is a delivery.

Messages are persistent and mandatory: one that no queue takes is returned, and the delivery is
refused. `message_id` is the event's id; the delivery's id is the header `delivery-id`.
"""

import asyncio
import re
from dataclasses import replace
from ssl import SSLContext
from typing import TYPE_CHECKING, Annotated, NamedTuple

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from yarl import URL

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput
from waitd.core.waits.delivery import Delivered, DeliveryRejected, Receipt
from waitd.core.waits.event import EVENT_CONTENT_TYPE
from waitd.models import Strict
from waitd.outgoing import EgressGuard, TlsContexts
from waitd.ports import Connections, OutboxItem
from waitd.sinks.brokers.broker import (
    BrokerAddress,
    BrokerSink,
    ConnId,
    ErrorReceipts,
    connection_tls_context,
    is_true,
)
from waitd.sinks.client_pool import ClientPool

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange

DEFAULT_PORT, DEFAULT_TLS_PORT = 5672, 5671
#: Seconds without traffic after which a connection counts as lost.
HEARTBEAT = 15
#: The longest name in bytes: AMQP's short string.
MAX_NAME_BYTES = 255
#: RabbitMQ's error for a message over its size limit.
_MAX_SIZE = re.compile(r"larger than (?:configured )?max size (\d+)")


def _check_name(text: str) -> str:
    if len(text.encode()) > MAX_NAME_BYTES or not text.isprintable():
        raise PydanticCustomError("short_string", f"up to {MAX_NAME_BYTES} bytes of printable text")
    return text


Name = Annotated[str, AfterValidator(_check_name)]


class AmqpParams(Strict):
    """The parameters of an AMQP 0.9.1 exchange."""

    conn_id: ConnId
    exchange: Name = Field(
        default="", description="The exchange; the default one takes a queue's name as routing_key."
    )
    routing_key: Name = Field(default="", description="The routing key.")


class AmqpSink(BrokerSink[AmqpParams, "AbstractConnection"]):
    """Publishes to exchanges.

    The connection: host, port, login, password, schema (the virtual host, default `/`); TLS with
    conn_type `amqps` or extra `ssl`. Each exchange has a channel of its own: RabbitMQ closes the
    channel, with everything in flight on it, when an exchange is missing.
    """

    params_model = AmqpParams

    kind = "amqp"
    library = "aio_pika"
    broker = "RabbitMQ"
    noisy_loggers = ("aiormq", "aio_pika")

    def __init__(self, connections: Connections, egress: EgressGuard | None = None) -> None:
        super().__init__(connections, egress)
        self._channels: ClientPool[_ExchangeChannel] = ClientPool(
            lambda c: c.channel.close(), lambda c: not c.channel.is_closed
        )

    async def __aexit__(self, *error: object) -> None:
        """Closes channels and connections."""
        await asyncio.gather(self._channels.aclose(), super().__aexit__(*error))

    def _check(self, params: AmqpParams) -> None:
        if not (params.exchange or params.routing_key):
            raise InvalidInput.at("/routing_key", "the default exchange needs a queue's name as routing_key")

    def _destination(self, params: AmqpParams) -> str:
        return f"amqp {params.conn_id} {params.exchange}".rstrip()

    async def _open(self, connection: Connection, params: AmqpParams) -> "AbstractConnection":  # noqa: ARG002 - one client for all exchanges
        if connection.conn_type == "amqps":
            connection = replace(connection, extra={**connection.extra, "ssl": True})
        with_tls = is_true(connection.extra.get("ssl"))
        address = self._address(connection, DEFAULT_TLS_PORT if with_tls else DEFAULT_PORT)
        url, tls = await asyncio.to_thread(_url_and_tls, self._egress.tls, connection, address)
        from aio_pika.connection import Connection as Client

        client = Client(url, ssl_context=tls, client_properties={"connection_name": "waitd"})
        try:
            await client.connect()
        except BaseException:
            await client.close()  # otherwise the library closes it during garbage collection, in any thread
            raise
        return client

    async def _close(self, client: "AbstractConnection") -> None:
        await client.close()

    def _usable(self, client: "AbstractConnection") -> bool:
        transport = client.transport  # `client.is_closed` is false after the broker closes the connection
        return transport is not None and not transport.connection.is_closed

    async def _send(self, client: "AbstractConnection", params: AmqpParams, item: OutboxItem) -> Receipt:
        from aio_pika import DeliveryMode, Message

        message = Message(
            item.event,
            content_type=EVENT_CONTENT_TYPE,
            message_id=item.wait_id,
            headers={"delivery-id": item.id},
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        key = (params.conn_id, params.exchange)
        async with self._channels.use(key, client, lambda: _open_channel(client, params.exchange)) as channel:
            try:
                await channel.exchange.publish(message, params.routing_key, mandatory=True)
            except asyncio.CancelledError:
                self._channels.discard(key, channel)  # a late confirm must not count for another event
                raise
        return Delivered()

    def _classify_error(self, error: Exception, item: OutboxItem) -> Receipt:
        limit = _MAX_SIZE.search(str(error))
        # The channel closes, so smaller messages in flight on it get the same error.
        if limit is not None and len(item.event) > int(limit[1]):
            return DeliveryRejected("the event is larger than this RabbitMQ takes (max_message_size)")
        return super()._classify_error(error, item)

    @staticmethod
    def _error_receipts() -> ErrorReceipts:
        from aiormq import exceptions

        return (
            (
                (exceptions.ProbableAuthenticationError, exceptions.AuthenticationError),
                "RabbitMQ does not accept the connection's login and password",
            ),
            (
                (exceptions.ConnectionNotAllowed, exceptions.InvalidFrameError),
                "RabbitMQ did not open the connection: no such virtual host, or this login may not use it",
            ),
            (exceptions.PublishError, "no queue is bound to the exchange for this routing key"),
            (
                exceptions.DeliveryError,
                "RabbitMQ did not accept the event (nack): a queue is full or could not store it",
            ),
            (exceptions.ChannelNotFoundEntity, "the exchange does not exist"),
            (exceptions.ChannelAccessRefused, "this login may not publish to the exchange"),
            (exceptions.ChannelClosed, "RabbitMQ closed the channel before it confirmed the event"),
            (
                (exceptions.AMQPConnectionError, exceptions.ChannelInvalidStateError, OSError),
                "could not connect to RabbitMQ, or the connection broke before it answered",
            ),
        )


class _ExchangeChannel(NamedTuple):
    """An exchange and its own channel."""

    channel: "AbstractChannel"
    exchange: "AbstractExchange"


async def _open_channel(connection: "AbstractConnection", exchange: str) -> _ExchangeChannel:
    """Opens a channel if the exchange exists: publishing without one may close the connection."""
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    if not exchange:
        return _ExchangeChannel(channel, channel.default_exchange)
    return _ExchangeChannel(channel, await channel.get_exchange(exchange, ensure=True))


def _url_and_tls(
    contexts: TlsContexts, connection: Connection, address: BrokerAddress
) -> tuple[URL, SSLContext | None]:
    """The URL and TLS context. Reads files and imports the library, so call it in a thread."""
    from aio_pika.connection import make_url

    tls = connection_tls_context(contexts, connection)
    url = make_url(
        host=address.host,
        port=address.port,
        login=connection.login or "guest",
        password=connection.password or "guest",
        virtualhost=connection.schema or "/",
        ssl=tls is not None,
        heartbeat=HEARTBEAT,
    )
    return url, tls
