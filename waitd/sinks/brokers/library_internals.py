"""The private attributes of client libraries that the broker sinks depend on.

There is no public way to do this, so pyproject pins each library to one minor version, and
`tests/sinks/test_library_internals.py` fails when a new version moves what is used here.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from waitd.outgoing.errors import ClosedWhileIdle

if TYPE_CHECKING:
    from ssl import SSLContext

    from aiobotocore.httpsession import AIOHTTPSession
    from aiohttp import TCPConnector
    from aiokafka import AIOKafkaProducer
    from nats.aio.client import Client
    from redis.asyncio import SSLConnection


def aws_session_class(connector: "Callable[[], TCPConnector]") -> "type[AIOHTTPSession]":
    """An aiobotocore session class with connections of `connector`, called in the running loop.

    aiobotocore's own connector trusts other authorities and resumes no TLS session. A request that
    meets a connection closed while idle is sent again, so use it only where that is harmless.
    """
    from aiobotocore.httpsession import AIOHTTPSession
    from botocore.exceptions import ConnectionClosedError

    class AwsSession(AIOHTTPSession):  # type: ignore[misc]  # aiobotocore has no types
        async def _create_connector(self, _proxy_url: str | None) -> "TCPConnector":
            return connector()

        async def send(self, request: Any) -> Any:
            while True:
                try:
                    return await super().send(request)
                except ConnectionClosedError as error:
                    if not isinstance(error.kwargs["error"], ClosedWhileIdle):
                        raise

    return AwsSession


def redis_over_tls(context: "SSLContext") -> "type[SSLConnection]":
    """A class of redis-py's connections with this context; the library takes only file names."""
    from redis.asyncio import SSLConnection

    class TlsConnection(SSLConnection):
        def __init__(self, **options: Any) -> None:
            super().__init__(**options)
            self.ssl_context.context = context

    return TlsConnection


def tls_only_nats_client() -> "type[Client]":
    """A nats-py client class that always upgrades to TLS.

    nats-py starts TLS only if the server's INFO requires it. Otherwise it sends the password in
    plain text, even with the URL scheme `tls` and a TLS context.
    """
    from nats.aio.client import Client

    class TlsOnlyClient(Client):
        async def _process_info(self, info: dict[str, Any], initial_connection: bool = False) -> None:
            self._server_info["tls_required"] = True
            await super()._process_info(info, initial_connection)

    return TlsOnlyClient


async def abort_producer(producer: "AIOKafkaProducer") -> None:
    """Stops an aiokafka producer at once; its unacknowledged records fail with `ProducerClosed`.

    `AIOKafkaProducer.stop` waits until the broker acknowledges every record, which may never
    happen.
    """
    from aiokafka.errors import ProducerClosed

    sender_task = producer._sender.sender_task  # noqa: SLF001 - see above
    if sender_task is not None:
        sender_task.cancel()
        await producer.client.close()  # fails requests in flight
        producer._message_accumulator.fail_all(ProducerClosed())  # noqa: SLF001 - see above
    await producer.stop()
