"""Limits what one query may read from a database connection.

A driver reads a row as a whole before anyone can measure it, however large a cell is. So bytes are
counted between the socket and the driver, and a connection that brings too many is aborted.
"""

import asyncio
from typing import Any

#: The most that one query reads, in bytes. Conditions see less of it; a driver decodes all of it in
#: the event loop, which takes up to 20 ms.
MAX_READ = 512 * 1024


class ByteLimitedProtocol(asyncio.Protocol):
    """Passes data on to a driver's protocol until the limit is reached."""

    def __init__(self, transport: asyncio.Transport, driver: asyncio.Protocol) -> None:
        self._transport = transport
        self._driver = driver
        self._left = MAX_READ
        # The other callbacks of a protocol go to the driver directly.
        self.pause_writing = driver.pause_writing  # type: ignore[method-assign]
        self.resume_writing = driver.resume_writing  # type: ignore[method-assign]
        self.eof_received = driver.eof_received  # type: ignore[method-assign]
        self.connection_lost = driver.connection_lost  # type: ignore[method-assign]

    @property
    def exceeded(self) -> bool:
        """Whether the limit was exceeded and the connection aborted."""
        return self._left < 0

    @property
    def received(self) -> int:
        """How many bytes the current query has read."""
        return MAX_READ - self._left

    def reset(self) -> None:
        """Restarts the count for the next query."""
        self._left = MAX_READ

    def data_received(self, data: bytes) -> None:
        """See `asyncio.Protocol`."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()
        else:
            self._driver.data_received(data)


def limit_reads(connection: Any) -> ByteLimitedProtocol | None:
    """Limits what the next query reads on a connection of asyncpg or aiomysql.

    None for SQLite, which has a limit of its own.
    """
    writer = getattr(connection, "_writer", None)
    transport = getattr(connection, "_transport", None) or getattr(writer, "transport", None)
    if transport is None:
        return None
    protocol = transport.get_protocol()
    if not isinstance(protocol, ByteLimitedProtocol):
        protocol = ByteLimitedProtocol(transport, protocol)
        transport.set_protocol(protocol)
    protocol.reset()
    return protocol
