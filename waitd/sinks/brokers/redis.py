"""The redis sink: XADD to a stream. The entry id that Redis returns is a delivery.

An entry has the fields `event` (the event's bytes), `content_type`, `event_id` and `delivery_id`.
Redis creates a missing stream and does not detect duplicates; consumers do, by the event's id. No
error is final: Redis closes the connection on an event over `proto-max-bulk-len`, which looks like
any other lost connection. (No event reaches that setting's minimum.)
"""

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field

from waitd.core.connections.connection import Connection
from waitd.core.waits.delivery import Delivered, DeliveryFailed, Receipt
from waitd.core.waits.event import EVENT_CONTENT_TYPE
from waitd.models import Strict
from waitd.outgoing import TlsContexts
from waitd.ports import OutboxItem
from waitd.sinks.brokers.broker import (
    BrokerAddress,
    BrokerSink,
    ConnId,
    ErrorReceipts,
    InvalidConnection,
    connection_tls_context,
)
from waitd.sinks.brokers.library_internals import redis_over_tls

if TYPE_CHECKING:
    from redis.asyncio import Redis

DEFAULT_PORT = 6379
#: Seconds that connecting may take.
CONNECT_TIMEOUT = 10.0
#: Seconds that one batch may take; less than an attempt, so that the attempt can report it.
BATCH_TIMEOUT = 10.0
#: The most entries in one batch.
BATCH = 128


class RedisParams(Strict):
    """The parameters of a Redis stream."""

    conn_id: ConnId
    stream: Annotated[str, Field(min_length=1, max_length=512)] = Field(description="The stream's key.")
    maxlen: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="About how many entries the stream keeps (MAXLEN ~)."
    )


class RedisSink(BrokerSink[RedisParams, "RedisBatcher"]):
    """Adds events to streams.

    The connection is Airflow's `redis`: host, port, login, password, extra `db`, `ssl` and `ssl_*`.
    """

    params_model = RedisParams

    kind = "redis"
    library = "redis"
    broker = "Redis"

    async def _open(self, connection: Connection, params: RedisParams) -> "RedisBatcher":  # noqa: ARG002 - one client for all streams
        address = self._address(connection, DEFAULT_PORT)
        return RedisBatcher(await asyncio.to_thread(_client, self._egress.tls, connection, address))

    async def _close(self, client: "RedisBatcher") -> None:
        await client.aclose()

    async def _ping(self, client: "RedisBatcher") -> None:
        await client.ping()

    async def _send(self, client: "RedisBatcher", params: RedisParams, item: OutboxItem) -> Receipt:
        fields = {
            "event": item.event,
            "content_type": EVENT_CONTENT_TYPE,
            "event_id": item.wait_id,
            "delivery_id": item.id,
        }
        entry_id = await client.add(params.stream, fields, params.maxlen)
        return Delivered() if entry_id else DeliveryFailed("Redis did not return the entry's id")

    def _classify_error(self, error: Exception, item: OutboxItem) -> Receipt:
        from redis import exceptions

        if isinstance(error, exceptions.ResponseError):
            code = str(error).partition(" ")[0]
            if code in _ERROR_CODES:
                return DeliveryFailed(_ERROR_CODES[code])
        return super()._classify_error(error, item)

    @staticmethod
    def _error_receipts() -> ErrorReceipts:
        from redis import exceptions

        return (
            (exceptions.AuthenticationError, "Redis does not accept the connection's login and password"),
            (exceptions.NoPermissionError, _ERROR_CODES["NOPERM"]),
            (exceptions.ReadOnlyError, _ERROR_CODES["READONLY"]),
            (exceptions.BusyLoadingError, _ERROR_CODES["LOADING"]),
            (exceptions.OutOfMemoryError, "Redis is out of memory"),
            (exceptions.ResponseError, "Redis refused the event"),
            (exceptions.TimeoutError, "Redis did not answer in time"),
            (
                (exceptions.ConnectionError, OSError),
                "could not connect to Redis, or the connection broke before it answered",
            ),
        )


class _StreamEntry(NamedTuple):
    stream: str
    fields: dict[Any, Any]
    maxlen: int | None
    result: "asyncio.Future[Any]"


class RedisBatcher:
    """One connection that sends entries in batches.

    Entries that arrive while a batch is in flight form the next one, at half the cost of single
    requests. A task of its own sends the batches, so cancelling a caller only ends its waiting.
    """

    def __init__(self, client: "Redis") -> None:
        self._client = client
        self._waiting: deque[_StreamEntry] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def add(self, stream: str, fields: dict[Any, Any], maxlen: int | None) -> Any:
        """XADD an entry; returns its id.

        Raises:
            Exception: the library's own, or `TimeoutError`.
        """
        entry = _StreamEntry(stream, fields, maxlen, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all(), name="redis batches")
        return await entry.result

    async def ping(self) -> None:
        """Connects, logs in and waits for an answer. Raises as `add`."""
        async with asyncio.timeout(BATCH_TIMEOUT):
            await self._client.ping()

    async def aclose(self) -> None:
        """Disconnects and cancels waiting callers."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        await self._client.aclose()

    async def _send_all(self) -> None:
        batch: list[_StreamEntry] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                batch = [entry for entry in batch if not entry.result.done()]
                for entry, result in zip(batch, await self._send(batch), strict=True):
                    if entry.result.done():
                        continue
                    if isinstance(result, Exception):
                        entry.result.set_exception(result)
                    else:
                        entry.result.set_result(result)
        finally:
            self._sending = None
            for entry in (*batch, *self._waiting):
                entry.result.cancel()  # no effect on one with a result

    async def _send(self, batch: Sequence[_StreamEntry]) -> Sequence[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for entry in batch:
            pipeline.xadd(entry.stream, entry.fields, maxlen=entry.maxlen, approximate=True)
        try:
            async with asyncio.timeout(BATCH_TIMEOUT):
                return await pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - it fails every entry of the batch
            return [error] * len(batch)


def _client(contexts: TlsContexts, connection: Connection, address: BrokerAddress) -> "Redis":
    from redis.asyncio import Connection as Plain
    from redis.asyncio import ConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    context = connection_tls_context(contexts, connection)
    pool = ConnectionPool(
        connection_class=Plain if context is None else redis_over_tls(context),
        host=address.host,
        port=address.port,
        db=_database(connection),
        username=connection.login or None,
        password=connection.password or None,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=None,  # each batch has one
        retry=Retry(NoBackoff(), 0),  # deliveries are retried by waitd
        protocol=2,
        client_name="waitd",
    )
    return Redis.from_pool(pool)


def _database(connection: Connection) -> int:
    number = str(connection.extra.get("db") or 0)
    if not (number.isascii() and number.isdecimal()):
        raise InvalidConnection(f"db in the extra of the connection {connection.conn_id} is not a number")
    return int(number)


#: Messages by the first word of Redis's error.
_ERROR_CODES = {
    "WRONGTYPE": "the key of the stream holds a value of another type",
    "READONLY": "this Redis is a read-only replica",
    "LOADING": "Redis is still loading its data",
    "MISCONF": "Redis cannot write to its disk and accepts no writes",
    "NOPERM": "this login may not add to the stream",
    "NOAUTH": "Redis requires a login; set login or password in the connection",
    "WRONGPASS": "Redis does not accept the connection's login and password",
    "CLUSTERDOWN": "the Redis cluster is down",
    "MOVED": "this Redis node does not hold the stream: the sink does not follow cluster redirects",
}
