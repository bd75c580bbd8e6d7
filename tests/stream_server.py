"""A stream server that closes every connection.

`asyncio.Server` leaks a connection when it is closed between accepting it and creating its
transport, and so does a handler that is cancelled before it started. Under load both happen, and a
later test fails with the warning.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def stream_server(
    handler: Handler, *, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None
) -> AsyncIterator[int]:
    """Serves on a free port and yields it. At the end, handlers are cancelled."""
    tasks: set[asyncio.Task[None]] = set()
    writers: list[asyncio.StreamWriter] = []

    async def serve(peer: socket.socket) -> None:
        writer = None
        try:
            reader, writer = await open_streams(peer, tls)
            writers.append(writer)
            await handler(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            if writer is None:
                peer.close()
            else:
                writer.close()

    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, 0), family=family) as listening:
        accept_on(listening, lambda peer: start_serving(tasks, serve(peer), peer))
        try:
            yield listening.getsockname()[1]
        finally:
            asyncio.get_running_loop().remove_reader(listening)
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)
            for writer in writers:
                writer.transport.abort()
            await asyncio.sleep(0)


def answering(answer: bytes) -> Handler:
    """Returns a handler that sends this answer to every request without a body."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await reader.readuntil(b"\r\n\r\n"):
            writer.write(answer)

    return serve


def reset(writer: asyncio.StreamWriter) -> None:
    """Resets a connection."""
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class ClosingServer:
    """Answers the first request of each connection, and closes when a second one comes."""

    def __init__(self, answer: bytes) -> None:
        self._answer = answer
        self.requests = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        self.requests += 1
        writer.write(self._answer)
        await reader.readuntil(b"\r\n\r\n")
        writer.close()


def accept_on(listening: socket.socket, on_accept: Callable[[socket.socket], None]) -> None:
    """Calls `on_accept` with each connection until the loop stops reading `listening`."""
    listening.setblocking(False)

    def accept() -> None:
        with suppress(BlockingIOError):
            peer, _ = listening.accept()
            peer.setblocking(False)
            on_accept(peer)

    asyncio.get_running_loop().add_reader(listening, accept)


def start_serving(
    tasks: set[asyncio.Task[None]], serving: Coroutine[Any, Any, None], peer: socket.socket
) -> None:
    """Starts a task for a connection.

    `serving` suppresses cancellation, so a task that reports it never started. Then the peer is
    closed.
    """
    task = asyncio.create_task(serving)
    tasks.add(task)

    def close_if_not_started(task: asyncio.Task[None]) -> None:
        tasks.discard(task)
        if task.cancelled():
            peer.close()

    task.add_done_callback(close_if_not_started)


async def open_streams(
    peer: socket.socket, tls: ssl.SSLContext | None
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """The streams of an accepted socket.

    Raises:
        OSError: the client refused the certificate.
    """
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader()
    protocol = asyncio.StreamReaderProtocol(reader)
    transport, _ = await loop.connect_accepted_socket(lambda: protocol, peer, ssl=tls)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)
