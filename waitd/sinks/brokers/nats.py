"""The nats sink: JetStream publish. The PubAck of a stream is a delivery; `Nats-Msg-Id`, the delivery's id, lets it drop a repetition."""

import asyncio
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import orjson
from pydantic import Field

from waitd.core.connections.connection import Connection
from waitd.core.errors import InvalidInput
from waitd.core.waits.delivery import Delivered, DeliveryFailed, DeliveryRejected, Receipt
from waitd.core.waits.event import EVENT_CONTENT_TYPE
from waitd.models import Strict, parsed
from waitd.ports import OutboxItem
from waitd.sinks.brokers.broker import BrokerSink, ConnId, Sentences, refused, tls_of

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.aio.msg import Msg

DEFAULT_PORT = 4222
#: Seconds that connecting may take.
CONNECT_TIMEOUT = 5
#: Seconds for closing a connection that did not come up.
ABANDON_SECONDS = 0.5
#: Seconds between pings; two without an answer, and the connection is given up.
PING_INTERVAL = 10
#: Seconds between looks whether the connection is still up.
LOOK_SECONDS = 0.5
#: The longest subject, in characters.
MAX_SUBJECT = 255
#: Tokens between dots: printable, no wildcards.
_SUBJECT = re.compile(r"[^\s.*>\x00-\x1f\x7f]+(\.[^\s.*>\x00-\x1f\x7f]+)*")
#: The error codes of JetStream's API that no repetition mends: the message is larger than the stream takes.
_TOO_LARGE = frozenset({10054})
#: The longest description of the server that is kept.
_DESCRIPTION = 200


class NatsParams(Strict):
    """The parameters of a subject that a JetStream stream listens to."""

    conn_id: ConnId
    subject: str = Field(description="The subject, without wildcards.")


@dataclass(frozen=True, slots=True)
class NatsTarget:
    """Parsed parameters."""

    conn_id: str
    subject: str
    destination: str


class NatsSink(BrokerSink[NatsTarget, "Publisher"]):
    """Publishes to JetStream. The connection: host, port, login and password, or extra `token`; extra `ssl` and `ssl_*` as for Redis."""

    #: What the API's document shows of its parameters.
    params_model = NatsParams

    kind = "nats"
    library = "nats"
    broker = "NATS"

    def _target(self, params: Mapping[str, Any]) -> NatsTarget:
        given = parsed(NatsParams, dict(params))
        if len(given.subject) > MAX_SUBJECT or not _SUBJECT.fullmatch(given.subject):
            raise InvalidInput.at(
                "/subject",
                f"tokens separated by dots, without spaces, * and >; up to {MAX_SUBJECT} characters",
            )
        return NatsTarget(given.conn_id, given.subject, f"nats {given.conn_id}")

    async def _open(self, connection: Connection, target: NatsTarget) -> "Publisher":  # noqa: ARG002 - one client for all subjects
        address = self._address(connection, DEFAULT_PORT)
        tls, client_class = await asyncio.to_thread(_prepare, connection)
        publisher = Publisher(client_class())
        try:
            await publisher.start(
                servers=[f"{'tls' if tls else 'nats'}://{address}"],
                tls=tls,
                user=connection.login or None,
                password=connection.password or None,
                token=connection.extra.get("token"),
            )
        except BaseException:
            await publisher.abandon()
            raise
        return publisher

    async def _close(self, client: "Publisher") -> None:
        await client.close()

    def _usable(self, client: "Publisher") -> bool:
        return client.is_connected

    async def _send(self, client: "Publisher", target: NatsTarget, parcel: OutboxItem) -> Receipt:
        headers = {"Nats-Msg-Id": parcel.id, "Content-Type": EVENT_CONTENT_TYPE}
        return receipt_of(await client.publish(target.subject, parcel.event, headers))

    def _explained(self, error: Exception, target: NatsTarget, parcel: OutboxItem) -> Receipt:  # noqa: ARG002 - the base's shape
        from nats import errors

        if isinstance(error, errors.MaxPayloadError):
            return DeliveryRejected("the event is larger than this NATS server takes (max_payload)")
        # Some refusals at the door come as text only.
        if "authorization violation" in str(error).lower() or "authentication" in str(error).lower():
            error = errors.AuthorizationError()
        return refused(error, _sentences(), self.broker)


class NotAllowed(Exception):  # noqa: N818 - an answer of the server
    """The login may not publish to the subject."""


class Publisher:
    """One connection, and those who wait for an answer on it.

    The library's own `JetStreamContext.publish` leaves them waiting when the connection is lost; here they hear of it at once.
    """

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._inbox = client.new_inbox()
        self._waiting: dict[str, tuple[str, asyncio.Future[Msg]]] = {}
        self._number = 0
        self._watching: asyncio.Task[None] | None = None

    @property
    def is_connected(self) -> bool:
        """Whether the connection is up."""
        return self._client.is_connected

    async def start(self, **options: Any) -> None:
        """Connects; raises the library's errors, `OSError` and `TimeoutError`."""
        await self._client.connect(
            **options,
            name="waitd",
            allow_reconnect=False,  # a new client takes over
            max_reconnect_attempts=1,
            reconnect_time_wait=0,
            connect_timeout=CONNECT_TIMEOUT,
            ping_interval=PING_INTERVAL,
            closed_cb=self._lost,
            error_cb=self._troubled,
        )
        await self._client.subscribe(f"{self._inbox}.*", cb=self._answered)
        self._watching = asyncio.create_task(self._watch(), name="nats connection")

    async def _watch(self) -> None:
        """Sees a loss of which the library tells nobody: where something was still to be sent, its own closing fails."""
        while self._client.is_connected:  # noqa: ASYNC110 - the library sets no event, and here it does not call back either
            await asyncio.sleep(LOOK_SECONDS)
        await self._lost()

    async def close(self) -> None:
        """Disconnects; whoever waits for an answer is told."""
        if self._watching is not None:
            self._watching.cancel()
        await self._client.close()
        await self._lost()

    async def abandon(self) -> None:
        """Closes a connection that did not come up. Of one whose TLS handshake failed the library awaits an end that it never hears of."""
        try:
            async with asyncio.timeout(ABANDON_SECONDS):
                await self.close()
        except TimeoutError:
            pass  # it is closed by now

    async def publish(self, subject: str, payload: bytes, headers: dict[str, str]) -> "Msg":
        """What the stream, or the server for it, answers; without an end of its own.

        Raises:
            asyncio.CancelledError: also where the connection was lost.
            NotAllowed: the login may not.
            Exception: the library's own.
        """
        self._number += 1
        token = str(self._number)
        answer: asyncio.Future[Msg] = asyncio.get_running_loop().create_future()
        self._waiting[token] = subject, answer
        try:
            await self._client.publish(subject, payload, reply=f"{self._inbox}.{token}", headers=headers)
            return await answer
        finally:
            del self._waiting[token]
            answer.cancel()

    async def _answered(self, message: "Msg") -> None:
        _, answer = self._waiting.get(message.subject.rpartition(".")[2], ("", None))
        if answer is not None and not answer.done():
            answer.set_result(message)

    async def _lost(self) -> None:
        for _, answer in self._waiting.values():
            answer.cancel()

    async def _troubled(self, error: Exception) -> None:
        """The server refuses a subject in passing, naming it, not the message."""
        text = str(error).lower()
        if "permissions violation" in text:
            for subject, answer in self._waiting.values():
                if f'"{subject.lower()}"' in text and not answer.done():
                    answer.set_exception(NotAllowed())


def receipt_of(message: "Msg") -> Receipt:
    """What the answer to a publish means."""
    if (message.headers or {}).get("Status") == "503":
        return DeliveryFailed("no JetStream stream listens to the subject")
    try:
        answer = orjson.loads(message.data)
    except orjson.JSONDecodeError:
        answer = None
    if not isinstance(answer, dict):
        return DeliveryFailed("the answer is no acknowledgement of JetStream")
    error = answer.get("error")
    if isinstance(error, dict):
        code, description = error.get("err_code"), str(error.get("description"))[:_DESCRIPTION]
        answer_type = DeliveryRejected if code in _TOO_LARGE else DeliveryFailed
        return answer_type(f"JetStream refused it: {description} (error {code})")
    return (
        Delivered()
        if answer.get("stream")
        else DeliveryFailed("the answer is no acknowledgement of JetStream")
    )


def _prepare(connection: Connection) -> tuple[Any, "type[Client]"]:
    from nats.aio.client import Client

    class EncryptedClient(Client):
        """The library speaks TLS where the server asks for it; else it would send the password in the clear, whatever its options say."""

        async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
            self._server_info["tls_required"] = True
            await super()._process_info(info, initial_connection)

    tls = tls_of(connection)
    return tls, Client if tls is None else EncryptedClient


def _sentences() -> Sentences:
    from nats import errors

    return (
        (errors.AuthorizationError, "NATS does not accept the connection's credentials"),
        (NotAllowed, "this login may not publish to the subject"),
        (
            (errors.NoServersError, errors.ConnectionClosedError, OSError),
            "no connection to NATS, or it broke before NATS had answered",
        ),
        (errors.TimeoutError, "NATS did not answer in time"),
    )
