"""The kafka sink: an idempotent producer with acks=all.

The partition leader's acknowledgement is a delivery.

A record's value is the event, its key the wait's id (or `key`), and its headers are `content-type`,
`event-id` and `delivery-id`.
"""

import asyncio
import ssl
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import Field, StringConstraints

from waitd.core.connections.connection import Connection
from waitd.core.waits.delivery import Delivered, DeliveryRejected, Receipt
from waitd.core.waits.event import EVENT_CONTENT_TYPE
from waitd.models import Strict
from waitd.outgoing import TlsContexts, TlsFiles
from waitd.ports import OutboxItem
from waitd.sinks.brokers.broker import (
    BrokerAddress,
    BrokerSink,
    ConnId,
    ErrorReceipts,
    InvalidConnection,
    broker_address,
    is_true,
    tls_context,
)
from waitd.sinks.brokers.library_internals import abort_producer

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer

DEFAULT_PORT = 9092
#: Milliseconds for one request or topic lookup; less than an attempt, so that the attempt can
#: report it.
REQUEST_TIMEOUT = 10_000
#: Seconds for sending buffered records when a producer closes.
FLUSH_SECONDS = 2.0
_MECHANISMS = frozenset({"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"})
_PROTOCOLS = frozenset({"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"})
#: The supported security settings, under librdkafka's names as in Airflow's Kafka connection.
#: Other `sasl.` and `ssl.` settings are errors, so that none is silently ignored.
_SECURITY_SETTINGS = frozenset(
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


class KafkaSink(BrokerSink[KafkaParams, "AIOKafkaProducer"]):
    """Produces to topics.

    The connection is Airflow's `kafka`: its extra holds librdkafka settings, above all
    `bootstrap.servers`. The egress rules apply to these servers, not to the brokers that the
    cluster then names.
    """

    params_model = KafkaParams

    kind = "kafka"
    library = "aiokafka"
    broker = "Kafka"
    noisy_loggers = ("aiokafka",)

    def _destination(self, params: KafkaParams) -> str:
        # With the topic, because an attempt on a missing topic takes ten seconds.
        return f"kafka {params.conn_id} {params.topic}"

    async def _open(self, connection: Connection, params: KafkaParams) -> "AIOKafkaProducer":  # noqa: ARG002 - one client for all topics
        servers = [self._check_egress(server) for server in _servers(connection)]
        options = await asyncio.to_thread(_options, self._egress.tls, connection)
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
            raise await _find_connection_error(servers, options) or error from None
        except BaseException:
            await producer.stop()
            raise
        return producer

    async def _close(self, client: "AIOKafkaProducer") -> None:
        try:
            async with asyncio.timeout(FLUSH_SECONDS):
                await client.flush()
        except TimeoutError:
            pass  # unsent events remain in the outbox
        await abort_producer(client)

    def _breaks_client(self, error: BaseException) -> bool:
        """Every error but those of a topic or record, cancellation included.

        An idempotent producer retries a record forever, even if its caller was cancelled, and it is
        unusable once it loses its sequence number.
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

    async def _send(self, client: "AIOKafkaProducer", params: KafkaParams, item: OutboxItem) -> Receipt:
        key = item.wait_id if params.key is None else params.key
        headers = [
            ("content-type", EVENT_CONTENT_TYPE.encode()),
            ("event-id", item.wait_id.encode()),
            ("delivery-id", item.id.encode()),
        ]
        await client.send_and_wait(params.topic, item.event, key=key.encode(), headers=headers)
        return Delivered()

    @staticmethod
    def _error_receipts() -> ErrorReceipts:
        from aiokafka import errors

        return (
            (
                errors.MessageSizeTooLargeError,
                DeliveryRejected("the event is larger than Kafka accepts; raise message.max.bytes"),
            ),
            (errors.InvalidTopicError, DeliveryRejected("Kafka does not accept this topic name")),
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
            (errors.UnknownTopicOrPartitionError, "the topic does not exist"),
            (errors.NotEnoughReplicasError, "too few replicas of the topic are in sync"),
            (
                (
                    errors.KafkaConnectionError,
                    errors.KafkaTimeoutError,
                    errors.NodeNotReadyError,
                    errors.ProducerClosed,
                    OSError,
                ),
                "could not connect to Kafka, or the connection broke before it answered",
            ),
        )


async def _find_connection_error(
    servers: Sequence[BrokerAddress], options: Mapping[str, Any]
) -> Exception | None:
    """Why every server refused the connection.

    aiokafka only logs the reason, so this connects again to find it.
    """
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


def _options(tls: TlsContexts, connection: Connection) -> dict[str, Any]:
    """Options of aiokafka for the connection.

    Reads files and imports the library, so call it in a thread.
    """
    import aiokafka  # noqa: F401 - a slow import that must not block the event loop

    extra = connection.extra
    if any(name.startswith(("sasl.", "ssl.")) and name not in _SECURITY_SETTINGS for name in extra):
        # In a broken URI, the name may end with a secret.
        raise _invalid_connection(
            connection,
            f"of sasl.* and ssl.*, its extra may have only {', '.join(sorted(_SECURITY_SETTINGS))}",
        )
    protocol = str(extra.get("security.protocol") or "PLAINTEXT").upper()
    if protocol not in _PROTOCOLS:
        raise _invalid_connection(
            connection, f"security.protocol must be one of {', '.join(sorted(_PROTOCOLS))}"
        )
    options: dict[str, Any] = {
        "client_id": str(extra.get("client.id") or "waitd"),
        "request_timeout_ms": REQUEST_TIMEOUT,
        "security_protocol": protocol,
    }
    if protocol.startswith("SASL"):
        options |= _sasl_options(connection)
    if protocol.endswith("SSL"):
        options["ssl_context"] = tls_context(
            tls,
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


def _servers(connection: Connection) -> list[BrokerAddress]:
    servers = connection.extra.get("bootstrap.servers")
    if not servers:
        return [broker_address(connection, DEFAULT_PORT)]
    return [_parse_server(connection.conn_id, server.strip()) for server in str(servers).split(",")]


def _parse_server(conn_id: str, text: str) -> BrokerAddress:
    """`host`, `host:port` or `[address]:port`."""
    host, _, port = text.rpartition(":")
    if not (host and port.isascii() and port.isdecimal()):
        host, port = text, str(DEFAULT_PORT)
    return broker_address(Connection(conn_id, host=host, port=int(port)), DEFAULT_PORT)


def _sasl_options(connection: Connection) -> dict[str, Any]:
    extra = connection.extra
    mechanism = str(extra.get("sasl.mechanism") or extra.get("sasl.mechanisms") or "PLAIN").upper()
    if mechanism not in _MECHANISMS:
        raise _invalid_connection(
            connection, f"sasl.mechanism must be one of {', '.join(sorted(_MECHANISMS))}"
        )
    return {
        "sasl_mechanism": mechanism,
        "sasl_plain_username": extra.get("sasl.username") or connection.login or "",
        "sasl_plain_password": extra.get("sasl.password") or connection.password or "",
    }


def _invalid_connection(connection: Connection, why: str) -> InvalidConnection:
    return InvalidConnection(f"the connection {connection.conn_id} cannot be used: {why}")
