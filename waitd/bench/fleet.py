"""The job server: a flaky batch API, as fast as one core can be one. `python -m waitd.bench.fleet --port 0 --origins 3`.

A hand-written HTTP/1.1 server, because it must cost less than what it measures: it knows requests with a Content-Length or without a
body, keep-alive and pipelining, and nothing else. On start it prints one JSON line, `{"urls": [...], "s3": …}`: with `--s3` the jobs'
keys are served, too, as `waitd.bench.s3` says. `GET /report` tells what it saw.
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
from typing import Any, NamedTuple, cast

import orjson
import uvloop

from waitd.bench.jobs import SLOW_SECONDS, Job, Trouble, answer, final_answer, job_of
from waitd.bench.s3 import S3

MAX_REQUEST = 1024 * 1024
_RUNNING = {status: answer(status, {"status": "RUNNING"}) for status in (202, 404)}
_REFUSALS = {
    Trouble.UNAVAILABLE: answer(503, {"error": "the scheduler is restarting"}),
    Trouble.THROTTLED: answer(429, {"error": "slow down"}, "Retry-After: 1"),
}
#: With these the answer comes, and comes whole.
_WHOLE = {None, Trouble.SLOW}


class Running:
    """A job that has been asked for."""

    __slots__ = ("final", "first_seen", "job", "requests", "told")

    def __init__(self, job: Job, now: float) -> None:
        self.job = job
        self.first_seen = now
        self.requests = 0
        #: Whether its end has been told to somebody, as a whole answer.
        self.told = False
        self.final = final_answer(job)

    def asked(self, now: float) -> tuple[bool, Trouble | None]:
        """One more request: whether the job has ended, and what befalls the answer."""
        behaviour = self.job.behaviour
        trouble = behaviour.pattern[self.requests % len(behaviour.pattern)]
        self.requests += 1
        ended = behaviour.ends is not None and now - self.first_seen >= self.job.seconds
        self.told = self.told or (ended and trouble in _WHOLE)
        return ended, trouble

    def look(self, now: float) -> tuple[bytes, Trouble | None]:
        """The answer to one more request, and what befalls it."""
        ended, trouble = self.asked(now)
        if trouble in _REFUSALS:
            return _REFUSALS[trouble], None
        return self.final if ended else _RUNNING[self.job.behaviour.running], trouble


class Fleet:
    """The jobs seen so far, by path."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.clock = clock
        self.jobs: dict[bytes, Running] = {}
        self.requests = 0

    def look(self, path: bytes, method: bytes = b"GET") -> tuple[bytes, Trouble | None]:  # noqa: ARG002 - the shape of a Look
        """What the request for `path` gets."""
        self.requests += 1
        now = self.clock()
        running = self.jobs.get(path)
        if running is None:
            if path == b"/report":
                return answer(200, self.report()), None
            try:
                running = self.running(path, now)
            except ValueError as error:
                return answer(400, {"error": str(error)}), None
        return running.look(now)

    def running(self, path: bytes, now: float) -> Running:
        """The job of that path, which begins with the first request that names it. Raises ValueError: it names none."""
        running = self.jobs.get(path)
        if running is None:
            running = self.jobs[path] = Running(job_of(path.decode("ascii")), now)
        return running

    def report(self) -> dict[str, Any]:
        """What was asked so far: `requests`, and for each job by path how often, since how many seconds, and whether its end was told."""
        now = self.clock()
        return {
            "requests": self.requests,
            "jobs": {
                path.decode(): {"requests": r.requests, "age": now - r.first_seen, "told": r.told}
                for path, r in self.jobs.items()
            },
        }


#: What a request gets, by its target and method, and what befalls the answer.
Look = Callable[[bytes, bytes], tuple[bytes, Trouble | None]]


class Connection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = ("_look", "_rest", "_transport")

    def __init__(self, look: Look) -> None:
        self._look = look
        self._rest = b""
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast(
            asyncio.Transport, transport
        )  # what stream servers hand over; uvloop's is none by name

    def data_received(self, data: bytes) -> None:
        """Answers each complete request in `data`, and keeps the beginning of the next one."""
        if self._rest:
            data = self._rest + data
        while (end := data.find(b"\r\n\r\n")) >= 0:
            head = data[:end]
            after = end + 4 + (0 if head.startswith((b"GET ", b"HEAD ")) else _content_length(head))
            if len(data) < after:
                break
            self._answer(head)
            data = data[after:]
        self._rest = data
        if len(data) > MAX_REQUEST:
            self._transport.abort()

    def _answer(self, head: bytes) -> None:
        method, _, rest = head.partition(b" ")
        content, trouble = self._look(rest.partition(b" ")[0], method)
        if method == b"HEAD":
            content = content[: content.index(b"\r\n\r\n") + 4]
        transport = self._transport
        if trouble is None:
            transport.write(content)
        elif trouble is Trouble.RESETS:
            transport.abort()
        elif trouble is Trouble.TRUNCATES:
            transport.write(content[:-8])
            transport.close()
        elif trouble is Trouble.SLOW:
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


class Urls(NamedTuple):
    """Where a fleet is served: the jobs, once for each origin, and their keys, where it was asked for."""

    urls: Sequence[str]
    s3: str | None


async def serve(
    host: str,
    port: int,
    origins: int,
    stopped: asyncio.Event,
    started: Callable[[Urls], None],
    *,
    with_s3: bool = False,
) -> None:
    """Serves one fleet on `origins` ports (the first is `port`; 0: any), and its keys on one more, until `stopped`."""
    loop = asyncio.get_running_loop()
    fleet = Fleet(loop.time)
    looks: list[Look] = [fleet.look] * origins
    if with_s3:
        looks.append(S3(fleet.running, loop.time, time.time).look)
    servers = [
        await loop.create_server(partial(Connection, look), host, port if n == 0 else 0, backlog=4096)
        for n, look in enumerate(looks)
    ]
    try:
        urls = [f"http://{host}:{_port(server.sockets[0])}" for server in servers]
        started(Urls(urls[:origins], urls[origins] if with_s3 else None))
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
    if options.exit_with_parent:  # our standard input ends when the process that holds its other end does
        loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(0, 4096) else stopped.set())

    def started(urls: Urls) -> None:
        sys.stdout.write(orjson.dumps(urls._asdict()).decode() + "\n")
        sys.stdout.flush()

    await serve(options.host, options.port, options.origins, stopped, started, with_s3=options.s3)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m waitd.bench.fleet", description="A flaky batch API to wait on."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose (default)")
    parser.add_argument("--origins", type=int, default=1, help="on how many ports the same jobs are served")
    parser.add_argument("--s3", action="store_true", help="serve the jobs' keys, too, on a port of its own")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when standard input, a pipe, ends"
    )
    uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
