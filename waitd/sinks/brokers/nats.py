"""The nats sink: publishes to JetStream. The stream's PubAck is a delivery.

`Nats-Msg-Id` is the delivery's id: JetStream drops repeated attempts, but no redelivery. The header
`Event-Id` is the event's id.
"""

import asyncio
import re
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import Field

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected, Receipt
from waitd.core.waits.event import EVENT_CONTENT_TYPE
from waitd.models import Strict
from waitd.outgoing import TlsContexts
from waitd.ports import OutboxItem
from waitd.sinks.brokers.broker import BrokerSink, ConnId, ErrorReceipts, connection_tls_context
from waitd.sinks.brokers.library_internals import tls_only_nats_client

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

DEFAULT_PORT = 4222
#: Seconds that connecting may take.
CONNECT_TIMEOUT = 5
#: Seconds for closing a connection that failed to open.
ABORT_SECONDS = 0.5
#: Seconds between pings; after two without an answer the connection counts as lost.
PING_INTERVAL = 10
#: Seconds between two checks that the connection is open.
CHECK_INTERVAL = 0.5
#: The longest subject, in characters.
MAX_SUBJECT = 255
#: Tokens separated by dots: no wildcards, spaces or control characters.
_SUBJECT = re.compile(r"[^\s.*>\x00-\x1f\x7f]+(\.[^\s.*>\x00-\x1f\x7f]+)*")
#: JetStream's error codes for a message over the stream's size limit, which no retry can fix.
_TOO_LARGE = frozenset({10054})
#: The longest error description of the server, in characters.
_MAX_DESCRIPTION = 200


class NatsParams(Strict):
    """The parameters of a subject of a JetStream stream."""

    conn_id: ConnId
    subject: str = Field(description="The subject, without wildcards.")


class NatsSink(BrokerSink[NatsParams, "NatsPublisher"]):
    """Publishes to JetStream.

    The connection: host, port, login and password, or extra `token`; extra `ssl` and `ssl_*` as for
    Redis.
    """

    params_model = NatsParams

    kind = "nats"
    library = "nats"
    broker = "NATS"

    def _check(self, params: NatsParams) -> None:
        if len(params.subject) > MAX_SUBJECT or not _SUBJECT.fullmatch(params.subject):
            raise InvalidInput.at(
                "/subject",
                f"tokens separated by dots, without spaces, * and >; up to {MAX_SUBJECT} characters",
            )

    async def _open(self, connection: Connection, params: NatsParams) -> "NatsPublisher":  # noqa: ARG002 - one client for all subjects
        address = self._address(connection, DEFAULT_PORT)
        tls, client_class = await asyncio.to_thread(_load, self._egress.tls, connection)
        publisher = NatsPublisher(client_class())
        try:
            await publisher.start(
                servers=[f"{'tls' if tls else 'nats'}://{address}"],
                tls=tls,
                user=connection.login or None,
                password=connection.password or None,
                token=connection.extra.get("token"),
            )
        except BaseException:
            await publisher.abort()
            raise
        return publisher

    async def _close(self, client: "NatsPublisher") -> None:
        await client.close()

    def _usable(self, client: "NatsPublisher") -> bool:
        return client.is_connected

    async def _send(self, client: "NatsPublisher", params: NatsParams, item: OutboxItem) -> Receipt:
        headers = {"Nats-Msg-Id": item.id, "Event-Id": item.wait_id, "Content-Type": EVENT_CONTENT_TYPE}
        return _parse_answer(await client.publish(params.subject, item.event, headers))

    def _classify_error(self, error: Exception, item: OutboxItem) -> Receipt:
        from nats import errors

        # The library raises some authentication errors as plain text.
        if "authorization violation" in str(error).lower() or "authentication" in str(error).lower():
            error = errors.AuthorizationError()
        return super()._classify_error(error, item)

    @staticmethod
    def _error_receipts() -> ErrorReceipts:
        from nats import errors

        return (
            (
                errors.MaxPayloadError,
                DeliveryRejected("the event is larger than NATS accepts; raise max_payload"),
            ),
            (errors.AuthorizationError, "NATS does not accept the connection's credentials"),
            (PublishForbidden, "this login may not publish to the subject"),
            (
                (errors.NoServersError, errors.ConnectionClosedError, OSError),
                "could not connect to NATS, or the connection broke before it answered",
            ),
            (errors.TimeoutError, "NATS did not answer in time"),
        )


class PublishForbidden(Exception):  # noqa: N818 - the server's answer
    """The login may not publish to the subject."""


class NatsPublisher:
    """One connection and its unacknowledged messages.

    Unlike the library's `JetStreamContext.publish`, it fails them as soon as the connection is
    lost.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._pending: dict[str, tuple[str, asyncio.Future[Msg]]] = {}
        self._last_number = 0
        self._monitor_task: asyncio.Task[None] | None = None
        self._last_error: Exception | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up."""
        return self._client.is_connected

    async def start(self, **options: Any) -> None:
        """Connects. Raises the library's errors, `OSError` and `TimeoutError`."""
        try:
            await self._client.connect(
                **options,
                name="waitd",
                allow_reconnect=False,  # the next attempt opens a new client
                max_reconnect_attempts=1,
                reconnect_time_wait=0,
                connect_timeout=CONNECT_TIMEOUT,
                ping_interval=PING_INTERVAL,
                closed_cb=self._on_closed,
                error_cb=self._on_error,
            )
        except Exception as error:
            if self._last_error is None or self._last_error is error:
                raise
            raise error from self._last_error  # the library's NoServersError says nothing of it
        await self._client.subscribe(f"{self._inbox}.*", cb=self._on_answer)
        self._monitor_task = asyncio.create_task(self._monitor(), name="nats connection")

    async def _monitor(self) -> None:
        """Detects a lost connection that the library does not report.

        Its own closing fails where data was still to be sent, and then it calls no callback.
        """
        while self._client.is_connected:  # noqa: ASYNC110 - the library has no event to wait for
            await asyncio.sleep(CHECK_INTERVAL)
        await self._on_closed()

    async def close(self) -> None:
        """Disconnects and cancels waiting callers."""
        if self._monitor_task is not None:
            self._monitor_task.cancel()
        await self._client.close()
        await self._on_closed()

    async def abort(self) -> None:
        """Closes a connection that failed to open.

        After a failed TLS handshake the library waits for a close that never comes.
        """
        try:
            async with asyncio.timeout(ABORT_SECONDS):
                await self.close()
        except TimeoutError:
            pass  # the socket is closed by now

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str]) -> "Msg":
        """Publishes and returns the answer of the stream or the server. It has no timeout.

        Raises:
            asyncio.CancelledError: also where the connection was lost.
            PublishForbidden: the login may not publish to the subject.
            Exception: the library's errors.
        """
        self._last_number += 1
        token = str(self._last_number)
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._pending[token] = subject, answer
        try:
            await self._client.publish(subject, payload, reply=f"{self._inbox}.{token}", headers=headers)
            return await answer
        finally:
            del self._pending[token]
            answer.cancel()

    async def _on_answer(self, message: "Msg") -> None:
        _, answer = self._pending.get(message.subject.rpartition(".")[2], ("", None))
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _on_closed(self) -> None:
        for _, answer in self._pending.values():
            answer.cancel()

    async def _on_error(self, error: Exception) -> None:
        """Fails every message to a forbidden subject: the error names no single message."""
        self._last_error = error
        text = str(error).lower()
        if "permissions violation" in text:
            for subject, answer in self._pending.values():
                if f'"{subject.lower()}"' in text and not answer.done():
                    answer.set_exception(PublishForbidden())


def _parse_answer(message: "Msg") -> Receipt:
    """The receipt for the answer to a publish."""
    if (message.headers or {}).get("Status") == "503":
        return DeliveryFailed("no JetStream stream has this subject")
    try:
        answer = orjson.loads(message.data)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        return DeliveryFailed("the answer is not a JetStream acknowledgement")
    error = answer.get("error")
    if isinstance(error, dict):
        code, description = error.get("err_code"), str(error.get("description"))[:_MAX_DESCRIPTION]
        receipt_type = DeliveryRejected if code in _TOO_LARGE else DeliveryFailed
        return receipt_type(f"JetStream refused it: {description} (error {code})")
    return (
        Delivered()
        if answer.get("stream")
        else DeliveryFailed("the answer is not a JetStream acknowledgement")
    )


def _load(contexts: TlsContexts, connection: Connection) -> tuple[Any, "type[Client]"]:
    """The TLS context and client class.

    Reads files and imports the library, so call it in a thread.
    """
    from nats.aio.client import Client

    tls = connection_tls_context(contexts, connection)
    return tls, Client if tls is None else tls_only_nats_client()
