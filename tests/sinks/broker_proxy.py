"""A TCP proxy between a sink and its broker, which can be down, hang, speak TLS, or cut a connection just before an answer gets through."""

import asyncio
import socket
import ssl
import struct
from collections.abc import Awaitable, Callable
from contextlib import suppress
from enum import Enum
from typing import NamedTuple

from stream_server import accept_on, open_streams, start_serving


class Ends(NamedTuple):
    """The four ways of one connection."""

    requests: asyncio.StreamReader
    client: asyncio.StreamWriter
    answers: asyncio.StreamReader
    broker: asyncio.StreamWriter


class Cut(Enum):
    """When a connection is cut."""

    NOT = 0
    AFTER_AN_EVENT = 1
    NOW = 2


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`.

    `rewrite` changes what the broker sends, length unchanged; with `tls` it is the proxy that speaks TLS, for a broker that cannot; `door`
    speaks first, and lets in by returning True.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.rewrite: Callable[[bytes], bytes] = lambda data: data
        self.tls: ssl.SSLContext | None = None
        self.door: Callable[[Ends], Awaitable[bool]] | None = None
        self.accepted = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.cuts = 0
        self._cutting: Cut = Cut.NOT
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._listening: socket.socket | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def up(self) -> None:
        """Accepts connections, at the same port as before."""
        self._listening = socket.create_server(("127.0.0.1", self.port))
        self.port = self._listening.getsockname()[1]
        accept_on(self._listening, self._accept)

    async def down(self) -> None:
        """Resets what is open and accepts nothing: a broker that was killed."""
        if self._listening is not None:
            asyncio.get_running_loop().remove_reader(self._listening)
            self._listening.close()
            self._listening = None
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def hang(self) -> None:
        """Holds everything back, both ways, until `resume`."""
        self._flowing.clear()

    def resume(self) -> None:
        self._flowing.set()

    def cut_before_the_next_answer(self) -> None:
        """What the broker says once an event has got through does not: the connection is reset instead."""
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
            ends = Ends(requests, client, answers, broker)
            if (self.door is None or await self.door(ends)) and await self._forward(ends):
                for side in (client, broker):  # what is on its way arrives; a RST would overtake it
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

    async def _forward(self, ends: Ends) -> bool:
        """Until a side has said its last, which is True, or the connection broke."""
        ways = [
            asyncio.ensure_future(self._copy(ends.requests, ends.broker)),
            asyncio.ensure_future(self._copy(ends.answers, ends.client, True)),
        ]
        try:
            ended, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            return all(way.result() for way in ended)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.wait(ways)

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
    """Ends the connection with a RST."""
    raw = writer.get_extra_info("socket")
    with suppress(OSError, AttributeError):  # a TLS transport that is closed has none any more
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
