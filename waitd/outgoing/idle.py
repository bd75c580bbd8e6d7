"""A bound on a daemon's idle connections: on their number, and on the memory that they take."""

import heapq
from collections.abc import Iterator
from operator import attrgetter
from typing import Protocol

MAX_CONNECTIONS = 2048
MAX_MEMORY = 128 * 1024 * 1024
#: What an idle connection takes, in bytes (measured with OpenSSL 3.0 and uvloop 0.22).
_PLAIN_BYTES, _TLS_BYTES = 17 * 1024, 45 * 1024
#: A trim looks at all connections, so it closes this share of them.
_TRIMMED = 1 / 16


class IdleConnection(Protocol):
    """An idle connection; `idle_since` is in the loop's time."""

    idle_since: float

    def close_idle(self, *, abort: bool) -> None:
        """Closes it; with `abort` at once, without waiting for the server."""


class IdleOwner(Protocol):
    """A pool that keeps idle connections."""

    def idle_connections(self) -> Iterator[IdleConnection]:
        """Its idle connections."""


class IdleConnections:
    """Counts the connections of all pools, and closes the least recently used of the idle ones.

    Attributes:
        exceeded: whether to call `trim` as soon as a connection is idle.
        max_connections: the most connections.
    """

    def __init__(self, max_connections: int = MAX_CONNECTIONS, max_memory: int = MAX_MEMORY) -> None:
        """Sets the limits; `max_memory` is in bytes."""
        self.exceeded, self.max_connections = False, max_connections
        self._used, self._max_memory = 0, max_memory
        # One number bounds both: a connection counts as at least its part of the memory.
        self._least = max_memory // max_connections if max_connections else max_memory + 1
        self._owners: set[IdleOwner] = set()

    def share(self, *, tls: bool) -> int:
        """How many bytes a connection counts as."""
        return max(self._least, _TLS_BYTES if tls else _PLAIN_BYTES)

    def add(self, share: int) -> None:
        """Counts a connection that opens, or with a negative share, one that closes.

        Those in use count as well: they will be idle, and so no poke has to count.
        """
        self._used += share
        self.exceeded = self._used > self._max_memory

    def add_owner(self, owner: IdleOwner) -> None:
        """Registers a pool."""
        self._owners.add(owner)

    def remove_owner(self, owner: IdleOwner) -> None:
        """Forgets a pool that is closed."""
        self._owners.discard(owner)

    def trim(self, *, abort: bool = False) -> bool:
        """Closes the least recently used connections; False if none is idle."""
        idle = [each for owner in self._owners for each in owner.idle_connections()]
        for each in heapq.nsmallest(max(1, int(len(idle) * _TRIMMED)), idle, key=attrgetter("idle_since")):
            each.close_idle(abort=abort)
        return bool(idle)
