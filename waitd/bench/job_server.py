"""A flaky batch API to wait on: serves jobs, and with `--s3` the keys that they write.

    python -m waitd.bench.job_server --port 0 --origins 3

A hand-written HTTP/1.1 server, because the target must cost less than the daemon that is measured.
It understands keep-alive, pipelining and requests with a Content-Length or without a body, nothing
else. On start it prints one JSON line, `{"urls": [...], "s3": [...]}`. `GET /report`, `/tally` and
`/arrivals` return what the methods of `JobTable` of that name return.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple, cast

import orjson
import uvloop

from waitd.bench.job_table import Disturbance, JobTable
from waitd.bench.jobs import SLOW_SECONDS, Fault
from waitd.bench.s3 import S3

MAX_REQUEST = 1024 * 1024
#: Answers a request's target and method; returns the answer and how it is disturbed.
RequestHandler = Callable[[bytes, bytes], tuple[bytes, Disturbance]]


class JobConnection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = ("_buffer", "_handler", "_transport")

    def __init__(self, handler: RequestHandler) -> None:
        self._handler = handler
        self._buffer = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        # Stream servers pass a Transport; uvloop's does not inherit from it.
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answers each complete request and keeps the incomplete rest."""
        if self._buffer:
            data = self._buffer + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[:end]
            after = end + 4 + (0 if head.startswith((b"GET ", b"HEAD ")) else _content_length(head))
            if len(data) < after:
                break
            self._answer(head)
            data = data[after:]
        self._buffer = data
        if len(data) > MAX_REQUEST:
            self._transport.abort()

    def _answer(self, head: bytes) -> None:
        method, _, rest = head.partition(b" ")
        content, disturbance = self._handler(rest.partition(b" ")[0], method)
        if method == b"HEAD":
            content = content[: content.index(b"\r\n\r\n") + 4]
        transport = self._transport
        if disturbance is None:
            transport.write(content)
        elif isinstance(disturbance, float):
            asyncio.get_running_loop().call_later(disturbance, self._write_late, content)
        elif disturbance is Fault.RESETS:
            transport.abort()
        elif disturbance is Fault.TRUNCATES:
            transport.write(content[:-8])
            transport.close()
        elif disturbance is Fault.SLOW:
            transport.write(content[:-8])
            asyncio.get_running_loop().call_later(SLOW_SECONDS, self._write_late, content[-8:])

    def _write_late(self, content: bytes) -> None:
        if not self._transport.is_closing():
            self._transport.write(content)


def _content_length(head: bytes) -> int:
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.partition(b":")
        if name.lower() == b"content-length" and value.strip().isdigit():
            return int(value)
    return 0


class JobServerUrls(NamedTuple):
    """The URLs of a job server, one per origin; `s3` is empty without `--s3`."""

    urls: Sequence[str]
    s3: Sequence[str]


async def serve(
    host: str,
    port: int,
    origins: int,
    stopped: asyncio.Event,
    started: Callable[[JobServerUrls], None],
    *,
    with_s3: bool = False,
) -> None:
    """Serves the same jobs on several ports until `stopped` is set.

    Args:
        host: the address to listen on.
        port: the first port; 0: any. All others are any free port.
        origins: the number of ports.
        stopped: ends the server.
        started: is called with the URLs when the server listens.
        with_s3: whether the jobs' keys are served, too, on as many more ports.
    """
    loop = asyncio.get_running_loop()
    table = JobTable(loop.time)
    handlers: list[RequestHandler] = [table.answer] * origins
    if with_s3:
        handlers += [S3(table.find_polled, loop.time, time.time).answer] * origins
    servers = [
        await loop.create_server(partial(JobConnection, handler), host, port if n == 0 else 0, backlog=4096)
        for n, handler in enumerate(handlers)
    ]
    try:
        urls = [f"http://{host}:{_port(server.sockets[0])}" for server in servers]
        started(JobServerUrls(urls[:origins], urls[origins:]))
        await stopped.wait()
    finally:
        for server in servers:
            server.close()


def _port(listening: socket.socket) -> int:
    port: int = listening.getsockname()[1]
    return port


async def _run(options: argparse.Namespace) -> None:
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    if options.exit_with_parent:  # standard input ends with the process that holds its other end
        loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(0, 4096) else stopped.set())

    def started(urls: JobServerUrls) -> None:
        sys.stdout.write(orjson.dumps(urls._asdict()).decode() + "\n")
        sys.stdout.flush()

    await serve(options.host, options.port, options.origins, stopped, started, with_s3=options.s3)


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m waitd.bench.job_server", description="A flaky batch API to wait on."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 (the default) lets the system choose")
    parser.add_argument("--origins", type=int, default=1, help="number of ports that serve the same jobs")
    parser.add_argument("--s3", action="store_true", help="also serve the jobs' keys, on as many ports")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when standard input, a pipe, ends"
    )
    uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
