"""The redis sink: XADD to a stream. The entry's id, answered by Redis, is a delivery.

An entry has the fields `event` (the event's bytes), `content_type` and `delivery_id`. Redis makes a stream that is not there yet and
knows no duplicates: whoever reads the stream tells them by the event's id. Nothing is given up at once: an event over `proto-max-bulk-len`
(no event is as large as its least value) makes Redis hang up in the middle, which cannot be told from any other lost connection.
"""

import asyncio
from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

from pydantic import Field

from waitd.core.connections.connection import Connection
from waitd.core.waits.delivery import Delivered, DeliveryFailed, Receipt
from waitd.core.waits.event import EVENT_CONTENT_TYPE
from waitd.models import Strict, parsed
from waitd.ports import OutboxItem
from waitd.sinks.brokers.broker import (
    Address,
    BrokerSink,
    ConnId,
    Misconfigured,
    Sentences,
    is_true,
    refused,
    tls_of,
)

if TYPE_CHECKING:
    from redis.asyncio import Redis

DEFAULT_PORT = 6379
#: Seconds that connecting may take.
CONNECT_TIMEOUT = 10.0
#: Seconds that one batch may take; less than an attempt, so that it can say what was wrong.
BATCH_TIMEOUT = 10.0
#: How many entries go together at most.
BATCH = 128
#: The extras of Airflow's Redis connection that go to the client as they are.
_TLS_EXTRAS = ("ssl_cert_reqs", "ssl_ca_certs", "ssl_keyfile", "ssl_certfile")


class RedisParams(Strict):
    """The parameters of a Redis stream."""

    conn_id: ConnId
    stream: Annotated[str, Field(min_length=1, max_length=512)] = Field(description="The stream's key.")
    maxlen: Annotated[int, Field(ge=1)] | None = Field(
        default=None, description="About how many entries the stream keeps (MAXLEN ~)."
    )


@dataclass(frozen=True, slots=True)
class RedisTarget:
    """Parsed parameters."""

    conn_id: str
    stream: str
    maxlen: int | None
    destination: str


class RedisSink(BrokerSink[RedisTarget, "Batches"]):
    """Adds events to streams. The connection is Airflow's `redis`: host, port, login, password, extra `db`, `ssl` and `ssl_*`."""

    #: What the API's document shows of its parameters.
    params_model = RedisParams

    kind = "redis"
    library = "redis"
    broker = "Redis"

    def _target(self, params: Mapping[str, Any]) -> RedisTarget:
        given = parsed(RedisParams, dict(params))
        return RedisTarget(given.conn_id, given.stream, given.maxlen, f"redis {given.conn_id}")

    async def _open(self, connection: Connection, target: RedisTarget) -> "Batches":  # noqa: ARG002 - one client for all streams
        address = self._address(connection, DEFAULT_PORT)
        return Batches(await asyncio.to_thread(_client, connection, address))

    async def _close(self, client: "Batches") -> None:
        await client.aclose()

    async def _send(self, client: "Batches", target: RedisTarget, parcel: OutboxItem) -> Receipt:
        fields = {"event": parcel.event, "content_type": EVENT_CONTENT_TYPE, "delivery_id": parcel.id}
        entry = await client.add(target.stream, fields, target.maxlen)
        return Delivered() if entry else DeliveryFailed("Redis did not say under which id it keeps the event")

    def _explained(self, error: Exception, target: RedisTarget, parcel: OutboxItem) -> Receipt:  # noqa: ARG002 - the base's shape
        from redis import exceptions

        if isinstance(error, exceptions.ResponseError):
            code = str(error).partition(" ")[0]
            if code in _REFUSALS:
                return DeliveryFailed(_REFUSALS[code])
        return refused(error, _sentences(), self.broker)


class _Entry(NamedTuple):
    stream: str
    fields: dict[Any, Any]
    maxlen: int | None
    answer: "asyncio.Future[Any]"


class Batches:
    """One connection. What is to be added while a batch is on its way goes with the next one, which costs half of going alone.

    A batch is sent by a task of its own: whoever is cancelled only does not wait for it any more.
    """

    def __init__(self, client: "Redis") -> None:
        self._client = client
        self._waiting: deque[_Entry] = deque()
        self._sending: asyncio.Task[None] | None = None

    async def add(self, stream: str, fields: dict[Any, Any], maxlen: int | None) -> Any:
        """XADD; the id of the entry.

        Raises:
            Exception: the library's own, or `TimeoutError`.
        """
        entry = _Entry(stream, fields, maxlen, asyncio.get_running_loop().create_future())
        self._waiting.append(entry)
        if self._sending is None:
            self._sending = asyncio.create_task(self._send_all(), name="redis batches")
        return await entry.answer

    async def aclose(self) -> None:
        """Disconnects; whoever waits is told."""
        if self._sending is not None:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        await self._client.aclose()

    async def _send_all(self) -> None:
        batch: list[_Entry] = []
        try:
            while self._waiting:
                batch = [self._waiting.popleft() for _ in range(min(BATCH, len(self._waiting)))]
                batch = [entry for entry in batch if not entry.answer.done()]
                for entry, answer in zip(batch, await self._answers(batch), strict=True):
                    if entry.answer.done():
                        continue
                    if isinstance(answer, Exception):
                        entry.answer.set_exception(answer)
                    else:
                        entry.answer.set_result(answer)
        finally:
            self._sending = None
            for entry in (*batch, *self._waiting):
                entry.answer.cancel()  # no effect on one that is answered

    async def _answers(self, batch: Sequence[_Entry]) -> Sequence[Any]:
        pipeline = self._client.pipeline(transaction=False)
        for entry in batch:
            pipeline.xadd(entry.stream, entry.fields, maxlen=entry.maxlen, approximate=True)
        try:
            async with asyncio.timeout(BATCH_TIMEOUT):
                return await pipeline.execute(raise_on_error=False)
        except Exception as error:  # noqa: BLE001 - each of the batch hears of it
            return [error] * len(batch)


def _client(connection: Connection, address: Address) -> "Redis":
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    extra = connection.extra
    tls: dict[str, Any] = {}
    if (
        tls_of(connection) is not None
    ):  # the library reads the files again, when it connects; here it is said which trouble they make
        tls = {name: extra[name] for name in _TLS_EXTRAS if extra.get(name)}
        tls |= {"ssl": True, "ssl_check_hostname": is_true(extra.get("ssl_check_hostname", True))}
        if not connection.verifies_tls():
            tls |= {"ssl_cert_reqs": "none", "ssl_check_hostname": False}
    return Redis(
        host=address.host,
        port=address.port,
        db=_database(connection),
        username=connection.login or None,
        password=connection.password or None,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=None,  # a batch has one
        retry=Retry(NoBackoff(), 0),  # the deliverer retries
        protocol=2,
        client_name="waitd",
        **tls,
    )


def _database(connection: Connection) -> int:
    number = str(connection.extra.get("db") or 0)
    if not (number.isascii() and number.isdecimal()):
        raise Misconfigured(f"db in the extra of the connection {connection.conn_id} is no number")
    return int(number)


#: What Redis answers by its first word.
_REFUSALS = {
    "WRONGTYPE": "the key of the stream holds something else than a stream",
    "READONLY": "this Redis is a read-only replica",
    "LOADING": "Redis is still loading its data",
    "MISCONF": "Redis cannot save to its disk and takes no writes",
    "NOPERM": "this login may not add to the stream",
    "NOAUTH": "Redis wants a login",
    "WRONGPASS": "Redis does not accept the connection's login and password",
    "CLUSTERDOWN": "the Redis cluster is down",
    "MOVED": "this Redis is one node of a cluster that keeps the stream elsewhere",
}


def _sentences() -> Sentences:
    from redis import exceptions

    return (
        (exceptions.AuthenticationError, "Redis does not accept the connection's login and password"),
        (exceptions.NoPermissionError, _REFUSALS["NOPERM"]),
        (exceptions.ReadOnlyError, _REFUSALS["READONLY"]),
        (exceptions.BusyLoadingError, _REFUSALS["LOADING"]),
        (exceptions.OutOfMemoryError, "Redis is out of memory"),
        (exceptions.ResponseError, "Redis refused the event"),
        (exceptions.TimeoutError, "Redis did not answer in time"),
        (
            (exceptions.ConnectionError, OSError),
            "no connection to Redis, or it broke before Redis had answered",
        ),
    )
