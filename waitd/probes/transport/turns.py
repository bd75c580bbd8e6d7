"""What all connections share in one turn of the event loop: their writes, and the time to parse."""

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Protocol
from weakref import WeakKeyDictionary

#: How long one turn of the event loop parses what has arrived on all connections, in seconds. What
#: has begun is completed: a piece of one connection.
_TURN_SECONDS = 0.002


class Writer(Protocol):
    """A connection."""

    def write(self, request: bytes) -> None:
        """Writes a request."""


class WriteCoalescer:
    """Writes all requests of one turn of the event loop together at its end.

    A write wakes the server's core. When that is another core of this machine, waking it costs more
    than the rest of a poke; writes that follow at once find it awake.

    Attributes:
        parsing: the turns in which the connections parse.
    """

    def __init__(self) -> None:
        """Call it in the running loop."""
        self.loop = asyncio.get_running_loop()
        self._pending: list[tuple[Writer, bytes]] = []
        self.parsing = parsing_turns()

    def add(self, connection: Writer, request: bytes) -> None:
        """Schedules a request to be written at the end of this turn."""
        if not self._pending:
            self.loop.call_soon(self._write_all)
        self._pending.append((connection, request))

    def _write_all(self) -> None:
        pending, self._pending = self._pending, []
        for connection, request in pending:
            connection.write(request)


class ParsingTurns:
    """Shares the time for parsing in a turn of the event loop among all connections.

    What a turn has no time for is parsed in later turns, in the order in which it came.
    """

    def __init__(self) -> None:
        """Use `parsing_turns`, so that a loop has only one."""
        self._waiting: deque[Callable[[], None]] = deque()
        #: Until when this turn parses; None if it has parsed nothing yet.
        self._until: float | None = None
        self._scheduled = False

    def has_time(self) -> bool:
        """Whether this turn still has time to parse. It has for the first piece, however late."""
        if self._until is None:
            self._until = monotonic() + _TURN_SECONDS
            self._schedule()
            return True
        return monotonic() < self._until

    def add(self, receive: Callable[[], None]) -> None:
        """Calls `receive` in a later turn, after `has_time` has said no."""
        self._waiting.append(receive)

    def _schedule(self) -> None:
        if not self._scheduled:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._begin)

    def _begin(self) -> None:
        self._scheduled, self._until = False, None
        if self._waiting:
            self._schedule()  # first, so that the others get their turn after an error
        while self._waiting and not self._is_over():
            self._waiting.popleft()()

    def _is_over(self) -> bool:
        return self._until is not None and monotonic() >= self._until


# The turns may not refer to their loop: it would never be released.
_TURNS: WeakKeyDictionary[asyncio.AbstractEventLoop, ParsingTurns] = WeakKeyDictionary()


def parsing_turns() -> ParsingTurns:
    """Returns the turns of the running loop."""
    return _TURNS.setdefault(asyncio.get_running_loop(), ParsingTurns())
