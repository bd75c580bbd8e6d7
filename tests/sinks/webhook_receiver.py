"""A webhook receiver on a real socket that answers with given bytes."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from stream_server import stream_server

Answer = Callable[[asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Request:
    """A received request; header names are in lower case."""

    line: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """The received `requests`, the number of `connections`, and the `answer` to each request.

    The answer is 200 OK until a test sets another.
    """

    port: int = 0
    answer: Answer = field(init=False)
    requests: list[Request] = field(default_factory=list)
    connections: int = 0
    closed: asyncio.Event = field(default_factory=asyncio.Event)

    def __post_init__(self) -> None:
        self.answers("200 OK")

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def answers(self, status: str, *headers: str, body: bytes = b"") -> None:
        """Answers with a complete message."""
        lines = [f"HTTP/1.1 {status}", *headers, f"Content-Length: {len(body)}", "", ""]
        self.sends("\r\n".join(lines).encode() + body)

    def sends(self, data: bytes) -> None:
        """Answers with these bytes and leaves the connection open."""

        async def send(writer: asyncio.StreamWriter) -> None:
            writer.write(data)
            await writer.drain()

        self.answer = send

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                line, *fields = head.strip().split("\r\n")
                headers = {
                    name.lower(): value.strip() for name, _, value in (f.partition(":") for f in fields)
                }
                body = await reader.readexactly(int(headers.get("content-length", 0)))
                self.requests.append(Request(line, headers, body))
                await self.answer(writer)
        except (asyncio.IncompleteReadError, OSError):
            pass
        finally:
            writer.close()
            self.closed.set()


def reset(writer: asyncio.StreamWriter) -> None:
    """Resets the connection."""
    raw = writer.get_extra_info("socket")
    raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


@asynccontextmanager
async def receiving() -> AsyncIterator[Receiver]:
    receiver = Receiver()
    async with stream_server(receiver.serve) as receiver.port:
        yield receiver
