"""A bare TCP connection, for requests that no HTTP client sends."""

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any


async def accepts_connections(port: int) -> bool:
    """Whether a server listens on a port of this machine."""
    try:
        async with open_connection(port):
            return True
    except OSError:
        return False


@asynccontextmanager
async def open_connection(
    port: int | None, **options: Any
) -> AsyncIterator[tuple[StreamReader, StreamWriter]]:
    """Connects to a port of this machine."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, **options)
    try:
        yield reader, writer
    finally:
        writer.close()
        with suppress(ConnectionError):
            await writer.wait_closed()
