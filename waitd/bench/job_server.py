"""The job server: a flaky batch API, as fast as one core can be one. `python -m waitd.bench.job_server --port 0 --origins 3`.

A hand-written HTTP/1.1 server, because it must cost less than what it measures: it knows requests with a Content-Length or without a
body, keep-alive and pipelining, and nothing else. On start it prints one JSON line, `{"urls": [...], "s3": [...]}`: with `--s3` the jobs'
keys are served, too, as `waitd.bench.s3` says. `GET /report` tells what became of each job, `GET /tally` how much was asked so far.
"""

import argparse
import asyncio
import os
import signal
import socket
import sys
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple, cast

import orjson
import uvloop

from waitd.bench.jobs import LIES, SLOW_SECONDS, Fault, Job, answer, final_answer, job_of
from waitd.bench.s3 import S3

MAX_REQUEST = 1024 * 1024
_RUNNING = {status: answer(status, {"status": "RUNNING"}) for status in (202, 404)}
_REFUSALS = {
    Fault.UNAVAILABLE: answer(503, {"error": "the scheduler is restarting"}),
    Fault.THROTTLED: answer(429, {"error": "slow down"}, "Retry-After: 1"),
}
#: Troubles with which the answer does not come, or does not come whole.
_NOT_WHOLE = {*Fault} - {Fault.SLOW}
#: What befalls an answer: nothing, a trouble, or that it comes after so many seconds.
Disturbance = Fault | float | None
#: By how far the gaps between two requests about a job are told apart, in seconds: by at most a hundredth, from 1 ms to half an hour.
GAPS = tuple(0.001 * 1.01**n for n in range(1450))


class RunningJob:
    """A job that has been asked for."""

    __slots__ = ("final", "first_seen", "job", "last_seen", "plain", "requests", "told")

    def __init__(self, job: Job, now: float) -> None:
        self.job = job
        self.first_seen = now
        self.last_seen = now
        self.requests = 0
        #: Whether its end has been told to somebody, as a whole answer.
        self.told = False
        self.final = final_answer(job)
        self.plain = job.behaviour.plain

    def asked(self, now: float) -> tuple[bool, Disturbance]:
        """One more request: whether the job has ended, and what befalls the answer."""
        behaviour = self.job.behaviour
        fate: Disturbance = behaviour.pattern[self.requests % len(behaviour.pattern)]
        self.requests += 1
        ended = self.ended(now)
        if behaviour.latency is not None:
            fate = behaviour.latency.seconds(self.job.id, self.requests)
        elif behaviour.outage is not None and not ended and behaviour.outage.at(now):
            fate = Fault.UNAVAILABLE
        self.told = self.told or (ended and fate not in _NOT_WHOLE)
        return ended, fate

    def ended(self, now: float) -> bool:
        """Whether it is done by then."""
        return self.job.behaviour.ends is not None and now - self.first_seen >= self.job.seconds

    def look(self, now: float) -> tuple[bytes, Disturbance]:
        """The answer to one more request, and what befalls it."""
        ended, fate = self.asked(now)
        if fate in _REFUSALS:
            return _REFUSALS[fate], None
        if ended:
            return self.final, fate
        behaviour = self.job.behaviour
        return LIES[self.requests % len(LIES)] if behaviour.lies else _RUNNING[behaviour.running], fate


class JobTable:
    """The jobs seen so far, by path."""

    def __init__(self, clock: Callable[[], float], wall_clock: Callable[[], float] = time.time) -> None:
        self.clock = clock
        self.wall_clock = wall_clock
        self.jobs: dict[bytes, RunningJob] = {}
        self.requests = 0
        #: How many requests about a job that always answers at once came so long after the one before.
        self.gaps = [0] * (len(GAPS) + 1)

    def look(self, path: bytes, method: bytes = b"GET") -> tuple[bytes, Disturbance]:  # noqa: ARG002 - the shape of a Look
        """What the request for `path` gets."""
        self.requests += 1
        now = self.clock()
        running = self.jobs.get(path)
        if running is not None:
            self.note_gap(running, now)
        else:
            if path == b"/report":
                return answer(200, self.report()), None
            if path == b"/tally":
                return answer(200, self.tally()), None
            try:
                running = self.running(path, now)
            except ValueError as error:
                return answer(400, {"error": str(error)}), None
        return running.look(now)

    def running(self, path: bytes, now: float) -> RunningJob:
        """The job of that path, which begins with the first request that names it. Raises ValueError: it names none."""
        running = self.jobs.get(path)
        if running is None:
            running = self.jobs[path] = RunningJob(job_of(path.decode("ascii")), now)
        return running

    def looked_at(self, path: bytes, now: float) -> RunningJob:
        """The job of that path, one of whose keys is looked at. Raises ValueError: it names none."""
        self.requests += 1
        known = self.jobs.get(path)
        if known is None:
            return self.running(path, now)
        self.note_gap(known, now)
        return known

    def note_gap(self, running: RunningJob, now: float) -> None:
        """One more request about a job that was asked for before."""
        if running.plain:
            self.gaps[bisect_left(GAPS, now - running.last_seen)] += 1
        running.last_seen = now

    def tally(self) -> dict[str, Any]:
        """How much was asked so far: `requests`, `jobs`, and `gaps`, as many of each length as the upper bounds in GAPS say."""
        return {"requests": self.requests, "jobs": len(self.jobs), "gaps": self.gaps}

    def report(self) -> dict[str, Any]:
        """What was asked so far: `requests`, and for each job by path how often, since how many seconds and for how many, whether its end was told, and
        when it was done (`done_at`, a Unix second; None: it is not).
        """
        now = self.clock()
        offset = self.wall_clock() - now
        return {
            "requests": self.requests,
            "jobs": {
                path.decode(): {
                    "requests": r.requests,
                    "age": now - r.first_seen,
                    "asked_for": r.last_seen - r.first_seen,
                    "told": r.told,
                    "done_at": offset + r.first_seen + r.job.seconds if r.ended(now) else None,
                }
                for path, r in self.jobs.items()
            },
        }


#: What a request gets, by its target and method, and what befalls the answer.
RequestHandler = Callable[[bytes, bytes], tuple[bytes, Disturbance]]


class JobConnection(asyncio.Protocol):
    """One client's connection."""

    __slots__ = ("_look", "_rest", "_transport")

    def __init__(self, look: RequestHandler) -> None:
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
        content, fate = self._look(rest.partition(b" ")[0], method)
        if method == b"HEAD":
            content = content[: content.index(b"\r\n\r\n") + 4]
        transport = self._transport
        if fate is None:
            transport.write(content)
        elif isinstance(fate, float):
            asyncio.get_running_loop().call_later(fate, self._write_late, content)
        elif fate is Fault.RESETS:
            transport.abort()
        elif fate is Fault.TRUNCATES:
            transport.write(content[:-8])
            transport.close()
        elif fate is Fault.SLOW:
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
    """Where a fleet is served: the jobs, once for each origin, and their keys, as often, where it was asked for."""

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
    """Serves one fleet on `origins` ports (the first is `port`; 0: any), and its keys on as many more, until `stopped`."""
    loop = asyncio.get_running_loop()
    fleet = JobTable(loop.time)
    looks: list[RequestHandler] = [fleet.look] * origins
    if with_s3:
        looks += [S3(fleet.looked_at, loop.time, time.time).look] * origins
    servers = [
        await loop.create_server(partial(JobConnection, look), host, port if n == 0 else 0, backlog=4096)
        for n, look in enumerate(looks)
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
    if options.exit_with_parent:  # our standard input ends when the process that holds its other end does
        loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(0, 4096) else stopped.set())

    def started(urls: JobServerUrls) -> None:
        sys.stdout.write(orjson.dumps(urls._asdict()).decode() + "\n")
        sys.stdout.flush()

    await serve(options.host, options.port, options.origins, stopped, started, with_s3=options.s3)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        prog="python -m waitd.bench.job_server", description="A flaky batch API to wait on."
    )
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0 lets the system choose (default)")
    parser.add_argument("--origins", type=int, default=1, help="on how many ports the same jobs are served")
    parser.add_argument("--s3", action="store_true", help="serve the jobs' keys, too, on as many ports")
    parser.add_argument(
        "--exit-with-parent", action="store_true", help="stop when standard input, a pipe, ends"
    )
    uvloop.run(_run(parser.parse_args()))


if __name__ == "__main__":
    main()
