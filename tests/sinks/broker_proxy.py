"""A TCP proxy between a sink and its broker, which can be down, hang, or cut a connection just before an answer gets through."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`. `rewrite` changes what the broker sends, length unchanged."""

    def __init__(self, target: int) -> None:
        self.target = target
        self.port = 0
        self.rewrite: Callable[[bytes], bytes] = lambda data: data
        self.accepted = 0
        self.open: set[asyncio.StreamWriter] = set()
        self.cuts = 0
        self._cut = 0
        self._flowing = asyncio.Event()
        self._flowing.set()
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    async def up(self) -> None:
        """Accepts connections, at the same port as before."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Resets what is open and accepts nothing: a broker that was killed."""
        if self._server is not None:
            self._server.close()
            self._server = None
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
        """The next thing the broker says does not get through: its connection is reset instead."""
        self._cut = 1

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.accepted += 1
        self.open.add(writer)
        broker: asyncio.StreamWriter | None = None
        try:
            answers, broker = await asyncio.open_connection("127.0.0.1", self.target)
            ways = [
                asyncio.ensure_future(self._copy(reader, broker)),
                asyncio.ensure_future(self._copy(answers, writer, True)),
            ]
            try:
                await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            finally:
                for way in ways:
                    way.cancel()
                await asyncio.wait(ways)
        except (OSError, asyncio.CancelledError):
            pass
        finally:
            self.open.discard(writer)
            for end in (writer, broker):
                if end is not None:
                    reset(end)
            self._tasks.discard(task)

    async def _copy(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, answers: bool = False
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(65536):
                await self._flowing.wait()
                if answers and self._cut:
                    self._cut = 0
                    self.cuts += 1
                    return
                writer.write(self.rewrite(data) if answers else data)
                await writer.drain()


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends the connection with a RST."""
    raw = writer.get_extra_info("socket")
    with suppress(OSError):
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def proxied(target: int) -> AsyncIterator[Proxy]:
    proxy = Proxy(target)
    await proxy.up()
    try:
        yield proxy
    finally:
        await proxy.down()
