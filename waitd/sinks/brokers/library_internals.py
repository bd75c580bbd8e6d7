"""The private attributes of client libraries that the broker sinks depend on.

There is no public way to do this, so pyproject pins each library to one minor version, and
`tests/sinks/test_library_internals.py` fails when a new version moves what is used here.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aiokafka import AIOKafkaProducer
    from nats.aio.client import Client


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
