"""The amqp sink: publishing to an exchange of RabbitMQ, persistent and mandatory, with publisher confirms. The confirm is a delivery.

An event that no queue takes comes back and is refused, not delivered. `message_id` is the delivery's id.
"""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from ssl import SSLContext
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import AfterValidator, Field
from pydantic_core import PydanticCustomError
from yarl import URL

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput
from waitd.core.waits.delivery import Delivered, DeliveryRejected, Receipt
from waitd.core.waits.event import EVENT_CONTENT_TYPE
from waitd.models import Strict, parsed
from waitd.outgoing import Outgoing
from waitd.ports import Connections, OutboxItem
from waitd.sinks.brokers.broker import Address, BrokerSink, ConnId, Sentences, is_true, refused, tls_of
from waitd.sinks.client_pool import ClientPool

if TYPE_CHECKING:
    from aio_pika.abc import AbstractChannel, AbstractConnection, AbstractExchange

DEFAULT_PORT, DEFAULT_TLS_PORT = 5672, 5671
#: Seconds without a sign of life after which a connection is given up.
HEARTBEAT = 15
#: Names travel as short strings, in bytes.
SHORT = 255
#: What RabbitMQ says of a message that is over its limit.
_MAX_SIZE = re.compile(r"larger than (?:configured )?max size (\d+)")


def _short(text: str) -> str:
    if len(text.encode()) > SHORT or not text.isprintable():
        raise PydanticCustomError("short", f"up to {SHORT} bytes of printable text")
    return text


Short = Annotated[str, AfterValidator(_short)]


class AmqpParams(Strict):
    """The parameters of an AMQP 0.9.1 exchange."""

    conn_id: ConnId
    exchange: Short = Field(
        default="", description="The exchange; the default one takes a queue's name as routing_key."
    )
    routing_key: Short = Field(default="", description="The routing key.")


@dataclass(frozen=True, slots=True)
class AmqpTarget:
    """Parsed parameters."""

    conn_id: str
    exchange: str
    routing_key: str
    destination: str


class AmqpSink(BrokerSink[AmqpTarget, "AbstractConnection"]):
    """Publishes. The connection: host, port, login, password, schema (the virtual host, `/`); TLS with conn_type `amqps` or extra `ssl`.

    Each exchange has a channel of its own on the connection: RabbitMQ answers a missing exchange by closing the channel, with all that
    is in flight there.
    """

    #: What the API's document shows of its parameters.
    params_model = AmqpParams

    kind = "amqp"
    library = "aio_pika"
    broker = "RabbitMQ"
    chatty = ("aiormq", "aio_pika")

    def __init__(self, connections: Connections, outgoing: Outgoing | None = None) -> None:
        super().__init__(connections, outgoing)
        self._doors: ClientPool[_Door] = ClientPool(
            lambda d: d.channel.close(), lambda d: not d.channel.is_closed
        )

    async def __aexit__(self, *error: object) -> None:
        """Closes channels and connections."""
        await asyncio.gather(self._doors.aclose(), super().__aexit__(*error))

    def _target(self, params: Mapping[str, Any]) -> AmqpTarget:
        given = parsed(AmqpParams, dict(params))
        if not (given.exchange or given.routing_key):
            raise InvalidInput.at("/routing_key", "the default exchange needs a queue's name as routing_key")
        return AmqpTarget(
            given.conn_id,
            given.exchange,
            given.routing_key,
            f"amqp {given.conn_id} {given.exchange}".rstrip(),
        )

    async def _open(self, connection: Connection, target: AmqpTarget) -> "AbstractConnection":  # noqa: ARG002 - one client for all
        if connection.conn_type == "amqps":
            connection = replace(connection, extra={**connection.extra, "ssl": True})
        with_tls = is_true(connection.extra.get("ssl"))
        address = self._address(connection, DEFAULT_TLS_PORT if with_tls else DEFAULT_PORT)
        url, tls = await asyncio.to_thread(_location, connection, address)
        from aio_pika.connection import Connection as Client

        client = Client(url, ssl_context=tls, client_properties={"connection_name": "waitd"})
        try:
            await client.connect()
        except BaseException:
            await client.close()  # or the library does it when the garbage is collected, wherever that is
            raise
        return client

    async def _close(self, client: "AbstractConnection") -> None:
        await client.close()

    def _usable(self, client: "AbstractConnection") -> bool:
        transport = client.transport  # `client.is_closed` hears of `close` only, not of a broker that hung up
        return transport is not None and not transport.connection.is_closed

    async def _send(self, client: "AbstractConnection", target: AmqpTarget, parcel: OutboxItem) -> Receipt:
        from aio_pika import DeliveryMode, Message

        message = Message(
            parcel.event,
            content_type=EVENT_CONTENT_TYPE,
            message_id=parcel.id,
            delivery_mode=DeliveryMode.PERSISTENT,
        )
        key = (target.conn_id, target.exchange)
        async with self._doors.lent(key, client, lambda: _door(client, target.exchange)) as door:
            try:
                await door.exchange.publish(message, target.routing_key, mandatory=True)
            except asyncio.CancelledError:
                self._doors.drop(key, door)  # its answer may still come; nobody is to take it for another's
                raise
        return Delivered()

    def _explained(self, error: Exception, target: AmqpTarget, parcel: OutboxItem) -> Receipt:  # noqa: ARG002 - the base's shape
        limit = _MAX_SIZE.search(str(error))
        # Others that were in flight on the channel hear of it too.
        if limit is not None and len(parcel.event) > int(limit[1]):
            return DeliveryRejected("the event is larger than this RabbitMQ takes (max_message_size)")
        return refused(error, _sentences(), self.broker)


class _Door(NamedTuple):
    """An exchange, and the channel that leads to it alone."""

    channel: "AbstractChannel"
    exchange: "AbstractExchange"


async def _door(connection: "AbstractConnection", exchange: str) -> _Door:
    """Asks first whether there is such an exchange: what is published to a missing one may cost the whole connection."""
    channel = await connection.channel(publisher_confirms=True, on_return_raises=True)
    if not exchange:
        return _Door(channel, channel.default_exchange)
    return _Door(channel, await channel.get_exchange(exchange, ensure=True))


def _location(connection: Connection, address: Address) -> tuple[URL, SSLContext | None]:
    """Where to, and by which TLS. Reads files and imports: call it in a thread."""
    from aio_pika.connection import make_url

    tls = tls_of(connection)
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


def _sentences() -> Sentences:
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
            "RabbitMQ did not take the event (nack): a queue is full, or could not keep it",
        ),
        (exceptions.ChannelNotFoundEntity, "there is no such exchange"),
        (exceptions.ChannelAccessRefused, "this login may not publish to the exchange"),
        (exceptions.ChannelClosed, "RabbitMQ closed the channel before it had confirmed the event"),
        (
            (exceptions.AMQPConnectionError, exceptions.ChannelInvalidStateError, OSError),
            "no connection to RabbitMQ, or it broke before RabbitMQ had answered",
        ),
    )
