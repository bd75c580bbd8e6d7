"""A TCP proxy between a sink and its broker, which injects faults.

It can be down, hang, terminate TLS, or cut a connection just before an answer.
"""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import NamedTuple

from stream_server import accept_on, open_streams, start_serving


class Streams(NamedTuple):
    """The four streams of one proxied connection."""

    requests: asyncio.StreamReader
    client: asyncio.StreamWriter
    answers: asyncio.StreamReader
    broker: asyncio.StreamWriter


class Cut(Enum):
    """When to cut a connection."""

    NOT = 0
    AFTER_AN_EVENT = 1
    NOW = 2


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`.

    `rewrite` changes the broker's data without changing its length. With `tls` the proxy terminates
    TLS. `handshake` runs before forwarding, which starts if it returns True.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.rewrite: Callable[[bytes], bytes] = lambda data: data
        self.tls: ssl.SSLContext | None = None
        self.handshake: Callable[[Streams], Awaitable[bool]] | None = None
        self.accepted = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.cuts = 0
        self._cutting: Cut = Cut.NOT
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._listening: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def up(self) -> None:
        """Accepts connections, at the same port each time."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        accept_on(self._listening, self._accept)

    async def down(self) -> None:
        """Resets open connections and accepts none, like a killed broker."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def hang(self) -> None:
        """Holds back all data in both directions until `resume`."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def cut_before_next_answer(self) -> None:
        """Resets the connection instead of forwarding the broker's answer to the next event."""
        self._cutting = Cut.AFTER_AN_EVENT

    def _accept(self, peer: socket.socket) -> None:
        self.accepted += 1
        start_serving(self._tasks, self._serve(peer), peer)

    async def _serve(self, peer: socket.socket) -> None:
        client: asyncio.StreamWriter | None = None
        broker: asyncio.StreamWriter | None = None
        try:
            requests, client = await open_streams(peer, self.tls)
            self.open.add(client)
            answers, broker = await asyncio.open_connection("127.0.0.1", self.target)
            streams = Streams(requests, client, answers, broker)
            if (self.handshake is None or await self.handshake(streams)) and await self._forward(streams):
                for side in (client, broker):  # data in flight arrives first; a RST would overtake it
                    side.close()
                    await side.wait_closed()
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            if client is None:
                peer.close()
            else:
                self.open.discard(client)
            for end in (client, broker):
                if end is not None:
                    reset(end)

    async def _forward(self, streams: Streams) -> bool:
        """Forwards until a side closes the connection (True) or it breaks (False)."""
        directions = [
            asyncio.ensure_future(self._copy(streams.requests, streams.broker)),
            asyncio.ensure_future(self._copy(streams.answers, streams.client, True)),
        ]
        try:
            done, _ = await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
            return all(task.result() for task in done)
        finally:
            for task in directions:
                task.cancel()
            await asyncio.wait(directions)

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool = False
    ) -> bool:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                if answers and self._cutting is Cut.NOW:
                    self._cutting = Cut.NOT
                    self.cuts += 1
                    return False
                if self._cutting is Cut.AFTER_AN_EVENT and b"specversion" in data and not answers:
                    self._cutting = Cut.NOW
                writer.write(self.rewrite(data) if answers else data)
                await writer.drain()
            return True
        return False


def reset(writer: asyncio.StreamWriter) -> None:
    """Resets the connection."""
    raw = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):  # a closed TLS transport has no socket
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
