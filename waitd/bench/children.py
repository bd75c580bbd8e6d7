"""Child processes that never outlive the program which started them."""

import asyncio
import atexit
import os
import socket
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson

from waitd.bench.machine import pin
from waitd.client import Client

#: Seconds within which a child must start or stop.
GRACE = 30.0
JOB_SERVER = "waitd.bench.job_server"
#: Seconds that a job server may take to report on all its jobs.
REPORT_TIMEOUT = 120.0


class ChildFailed(Exception):  # noqa: N818 - reads as a sentence where it is raised
    """A child process failed; the message ends with its last output."""

    def __init__(self, what: str, log: Path) -> None:
        output = log.read_text("utf-8", "replace").strip().splitlines()[-10:] if log.is_file() else []
        super().__init__(
            "\n".join([f"{what}. Its last output:" if output else f"{what}, without output", *output])
        )


@asynccontextmanager
async def child(
    arguments: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    pipe_output: bool = False,
    cores: Collection[int] | None = None,
    python: Sequence[str] = (sys.executable, "-m"),
) -> AsyncIterator[asyncio.subprocess.Process]:
    """Runs a child while the context lasts and kills it on exit.

    Args:
        arguments: follow `python` on the command line.
        log: receives the output.
        environment: replaces this process's own.
        pipe_output: whether standard output is a pipe instead. Standard input always is one, and
            ends with this process.
        cores: the cores it may use.
        python: starts the command line.
    """
    with log.open("ab") as output:
        process = await asyncio.create_subprocess_exec(
            *python,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if pipe_output else output,
            stderr=output,
            env=environment,
        )
    try:
        if cores is not None:
            pin(process.pid, cores)
        yield process
    finally:
        await kill(process)


async def kill(process: asyncio.subprocess.Process) -> None:
    """Sends SIGKILL unless the process has ended, and waits for its end."""
    if process.returncode is None:
        process.kill()
    # communicate() also closes the pipes; shielded, so that a second Ctrl-C leaves no process
    # behind.
    await asyncio.shield(asyncio.ensure_future(process.communicate()))


async def stop(process: asyncio.subprocess.Process, grace: float = GRACE) -> int:
    """Sends SIGTERM and returns the exit code.

    Raises:
        TimeoutError: it took more than `grace` seconds.
    """
    if process.returncode is None:
        process.terminate()
    async with asyncio.timeout(grace):
        return await process.wait()


class JobServer(NamedTuple):
    """A job server in a child process, and its URLs, one per origin; `s3` may be empty."""

    pid: int
    urls: Sequence[str]
    s3: Sequence[str]

    async def get(self, path: str) -> Any:
        """The decoded answer to a GET; see `waitd.bench.job_server` for the paths."""
        timeout = aiohttp.ClientTimeout(total=REPORT_TIMEOUT)
        async with (
            aiohttp.ClientSession(timeout=timeout) as session,
            session.get(self.urls[0] + path) as response,
        ):
            return orjson.loads(await response.read())


@asynccontextmanager
async def job_server(
    origins: int,
    *,
    log: Path,
    with_s3: bool = False,
    host: str = "127.0.0.1",
    cores: Collection[int] | None = None,
    program: str = JOB_SERVER,
) -> AsyncIterator[JobServer]:
    """Runs a job server. Raises ChildFailed."""
    arguments = [program, "--host", host, "--origins", str(origins), "--exit-with-parent"]
    if with_s3:
        arguments.append("--s3")
    async with child(arguments, log=log, pipe_output=True, cores=cores) as process:
        line = await process.stdout.readline() if process.stdout else b""
        if not line:
            raise ChildFailed("The job server failed", log)
        yield JobServer(process.pid, **orjson.loads(line))


@asynccontextmanager
async def daemon(
    settings: Mapping[str, Any],
    client: Client,
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    patience: float = GRACE,
    cores: Collection[int] | None = None,
    python: Sequence[str] = (sys.executable, "-m"),
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`waitd serve` in a child process that is ready to accept waits.

    Args:
        settings: all its settings, by name.
        client: a client of its URL.
        log: receives its output.
        environment: variables in addition to this process's own.
        patience: the seconds within which it must be ready.
        cores: the cores it may use.
        python: starts its command line.

    Raises:
        ChildFailed: it ended, or was not ready in time.
    """
    variables = {name: value for name, value in os.environ.items() if not name.startswith("WAITD_")}
    variables |= {f"WAITD_{name.upper()}": str(value) for name, value in settings.items()}
    variables |= environment or {}
    async with child(
        ["waitd", "serve"], log=log, environment=variables, cores=cores, python=python
    ) as process:
        try:
            async with asyncio.timeout(patience):
                while not await client.ready():
                    check_running(process, log)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ChildFailed(f"The daemon was not ready after {patience:g} s", log) from None
        yield process


def check_running(process: asyncio.subprocess.Process, log: Path) -> None:
    """Raises ChildFailed: the daemon has ended."""
    if process.returncode is not None:
        raise ChildFailed(f"The daemon ended with exit code {process.returncode}", log)


#: Keeps the sockets of `free_port` open until the process ends.
_reserved_ports = ExitStack()
atexit.register(_reserved_ports.close)


def free_port() -> int:
    """A free port of 127.0.0.1, reserved while this process lives.

    The port stays bound, so Linux does not hand it out to a caller that asks for any port. A server
    that asks for this very port gets it, also after it was killed: of two sockets that set
    SO_REUSEADDR only one may listen. Source: `inet_csk_find_open_port` and `inet_csk_bind_conflict`
    in the kernel's net/ipv4/inet_connection_sock.c.
    """
    reservation = socket.socket()
    reservation.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reservation.bind(("127.0.0.1", 0))
    port: int = reservation.getsockname()[1]
    if sys.platform == "linux":
        _reserved_ports.enter_context(reservation)
    else:
        reservation.close()
    return port
