"""The cache in front of the resolvers.

Resolvers are tried in order, with at most one lookup in flight per conn_id. A stale connection is
used while no resolver can answer.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from typing import Protocol

import structlog

from waitd.core.bounded_dict import BoundedDict
from waitd.core.connections.connection import Connection, is_conn_id
from waitd.core.connections.extras import ignored_extras, rules_of
from waitd.core.errors import ConnectionUnavailable, UnknownConnection, copy_error
from waitd.metrics import Instruments

log = structlog.get_logger(__name__)

#: Seconds between two lookups by `refresh` for one connection.
REFRESH_INTERVAL = 30.0
#: Seconds for which a stale connection is used after a failed lookup, before the next one.
STALE_PAUSE = 5.0
#: How many connections are cached; the oldest is dropped first.
MAX_CONNECTIONS = 10_000


class Resolver(Protocol):
    """A backend that stores connections."""

    @property
    def backend(self) -> str:
        """Its name in metrics."""

    async def lookup(self, conn_id: str) -> Connection:
        """The connection, read from the backend each time.

        Raises:
            UnknownConnection: the backend has no such connection.
            ConnectionUnavailable: the backend cannot be reached, or the entry cannot be parsed.
        """


LookupResult = Connection | UnknownConnection | ConnectionUnavailable


@dataclass(frozen=True, slots=True)
class _CachedConnection:
    connection: Connection
    fresh_until: float
    #: When `refresh` last looked it up.
    refreshed_at: float = -inf
    #: Why the last lookup failed.
    error: ConnectionUnavailable | None = None


class CachedConnections:
    """The `Connections` port over resolvers. Secrets are held in memory only.

    An unavailable resolver ends the lookup instead of being skipped: a later resolver may know a
    different account under the same conn_id.
    """

    def __init__(
        self, resolvers: Sequence[Resolver], *, ttl: float, now: Callable[[], float], instruments: Instruments
    ) -> None:
        """`ttl` is the seconds until a connection is looked up again; `now` a monotonic clock."""
        self._resolvers = tuple(resolvers)
        self._ttl = ttl
        self._now = now
        self._lookups = instruments.secret_lookups
        self._cache: BoundedDict[str, _CachedConnection] = BoundedDict(MAX_CONNECTIONS)
        self._in_flight: dict[str, asyncio.Future[LookupResult | None]] = {}

    def cached_any(self, conn_id: str) -> Connection | None:
        """The cached connection, fresh or stale, without a lookup."""
        cached = self._cache.get(conn_id)
        return cached.connection if cached else None

    def cached_fresh(self, conn_id: str) -> Connection | None:
        """The cached connection that `get` would return without a lookup, or None."""
        cached = self._cache.get(conn_id)
        return cached.connection if cached is not None and self._now() < cached.fresh_until else None

    @property
    def warnings(self) -> Sequence[str]:
        """What to mend although connections are found, in words without secrets."""
        return [trouble for each in self._resolvers if (trouble := getattr(each, "trouble", ""))]

    async def get(self, conn_id: str) -> Connection:
        """The connection, looked up unless the cache is fresh; stale where no resolver can answer.

        Raises:
            UnknownConnection: every resolver answered, and none has it.
            ConnectionUnavailable: a resolver is down, and nothing is cached.
        """
        fresh = self.cached_fresh(conn_id)
        if fresh is not None:
            return fresh
        result = await self._lookup(conn_id)
        cached = self._cache.get(conn_id)
        if isinstance(result, ConnectionUnavailable) and cached is not None:
            self._lookups.labels("cache", "stale").inc()
            return cached.connection
        return _unwrap(result)

    async def refresh(self, conn_id: str) -> Connection:
        """The connection, looked up now, or the result of a `refresh` within the last 30 s.

        Raises:
            UnknownConnection: every resolver answered, and none has it (any more).
            ConnectionUnavailable: a resolver is down, so the cached credentials may be outdated.
        """
        cached = self._cache.get(conn_id)
        in_flight = conn_id in self._in_flight
        if cached is not None and not in_flight and self._now() - cached.refreshed_at < REFRESH_INTERVAL:
            return _unwrap(cached.error or cached.connection)
        result = await self._lookup(conn_id)
        cached = self._cache.get(conn_id)
        if cached is not None:
            self._cache[conn_id] = replace(cached, refreshed_at=self._now())
        return _unwrap(result)

    async def _lookup(self, conn_id: str) -> LookupResult:
        """One lookup for concurrent callers; if its caller is cancelled, another takes over."""
        while (flight := self._in_flight.get(conn_id)) is not None:
            shared = await asyncio.shield(flight)
            if shared is not None:
                return shared
        flight = self._in_flight[conn_id] = asyncio.get_running_loop().create_future()
        result: LookupResult | None = None
        try:
            _, result = await self.locate(conn_id)
            self._store(conn_id, result)
        finally:
            del self._in_flight[conn_id]
            flight.set_result(result)
        return result

    async def locate(self, conn_id: str) -> tuple[str, LookupResult]:
        """What the resolvers answer now, past the cache, and the name of the one that decides."""
        if is_conn_id(conn_id):
            for resolver in self._resolvers:
                try:
                    connection = await resolver.lookup(conn_id)
                except UnknownConnection:
                    self._lookups.labels(resolver.backend, "unknown").inc()
                except ConnectionUnavailable as error:
                    self._lookups.labels(resolver.backend, "unavailable").inc()
                    return resolver.backend, error
                else:
                    self._lookups.labels(resolver.backend, "found").inc()
                    return resolver.backend, connection
        return "", UnknownConnection(f"there is no connection {conn_id!r}")

    def _store(self, conn_id: str, result: LookupResult) -> None:
        cached = self._cache.get(conn_id)
        if isinstance(result, UnknownConnection):
            self._cache.pop(conn_id, None)
        elif isinstance(result, Connection):
            if cached is None or cached.connection.extra != result.extra:
                _log_ignored_extras(result)
            refreshed_at = cached.refreshed_at if cached else -inf
            self._cache[conn_id] = _CachedConnection(result, self._now() + self._ttl, refreshed_at)
        elif cached is not None:
            self._cache[conn_id] = replace(cached, fresh_until=self._now() + STALE_PAUSE, error=result)


def _log_ignored_extras(connection: Connection) -> None:
    """Logs them once for each version of a connection.

    Names that no hook reads are only counted: in a broken URI, they may be pieces of a secret.
    """
    if ignored := ignored_extras(connection):
        others = rules_of(connection).others
        extras = {name: why for name, why in ignored.items() if why != others}
        log.warning(
            "connection_extras_ignored",
            conn_id=connection.conn_id,
            extras=extras,
            unknown=len(ignored) - len(extras),
        )


def _unwrap(result: LookupResult) -> Connection:
    if isinstance(result, Connection):
        return result
    raise copy_error(result)
