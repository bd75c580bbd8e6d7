"""Processes of our own: started, killed, stopped, and never left behind."""

import asyncio
import atexit
import os
import socket
import sys
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import orjson

from waitd.bench.job_server import JobServerUrls
from waitd.bench.machine import pin
from waitd.client import Client

#: How long a child may take to stop by itself, in seconds.
GRACE = 30.0
#: The job server's program.
FLEET = "waitd.bench.job_server"


@asynccontextmanager
async def child(
    arguments: Sequence[str],
    *,
    log: Path,
    environment: Mapping[str, str] | None = None,
    heard: bool = False,
    cores: Collection[int] | None = None,
    python: Sequence[str] = (sys.executable, "-m"),
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`python -m ARGUMENTS` while the context lasts, on these cores; on leaving it is killed, whatever happened.

    What it says goes to `log`; with `heard` its standard output is a pipe instead. Its standard input is a pipe that ends with us.
    """
    with log.open("ab") as errors:
        process = await asyncio.create_subprocess_exec(
            *python,
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE if heard else errors,
            stderr=errors,
            env=environment,
        )
    try:
        if cores is not None:
            pin(process.pid, cores)
        yield process
    finally:
        await kill(process)


async def kill(process: asyncio.subprocess.Process) -> None:
    """SIGKILL, and the end of the process awaited; nothing where it has ended."""
    if process.returncode is None:
        process.kill()
    # communicate() also closes the pipes; shielded, so that a second Ctrl-C leaves no process behind.
    await asyncio.shield(asyncio.ensure_future(process.communicate()))


async def stop(process: asyncio.subprocess.Process, grace: float = GRACE) -> int:
    """SIGTERM, and the exit code. Raises TimeoutError: it did not end in `grace` seconds."""
    if process.returncode is None:
        process.terminate()
    async with asyncio.timeout(grace):
        return await process.wait()


@asynccontextmanager
async def fleet(origins: int, *, log: Path, with_s3: bool = False) -> AsyncIterator[JobServerUrls]:
    """A job server of its own process, and where it is served."""
    async with fleet_process(origins, log=log, with_s3=with_s3) as (_, urls):
        yield urls


@asynccontextmanager
async def fleet_process(
    origins: int,
    *,
    log: Path,
    with_s3: bool = False,
    host: str = "127.0.0.1",
    cores: Collection[int] | None = None,
    program: str = FLEET,
) -> AsyncIterator[tuple[int, JobServerUrls]]:
    """The same, and the process's id."""
    arguments = [program, "--host", host, "--origins", str(origins), "--exit-with-parent"]
    async with child(
        [*arguments, *(["--s3"] if with_s3 else [])], log=log, heard=True, cores=cores
    ) as process:
        line = await process.stdout.readline() if process.stdout else b""
        if not line:
            raise ChildFailed("the job server did not start", log)
        yield process.pid, JobServerUrls(**orjson.loads(line))


@asynccontextmanager
async def daemon(
    settings: Mapping[str, Any],
    client: Client,
    *,
    log: Path,
    connections: Mapping[str, str] | None = None,
    patience: float = GRACE,
    cores: Collection[int] | None = None,
) -> AsyncIterator[asyncio.subprocess.Process]:
    """`waitd serve` with these settings and no others, ready to take waits. `client` is one of its URL, `connections` are by conn_id, `cores`
    are those that it may run on.

    Raises:
        ChildFailed: it ended, or was not ready after `patience` seconds.
    """
    environment = {name: value for name, value in os.environ.items() if not name.startswith("WAITD_")}
    environment |= {f"WAITD_{name.upper()}": str(value) for name, value in settings.items()}
    environment |= {f"AIRFLOW_CONN_{name.upper()}": value for name, value in (connections or {}).items()}
    async with child(["waitd", "serve"], log=log, environment=environment, cores=cores) as process:
        try:
            async with asyncio.timeout(patience):
                while not await client.ready():
                    if process.returncode is not None:
                        raise ChildFailed(f"the daemon ended with exit code {process.returncode}", log)
                    await asyncio.sleep(0.02)
        except TimeoutError:
            raise ChildFailed(f"the daemon was not ready after {patience:g} s", log) from None
        yield process


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


class ChildFailed(Exception):  # noqa: N818 - reads as a sentence where it is raised
    """A process of ours did not do its part; the message ends with what it said last."""

    def __init__(self, what: str, log: Path) -> None:
        said = log.read_text("utf-8", "replace").strip().splitlines()[-10:] if log.is_file() else []
        super().__init__("\n".join([what + (", saying:" if said else " and said nothing"), *said]))
