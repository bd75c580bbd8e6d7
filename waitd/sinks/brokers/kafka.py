"""The kafka sink: an idempotent producer with acks=all. The partition leader's acknowledgement is a delivery.

The record has the event as its value, the wait's id (or `key`) as its key, and the headers `content-type` and `delivery-id`.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StringConstraints

from waitd.core.connections.connection import Connection
from waitd.core.waits.delivery import Delivered, DeliveryRejected, Receipt
from waitd.core.waits.event import EVENT_CONTENT_TYPE
from waitd.models import Strict, parsed
from waitd.ports import OutboxItem
from waitd.sinks.brokers.broker import (
    Address,
    BrokerSink,
    ConnId,
    Misconfigured,
    Sentences,
    TlsFiles,
    address_of,
    is_true,
    refused,
    tls_context,
)

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

DEFAULT_PORT = 9092
#: Milliseconds for one request, and for finding a topic; less than an attempt takes, so that it can say what was wrong.
REQUEST_TIMEOUT = 10_000
#: Seconds for handing in what a producer still holds when it is closed.
FLUSH_SECONDS = 2.0
_MECHANISMS = frozenset({"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})
_PROTOCOLS = frozenset({"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"})
#: librdkafka's names that say how to log in, as Airflow's Kafka connection has them. Others of `sasl.` and `ssl.` are not ignored.
_SECURITY = frozenset(
    {
        "sasl.mechanism",
        "sasl.mechanisms",
        "sasl.username",
        "sasl.password",
        "ssl.ca.location",
        "ssl.certificate.location",
        "ssl.key.location",
        "ssl.key.password",
        "ssl.endpoint.identification.algorithm",
    }
)


class KafkaParams(Strict):
    """The parameters of a Kafka topic."""

    conn_id: ConnId
    topic: Annotated[str, StringConstraints(pattern=r"^[a-zA-Z0-9._-]{1,249}$")] = Field(
        description="The topic's name."
    )
    key: Annotated[str, StringConstraints(max_length=1024)] | None = Field(
        default=None, description="The record's key; default: the wait's id."
    )


@dataclass(frozen=True, slots=True)
class KafkaTarget:
    """Parsed parameters."""

    conn_id: str
    topic: str
    key: str | None
    destination: str


class KafkaSink(BrokerSink[KafkaTarget, "AIOKafkaProducer"]):
    """Produces. The connection is Airflow's `kafka`: its extra is a configuration in librdkafka's names, `bootstrap.servers` first.

    The egress rules judge those; to which brokers they lead on is the cluster's word.
    """

    #: What the API's document shows of its parameters.
    params_model = KafkaParams

    kind = "kafka"
    library = "aiokafka"
    broker = "Kafka"
    chatty = ("aiokafka",)

    def _target(self, params: Mapping[str, Any]) -> KafkaTarget:
        given = parsed(KafkaParams, dict(params))
        # With its topic: a topic that is not there takes ten seconds to say so.
        return KafkaTarget(given.conn_id, given.topic, given.key, f"kafka {given.conn_id} {given.topic}")

    async def _open(self, connection: Connection, target: KafkaTarget) -> "AIOKafkaProducer":  # noqa: ARG002 - one client for all topics
        servers = [self._judged(server) for server in _servers(connection)]
        options = await asyncio.to_thread(_options, connection)
        from aiokafka import AIOKafkaProducer
        from aiokafka.errors import KafkaConnectionError

        producer = AIOKafkaProducer(
            bootstrap_servers=[str(server) for server in servers],
            acks="all",
            enable_idempotence=True,
            **options,
        )
        try:
            await producer.start()
        except KafkaConnectionError as error:
            await producer.stop()
            raise await _reason(servers, options) or error from None
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def _close(self, client: "AIOKafkaProducer") -> None:
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await client.flush()
        except TimeoutError:
            pass  # what it still holds is still in the outbox
        await _abandon(client)

    def _spoils(self, error: BaseException) -> bool:
        """An idempotent producer never gives up a record. One whose record nobody waits for any more, and one that has lost its place
        in the sequence, gives way to a new one; what concerns a topic or a record leaves it as it is.
        """
        from aiokafka import errors

        harmless = (
            errors.MessageSizeTooLargeError,
            errors.UnknownTopicOrPartitionError,
            errors.TopicAuthorizationFailedError,
            errors.InvalidTopicError,
            errors.NotEnoughReplicasError,
        )
        return not isinstance(error, harmless)

    async def _send(self, client: "AIOKafkaProducer", target: KafkaTarget, parcel: OutboxItem) -> Receipt:
        key = parcel.wait_id if target.key is None else target.key
        headers = [("content-type", EVENT_CONTENT_TYPE.encode()), ("delivery-id", parcel.id.encode())]
        await client.send_and_wait(target.topic, parcel.event, key=key.encode(), headers=headers)
        return Delivered()

    def _explained(self, error: Exception, target: KafkaTarget, parcel: OutboxItem) -> Receipt:  # noqa: ARG002 - the base's shape
        from aiokafka import errors

        if isinstance(error, errors.MessageSizeTooLargeError):
            return DeliveryRejected("the event is larger than this Kafka takes (message.max.bytes)")
        if isinstance(error, errors.InvalidTopicError):
            return DeliveryRejected("Kafka takes no topic of this name")
        return refused(error, _sentences(), self.broker)


async def _reason(servers: Sequence[Address], options: Mapping[str, Any]) -> Exception | None:
    """Why none of the servers took the connection. aiokafka tells only its log, so the first one that answers at all is asked again."""
    from aiokafka.conn import create_conn
    from aiokafka.errors import KafkaError

    reason: Exception | None = None
    for server in servers:
        try:
            (await create_conn(*server, **options)).close()
        except (KafkaError, ssl.SSLError) as error:
            return error
        except OSError as error:
            reason = error
    return reason


async def _abandon(producer: "AIOKafkaProducer") -> None:
    """Stops a producer without waiting for the broker, which may never come back; what it holds is still in the outbox."""
    from aiokafka.errors import ProducerClosed

    sender = producer._sender.sender_task  # noqa: SLF001 - `stop` alone waits until every record is acknowledged
    if sender is not None:
        sender.cancel()
        await producer.client.close()  # ends its requests in flight
        producer._message_accumulator.fail_all(ProducerClosed())  # noqa: SLF001 - as above
    await producer.stop()


def _options(connection: Connection) -> dict[str, Any]:
    """The connection's configuration in aiokafka's names. Reads files and imports: call it in a thread."""
    import aiokafka  # noqa: F401 - so that it is there when the loop asks for it

    extra = connection.extra
    unknown = [name for name in extra if name.startswith(("sasl.", "ssl.")) and name not in _SECURITY]
    if unknown:
        raise _misconfigured(connection, f"{', '.join(sorted(unknown))} in its extra is not understood")
    protocol = str(extra.get("security.protocol") or "PLAINTEXT").upper()
    if protocol not in _PROTOCOLS:
        raise _misconfigured(connection, f"security.protocol is one of {', '.join(sorted(_PROTOCOLS))}")
    options: dict[str, Any] = {
        "client_id": str(extra.get("client.id") or "waitd"),
        "request_timeout_ms": REQUEST_TIMEOUT,
        "security_protocol": protocol,
    }
    if protocol.startswith("SASL"):
        options |= _login(connection)
    if protocol.endswith("SSL"):
        options["ssl_context"] = tls_context(
            connection.conn_id,
            TlsFiles(
                extra.get("ssl.ca.location"),
                extra.get("ssl.certificate.location"),
                extra.get("ssl.key.location"),
                extra.get("ssl.key.password"),
            ),
            verify=is_true(extra.get("enable.ssl.certificate.verification", True)),
            check_hostname=extra.get("ssl.endpoint.identification.algorithm") != "none",
        )
    return options


def _servers(connection: Connection) -> list[Address]:
    given = connection.extra.get("bootstrap.servers")
    if not given:
        return [address_of(connection, DEFAULT_PORT)]
    return [_server(connection.conn_id, server.strip()) for server in str(given).split(",")]


def _server(conn_id: str, text: str) -> Address:
    """`host`, `host:port` or `[address]:port`."""
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdecimal()):
        host, port = text, str(DEFAULT_PORT)
    return address_of(Connection(conn_id, host=host, port=int(port)), DEFAULT_PORT)


def _login(connection: Connection) -> dict[str, Any]:
    extra = connection.extra
    mechanism = str(extra.get("sasl.mechanism") or extra.get("sasl.mechanisms") or "PLAIN").upper()
    if mechanism not in _MECHANISMS:
        raise _misconfigured(connection, f"sasl.mechanism is one of {', '.join(sorted(_MECHANISMS))}")
    return {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": extra.get("sasl.username") or connection.login or "",
        "sasl_plain_password": extra.get("sasl.password") or connection.password or "",
    }


def _misconfigured(connection: Connection, why: str) -> Misconfigured:
    return Misconfigured(f"the connection {connection.conn_id} cannot be used: {why}")


def _sentences() -> Sentences:
    from aiokafka import errors

    return (
        (
            (
                errors.AuthenticationFailedError,
                errors.SaslAuthenticationFailed,
                errors.UnsupportedSaslMechanismError,
            ),
            "Kafka does not accept the connection's credentials",
        ),
        (
            (errors.TopicAuthorizationFailedError, errors.ClusterAuthorizationFailedError),
            "this login may not write to the topic",
        ),
        (errors.UnknownTopicOrPartitionError, "there is no such topic"),
        (errors.NotEnoughReplicasError, "too few replicas of the topic are in sync"),
        (
            (
                errors.KafkaConnectionError,
                errors.KafkaTimeoutError,
                errors.NodeNotReadyError,
                errors.ProducerClosed,
                OSError,
            ),
            "no connection to Kafka, or it broke before Kafka had answered",
        ),
    )
