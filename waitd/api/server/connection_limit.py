"""Bounds the number of open connections: at the limit, the longest-idle one is closed."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import structlog

from waitd.metrics import Instruments

log = structlog.get_logger(__name__)


class Abortable(Protocol):
    """A connection, as the limiter uses it."""

    def abort(self) -> None:
        """Closes the connection at once; data that is not sent yet is lost."""


class ConnectionLimiter:
    """Knows every open connection, and since when each is idle.

    A connection is idle while no handler works for it: it waits for a request, receives the head of
    one, or sends the last answer. Idle connections are closed after a while, or earlier to admit
    new ones. A connection whose handler is running is never closed for that.
    """

    def __init__(self, limit: int, now: Callable[[], float], instruments: Instruments) -> None:
        """`limit`: how many connections may be open; `now`: a monotonic clock, in seconds."""
        self.limit = limit
        self._now = now
        self._gauge = instruments.api_connections
        self._refused = instruments.requests_refused.labels("too-many-connections")
        self._open: set[Abortable] = set()
        self._idle_since: OrderedDict[Abortable, float] = OrderedDict()
        self._limit_logged = False

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: Abortable) -> bool:
        """Counts a new connection, and closes an idle one if the limit is reached.

        Returns:
            False if every connection is busy, so that the new one must be closed.
        """
        if len(self._open) >= self.limit and not self._make_room():
            return False
        self._open.add(connection)
        self._gauge.set(len(self._open))
        self._idle_since[connection] = self._now()
        return True

    def leave(self, connection: Abortable) -> None:
        """Forgets a connection that was closed."""
        self._open.discard(connection)
        self._idle_since.pop(connection, None)
        self._gauge.set(len(self._open))
        if len(self._open) < self.limit // 2:
            self._limit_logged = False

    def busy(self, connection: Abortable) -> None:
        """Notes that a handler starts to work for the connection."""
        self._idle_since.pop(connection, None)

    def idle(self, connection: Abortable) -> None:
        """Notes that the handler is done; the connection may be closed already."""
        if connection in self._open:
            self._idle_since[connection] = self._now()

    def close_older_than(self, seconds: float) -> None:
        """Closes the connections that have been idle for `seconds`."""
        limit = self._now() - seconds
        while self._idle_since and next(iter(self._idle_since.values())) <= limit:
            self._close_oldest()

    def _make_room(self) -> bool:
        """Closes the longest-idle connection; False if none is idle."""
        self._refused.inc()
        if not self._limit_logged:
            self._limit_logged = True
            log.warning("too_many_connections", max_connections=self.limit)
        if not self._idle_since:
            return False
        self._close_oldest()
        return True

    def _close_oldest(self) -> None:
        connection, _ = self._idle_since.popitem(last=False)
        self._open.discard(connection)
        connection.abort()
