"""A server that sends any bytes as its answers, and a probe that pokes it."""

import asyncio
import contextlib
import socket
import struct
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from fakes import FixedAuthorizations
from stream_server import stream_server

from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Verdict
from waitd.core.waits.wait import Progress
from waitd.ports import Pokeable, Probe, Target
from waitd.probes.http.probe import HttpProbe

#: What a script can do besides sending bytes.
CLOSE, RESET, HANG, ENDLESS = "close", "reset", "hang", "endless"
Script = Sequence[bytes | str]
#: A request for this path only opens a connection; the server does not record it.
WARM_UP = "/before/the/test"


@dataclass
class RawServer:
    """Answers the n-th request (from 1) with `script(head, n)`: bytes, and perhaps an end.

    Attributes:
        requests: the requests, each with its head and body as text.
        connections: how many connections were opened.
        sent: how many bytes were sent.
        origins: the origins of the servers that run now.
    """

    script: Callable[[str, int], Script]
    requests: list[str] = field(default_factory=list)
    connections: int = 0
    sent: int = 0
    port: int = 0
    origins: ClassVar[set[str]] = set()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def paths(self) -> list[str]:
        return [request.split(" ")[1] for request in self.requests]

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            while await self._answer(reader, writer):
                pass
        writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        length = [
            line.split(":")[1] for line in head.lower().splitlines() if line.startswith("content-length:")
        ]
        body = await reader.readexactly(int(length[0])) if length else b""
        if f" {WARM_UP} " in head:
            await self._send(writer, answer(204))
            return True
        self.requests.append(head + body.decode())
        for part in self.script(head, len(self.requests)):
            if isinstance(part, bytes):
                await self._send(writer, part)
            elif part == ENDLESS:
                while True:
                    await self._send(writer, b"10000\r\n" + b"x" * 65536 + b"\r\n")
            elif part == HANG:
                await reader.read()  # until the client closes the connection
            elif part == RESET:  # without lingering, the socket is closed with a RST
                connected = writer.get_extra_info("socket")
                connected.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        return isinstance(part, bytes)

    async def _send(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        writer.write(data)
        await writer.drain()
        self.sent += len(data)


@contextlib.asynccontextmanager
async def raw_server(script: Script | Callable[[str, int], Script]) -> AsyncIterator[RawServer]:
    """Runs a server on a free port. A script that is not callable answers every request."""
    server = RawServer(script if callable(script) else lambda _head, _n: script)
    async with stream_server(server.serve) as server.port:
        RawServer.origins.add(server.url)
        yield server
        RawServer.origins.discard(server.url)


def answer(status: int, body: bytes = b"", *headers: str, reason: str = "Any") -> bytes:
    """Returns a complete answer with its length."""
    lines = [f"HTTP/1.1 {status} {reason}", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


@dataclass
class ScriptedConnections(FixedAuthorizations):
    """Returns or raises one of `answers`; `refresh` moves on to the next, the last one stays."""

    answers: list[Connection | Exception]
    refreshes: int = 0

    @property
    def _current(self) -> Connection | Exception:
        return self.answers[min(self.refreshes, len(self.answers) - 1)]

    async def get(self, conn_id: str) -> Connection:
        if isinstance(self._current, Exception):
            raise self._current
        return self._current

    async def refresh(self, conn_id: str) -> Connection:
        self.refreshes += 1
        return await self.get(conn_id)

    def cached_fresh(self, conn_id: str) -> Connection | None:
        return self._current if Transport.warm and isinstance(self._current, Connection) else None

    def cached_any(self, conn_id: str) -> Connection | None:
        return None


@dataclass
class Poked:
    """A wait, as a probe sees it."""

    target: Target
    progress: Progress = field(default_factory=Progress)


class Transport:
    """How probes connect to servers; fixtures set it.

    Attributes:
        pooled: through the connection pool, else through an aiohttp session.
        warm: a poke starts with an idle connection to its `RawServer` and with cached connections.
        taskless: how many pokes started without a task.
    """

    pooled = True
    warm = False
    taskless = 0


@contextlib.asynccontextmanager
async def probe(
    *answers: Connection | Exception, now: Callable[[], float] = lambda: 0.0
) -> AsyncIterator[HttpProbe]:
    """Opens a probe with `ScriptedConnections`."""
    secret_headers = ("authorization", "cookie", "x-api-key", "*-token")
    connections = ScriptedConnections(list(answers))
    async with HttpProbe(
        connections, secret_headers=secret_headers, now=now, pooled=Transport.pooled
    ) as http:
        yield http


async def poke(http: HttpProbe, *waits: dict[str, Any]) -> Sequence[Verdict]:
    """Pokes once on behalf of waits with these parameters."""
    if Transport.warm:
        origin = "/".join(http.parse(waits[0], namespace="default").endpoint.split("/")[:3])
        if origin in RawServer.origins:
            await http.poke([Poked(http.parse({"endpoint": origin + WARM_UP}, namespace="default"))])
    return await poke_group(http, [Poked(http.parse(params, namespace="default")) for params in waits])


async def poke_group(probe: Probe, group: Sequence[Pokeable]) -> Sequence[Verdict]:
    """Pokes as the poker does."""
    results: list[Sequence[Verdict] | BaseException] = []
    ended = asyncio.Event()

    def on_verdicts(result: Sequence[Verdict] | BaseException) -> None:
        results.append(result)
        ended.set()

    tasks = asyncio.all_tasks()
    cancel = probe.start_poke(group, on_verdicts)
    Transport.taskless += asyncio.all_tasks() == tasks
    assert not results, "the callback must be called in a later turn of the loop"
    try:
        await ended.wait()
    except asyncio.CancelledError:
        cancel()
        await ended.wait()
        raise
    [result] = results
    if isinstance(result, BaseException):
        raise result
    return result
