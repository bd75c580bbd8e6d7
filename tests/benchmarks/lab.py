"""The processes we measure, each on its own core: a daemon, a target, a submitter; and what the system says they used."""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson

from waitd.bench.children import ChildFailed, child, stop
from waitd.bench.machine import Cores, ProcessUsage, UsageSpan, open_as_many_files_as_allowed
from waitd.bench.scrape import ScrapedMetrics
from waitd.client import Client

HERE = Path(__file__).parent
CORES = Cores.ours()
BATCH = 10_000


def say(text: str) -> None:
    """Progress, for people."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def set_up() -> None:
    """Puts this process on the other cores, and lets it and its children open as many files as they may."""
    open_as_many_files_as_allowed()
    os.sched_setaffinity(0, CORES.others)


class Target:
    """The job server."""

    def __init__(self, pid: int, urls: Sequence[str], session: aiohttp.ClientSession) -> None:
        self.pid = pid
        self.urls = urls
        self._session = session

    async def seen(self) -> dict[str, Any]:
        """What was asked since the last call: `requests`, `first_at`, and `arrivals` by path."""
        async with self._session.get(self.urls[0] + "/seen") as response:
            return dict(orjson.loads(await response.read()))


class Daemon:
    """A daemon that serves."""

    def __init__(
        self,
        process: asyncio.subprocess.Process,
        spawned_at: float,
        log: Path,
        session: aiohttp.ClientSession,
    ) -> None:
        self._process = process
        self.pid = process.pid
        self.spawned_at = spawned_at
        self.url = ""
        self._log = log
        self._session = session

    async def logged(self, name: str, patience: float = 60.0) -> dict[str, Any]:
        """The first log line of this event, once it is there."""
        limit = time.monotonic() + patience
        while time.monotonic() < limit and self._process.returncode is None:
            for line in self._log.read_bytes().splitlines():
                if line.startswith(b"{") and (event := orjson.loads(line)).get("event") == name:
                    return dict(event)
            await asyncio.sleep(0.05)
        raise ChildFailed(f"the daemon did not log {name}", self._log)

    async def submit(self, waits: Sequence[Mapping[str, Any]]) -> None:
        """Submits them all, in batches. Raises RuntimeError: one was refused."""
        async with Client(self.url) as client:
            for start in range(0, len(waits), BATCH):
                answers = await client.submit_batch(waits[start : start + BATCH])
                if refused := [answer for answer in answers if answer["status"] != 201]:
                    raise RuntimeError(f"a wait was refused: {refused[0]}")

    async def metrics(self) -> ScrapedMetrics:
        """All its metrics now."""
        async with self._session.get(self.url + "/metrics") as response:
            return ScrapedMetrics.of(await response.text())

    async def until(self, reached: Callable[[ScrapedMetrics], bool], patience: float = 180.0) -> None:
        """Waits until its metrics say so; raises TimeoutError."""
        async with asyncio.timeout(patience):
            while not reached(await self.metrics()):  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.25)

    async def stop(self) -> None:
        """SIGTERM, and its end."""
        await stop(self._process)


class Snapshot(NamedTuple):
    """Everything about both processes at one moment."""

    metrics: ScrapedMetrics
    daemon: ProcessUsage
    target: ProcessUsage

    @classmethod
    async def take(cls, daemon: Daemon, target: Target) -> "Snapshot":
        """Now."""
        return cls(await daemon.metrics(), ProcessUsage.of(daemon.pid), ProcessUsage.of(target.pid))

    def pokes_since(self, before: "Snapshot") -> float:
        """How many pokes have been judged since."""
        name = "waitd_pokes_total"
        return self.metrics.total(name) - before.metrics.total(name)

    def histogram_since(self, before: "Snapshot", name: str) -> dict[float, float]:
        """What a histogram took in since, cumulative by upper bound."""
        return self.metrics.histogram_since(before.metrics, name)


class Lab:
    """Starts processes in a temporary directory."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession) -> None:
        self._folder = folder
        self._session = session

    @asynccontextmanager
    async def target(self, origins: int = 1) -> AsyncIterator[Target]:
        """A job server while the block lasts."""
        log = self._folder / "target.log"
        arguments = ["target", "--origins", str(origins)]
        async with child(arguments, log=log, environment=_environment({}), heard=True) as process:
            os.sched_setaffinity(process.pid, CORES.others)
            line = await process.stdout.readline() if process.stdout else b""
            if not line:
                raise ChildFailed("the target did not start", log)
            yield Target(process.pid, orjson.loads(line)["urls"], self._session)

    @asynccontextmanager
    async def daemon(self, name: str, *, keep: bool = False, **more: str) -> AsyncIterator[Daemon]:
        """A daemon while the block lasts, over the store `name`, which is deleted afterwards unless it is to be kept. `more`: settings
        by their environment variables.
        """
        log, state = self._folder / f"{name}.{time.monotonic_ns()}.log", self._folder / name
        settings = {
            "WAITD_STATE_DIR": str(state),
            "WAITD_BIND": "127.0.0.1:0",
            "WAITD_LOG_FORMAT": "json",
            "WAITD_CAPACITY": "1000000",
            **more,
        }
        spawned_at = time.time()
        try:
            async with child(["waitd", "serve"], log=log, environment=_environment(settings)) as process:
                os.sched_setaffinity(process.pid, CORES.measured)
                daemon = Daemon(process, spawned_at, log, self._session)
                daemon.url = "http://" + (await daemon.logged("serving"))["address"]
                yield daemon
        finally:
            if not keep:
                shutil.rmtree(state, ignore_errors=True)

    async def submitter(self, daemon: Daemon, target_url: str, **options: int) -> dict[str, Any]:
        """Runs a submitter; what it printed, with the daemon's usage as `span`."""
        log = self._folder / "submitter.log"
        arguments = ["submitter", "--url", daemon.url, "--target", target_url]
        for name, value in options.items():
            arguments += [f"--{name}", str(value)]
        before = ProcessUsage.of(daemon.pid)
        async with child(arguments, log=log, environment=_environment({}), heard=True) as process:
            os.sched_setaffinity(process.pid, CORES.others)
            line = await process.stdout.readline() if process.stdout else b""
            if not line:
                raise ChildFailed("the submitter failed", log)
        return {**orjson.loads(line), "span": UsageSpan.between(before, ProcessUsage.of(daemon.pid))}


def _environment(settings: Mapping[str, str]) -> dict[str, str]:
    """Ours without any WAITD_ variable, and with these settings; our own modules can be run."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("WAITD_")}
    path = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {**inherited, "PYTHONPATH": os.pathsep.join(path), **settings}
