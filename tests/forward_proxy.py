"""Forward proxies: Debian's tinyproxy, and a small one that fails as tests need it."""

import asyncio
import shutil
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Literal

from installation import require_apt_package
from open_connection import accepts_connections
from stream_server import reset, stream_server

from waitd.bench.children import check_running, child, free_port

LOGIN, PASSWORD = "waitd-user", "planted-pw"

#: How a proxy fails without an answer.
Failure = Literal["hang", "reset"]

_CONFIG = """Port {port}
Listen 127.0.0.1
Timeout 60
LogFile "{folder}/tinyproxy.log"
LogLevel Connect
MaxClients 1000
{more}
"""


class Tinyproxy:
    """A running tinyproxy; `lines` counts the requests that its log names."""

    def __init__(self, folder: Path, port: int) -> None:
        self.host = f"127.0.0.1:{port}"
        self.url = f"http://{self.host}"
        self.with_login = f"http://{LOGIN}:{PASSWORD}@{self.host}"
        self._log = folder / "tinyproxy.log"

    def count(self, request: str) -> int:
        """How many requests it got that start so, e.g. `CONNECT`."""
        return self._log.read_text().count(f": {request} ")


def _path() -> str | None:
    return shutil.which("tinyproxy", path="/usr/bin:/usr/local/bin")


@asynccontextmanager
async def tinyproxy(folder: Path, *, login: bool = False) -> AsyncIterator[Tinyproxy]:
    """Runs tinyproxy; with `login`, it needs `LOGIN` and `PASSWORD`."""
    require_apt_package("tinyproxy-bin", lambda: _path() is not None)
    port = free_port()
    more = f"BasicAuth {LOGIN} {PASSWORD}" if login else ""
    (folder / "tinyproxy.conf").write_text(_CONFIG.format(port=port, folder=folder, more=more))
    command = ["-d", "-c", str(folder / "tinyproxy.conf")]
    async with child(command, log=folder / "tinyproxy.out", python=[_path() or ""]) as process:
        while not await accepts_connections(port):
            check_running(process, folder / "tinyproxy.out")
            await asyncio.sleep(0.02)
        yield Tinyproxy(folder, port)


class SmallProxy:
    """A proxy that answers `answer` to each request, hangs, resets, or if None opens a tunnel.

    It stands for the failures of proxies, and for proxies of https, which tinyproxy is not.
    """

    def __init__(self, answer: bytes | Failure | None = None) -> None:
        self.answer = answer
        self.url = ""
        #: The heads that it got.
        self.heads: list[str] = []
        #: Rewrites the address that a tunnel leads to: proxies look names up themselves.
        self.resolve: Callable[[str], str] = lambda host: host

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        self.heads.append(head)
        if self.answer == "hang":
            await asyncio.Event().wait()
        if self.answer == "reset":
            reset(writer)
            return
        if isinstance(self.answer, bytes):
            writer.write(self.answer)
            writer.close()
            return
        host, _, port = head.split(" ")[1].rpartition(":")
        far_reader, far_writer = await asyncio.open_connection(self.resolve(host.strip("[]")), int(port))
        writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
        try:
            await asyncio.gather(_copy(reader, far_writer), _copy(far_reader, writer))
        finally:
            far_writer.transport.abort()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)
        await writer.drain()
    writer.close()


@asynccontextmanager
async def small_proxy(
    answer: bytes | Failure | None = None, *, tls: ssl.SSLContext | None = None
) -> AsyncIterator[SmallProxy]:
    """Runs a `SmallProxy`."""
    proxy = SmallProxy(answer)
    async with stream_server(proxy.serve, tls=tls) as port:
        proxy.url = f"http{'s' if tls else ''}://127.0.0.1:{port}"
        yield proxy
