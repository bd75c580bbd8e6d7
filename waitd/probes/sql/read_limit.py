"""A bound on what one look reads of a database: a driver reads a row whole, however large a cell is, before anybody can measure it.

So the bytes are counted below the driver, between it and the socket, and a connection that brings too many is cut off.
"""

import asyncio
from typing import Any

#: The most that one look reads, in bytes; what conditions may see of it is much less.
MAX_READ = 4 * 1024 * 1024


class ByteLimitedProtocol(asyncio.Protocol):
    """A driver's protocol, as long as it does not get more than it may."""

    def __init__(self, transport: asyncio.Transport, driver: asyncio.Protocol) -> None:
        self._transport = transport
        self._driver = driver
        self._left = MAX_READ
        # What asyncio asks of a protocol besides: the driver's own answers.
        self.pause_writing = driver.pause_writing  # type: ignore[method-assign]
        self.resume_writing = driver.resume_writing  # type: ignore[method-assign]
        self.eof_received = driver.eof_received  # type: ignore[method-assign]
        self.connection_lost = driver.connection_lost  # type: ignore[method-assign]

    @property
    def spent(self) -> bool:
        """Whether the connection was cut off."""
        return self._left < 0

    def begin(self) -> None:
        """Another look."""
        self._left = MAX_READ

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._left -= len(data)
        if self._left < 0:
            self._transport.abort()
        else:
            self._driver.data_received(data)


def limit_reads(connection: Any) -> ByteLimitedProtocol | None:
    """The bound of a connection of asyncpg or aiomysql, at its beginning; None for a file, which has its own."""
    transport = getattr(connection, "_transport", None)
    if transport is None:
        transport = getattr(getattr(connection, "_writer", None), "transport", None)
    if transport is None:
        return None
    protocol = transport.get_protocol()
    if not isinstance(protocol, ByteLimitedProtocol):
        protocol = ByteLimitedProtocol(transport, protocol)
        transport.set_protocol(protocol)
    protocol.begin()
    return protocol
