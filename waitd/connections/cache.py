"""The cache in front of the resolvers: asked in order, at most one look-up at a time for a conn_id, stale rather than nothing."""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

from waitd.core.connections.connection import Connection, is_conn_id
from waitd.core.errors import ConnectionUnavailable, UnknownConnection
from waitd.metrics import Instruments

#: Seconds between two look-ups that `refreshed` makes for one connection.
REFRESH_INTERVAL = 30.0
#: Seconds for which a connection that could not be looked up anew is used on before the next try.
STALE_PAUSE = 5.0
#: How many connections are kept; the one that has been there longest gives way.
MAX_CONNECTIONS = 10_000


class Resolver(Protocol):
    """One place where connections are kept."""

    @property
    def backend(self) -> str:
        """Its name in metrics."""

    async def lookup(self, conn_id: str) -> Connection:
        """The connection, asked for anew.

        Raises:
            UnknownConnection: it has none of this name.
            ConnectionUnavailable: it cannot say.
        """


Answer = Connection | UnknownConnection | ConnectionUnavailable


@dataclass(frozen=True, slots=True)
class _Entry:
    connection: Connection
    fresh_until: float
    #: When `refreshed` last looked it up.
    refreshed_at: float = -inf
    #: Why the last look-up brought nothing new.
    error: ConnectionUnavailable | None = None


class CachedConnections:
    """The `Connections` port over resolvers; secrets are held in memory only.

    A resolver that cannot say ends the look-up, it is not skipped: what a later one knows under the same name may be another account.
    `now` is a monotonic clock in seconds, `ttl` how long a connection is used before it is looked up anew.
    """

    def __init__(
        self, resolvers: Sequence[Resolver], *, ttl: float, now: Callable[[], float], instruments: Instruments
    ) -> None:
        self._resolvers = tuple(resolvers)
        self._ttl = ttl
        self._now = now
        self._lookups = instruments.secret_lookups
        self._entries: dict[str, _Entry] = {}
        self._flights: dict[str, asyncio.Future[Answer | None]] = {}

    def cached_any(self, conn_id: str) -> Connection | None:
        """What the cache holds now, fresh or stale, without asking anybody."""
        entry = self._entries.get(conn_id)
        return entry.connection if entry else None

    def cached_fresh(self, conn_id: str) -> Connection | None:
        """What `get` would answer from the cache; None where it would have to ask."""
        entry = self._entries.get(conn_id)
        return entry.connection if entry is not None and self._now() < entry.fresh_until else None

    async def get(self, conn_id: str) -> Connection:
        """The connection from the cache, else looked up; the stale one where no resolver can say.

        Raises:
            UnknownConnection: every resolver answered, none knows it.
            ConnectionUnavailable: a resolver is down, and nothing is in the cache.
        """
        known = self.cached_fresh(conn_id)
        if known is not None:
            return known
        answer = await self._looked_up(conn_id)
        entry = self._entries.get(conn_id)
        if isinstance(answer, ConnectionUnavailable) and entry is not None:
            self._lookups.labels("cache", "stale").inc()
            return entry.connection
        return _or_raise(answer)

    async def refreshed(self, conn_id: str) -> Connection:
        """The connection looked up anew, but for at most one look-up in 30 s; in between, what that look-up brought.

        Raises:
            UnknownConnection: every resolver answered, none knows it (any more).
            ConnectionUnavailable: a resolver is down, so nobody can say whether the cached credentials still hold.
        """
        entry = self._entries.get(conn_id)
        in_flight = conn_id in self._flights
        if entry is not None and not in_flight and self._now() - entry.refreshed_at < REFRESH_INTERVAL:
            return _or_raise(entry.error or entry.connection)
        answer = await self._looked_up(conn_id)
        entry = self._entries.get(conn_id)
        if entry is not None:
            self._entries[conn_id] = replace(entry, refreshed_at=self._now())
        return _or_raise(answer)

    async def _looked_up(self, conn_id: str) -> Answer:
        """One look-up, shared by all who ask meanwhile; if the one who makes it is cancelled, another takes over."""
        while (flight := self._flights.get(conn_id)) is not None:
            shared = await asyncio.shield(flight)
            if shared is not None:
                return shared
        flight = self._flights[conn_id] = asyncio.get_running_loop().create_future()
        answer: Answer | None = None
        try:
            answer = await self._ask(conn_id)
            self._keep(conn_id, answer)
        finally:
            del self._flights[conn_id]
            flight.set_result(answer)
        return answer

    async def _ask(self, conn_id: str) -> Answer:
        if is_conn_id(conn_id):
            for resolver in self._resolvers:
                try:
                    connection = await resolver.lookup(conn_id)
                except UnknownConnection:
                    self._lookups.labels(resolver.backend, "unknown").inc()
                except ConnectionUnavailable as error:
                    self._lookups.labels(resolver.backend, "unavailable").inc()
                    return error
                else:
                    self._lookups.labels(resolver.backend, "found").inc()
                    return connection
        return UnknownConnection(f"there is no connection {conn_id!r}")

    def _keep(self, conn_id: str, answer: Answer) -> None:
        entry = self._entries.get(conn_id)
        if isinstance(answer, UnknownConnection):
            self._entries.pop(conn_id, None)
        elif isinstance(answer, Connection):
            refreshed_at = entry.refreshed_at if entry else -inf
            self._entries[conn_id] = _Entry(answer, self._now() + self._ttl, refreshed_at)
            if len(self._entries) > MAX_CONNECTIONS:
                del self._entries[next(iter(self._entries))]
        elif entry is not None:
            self._entries[conn_id] = replace(entry, fresh_until=self._now() + STALE_PAUSE, error=answer)


def _or_raise(answer: Answer) -> Connection:
    if isinstance(answer, Connection):
        return answer
    raise type(answer)(
        *answer.args
    )  # a fresh copy: raised in many tasks, one exception would gather the traceback of each
