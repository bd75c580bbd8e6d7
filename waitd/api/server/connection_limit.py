"""The open connections of the API, bounded in number: whoever holds one without a request in hand makes room for those who come."""

from collections import OrderedDict
from collections.abc import Callable
from typing import Protocol

import structlog

from waitd.metrics import Instruments

log = structlog.get_logger(__name__)


class Closable(Protocol):
    """A connection, as far as it is counted here."""

    def abort(self) -> None:
        """Ends it at once, whatever is still to be sent."""


class ConnectionLimiter:
    """Knows every open connection, and since when each has had no request in hand.

    Without one it is idle, sends the head of a request, is told of a refusal, or reads its last answer: all of that may take only so
    long, and the one that has taken longest goes first when there are too many. A handler at work is never cut short for it.
    """

    def __init__(self, most: int, now: Callable[[], float], instruments: Instruments) -> None:
        """`most`: how many may be open; `now`: monotonic, seconds."""
        self.most = most
        self._now = now
        self._gauge = instruments.api_connections
        self._refused = instruments.requests_refused.labels("too-many-connections")
        self._open: set[Closable] = set()
        self._spare: OrderedDict[Closable, float] = OrderedDict()
        self._full = False

    def __len__(self) -> int:
        return len(self._open)

    def enter(self, connection: Closable) -> bool:
        """A connection comes; another may have to go for it. False: all are at work, so this one has to go."""
        if len(self._open) >= self.most and not self._make_room():
            return False
        self._open.add(connection)
        self._gauge.set(len(self._open))
        self._spare[connection] = self._now()
        return True

    def leave(self, connection: Closable) -> None:
        """A connection has gone."""
        self._open.discard(connection)
        self._spare.pop(connection, None)
        self._gauge.set(len(self._open))
        if len(self._open) < self.most // 2:
            self._full = False

    def busy(self, connection: Closable) -> None:
        """A handler begins to work for it."""
        self._spare.pop(connection, None)

    def spare(self, connection: Closable) -> None:
        """The handler is done; it may be that the connection has gone before."""
        if connection in self._open:
            self._spare[connection] = self._now()

    def close_older_than(self, seconds: float) -> None:
        """Ends what has had no request in hand for so long."""
        limit = self._now() - seconds
        while self._spare and next(iter(self._spare.values())) <= limit:
            self._end_oldest()

    def _make_room(self) -> bool:
        """Ends the one without a request for longest, if there is one."""
        self._refused.inc()
        if not self._full:
            self._full = True
            log.warning("too_many_connections", max_connections=self.most)
        if not self._spare:
            return False
        self._end_oldest()
        return True

    def _end_oldest(self) -> None:
        connection, _ = self._spare.popitem(last=False)
        self._open.discard(connection)
        connection.abort()
