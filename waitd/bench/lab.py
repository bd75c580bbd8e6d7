"""Starts a daemon and a target on separate cores and measures both; the benchmarks are built on it.

The daemon has one core. The target, the submitter and the script that measures share the others.
"""

import asyncio
import os
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import aiohttp
import orjson

from waitd.bench.children import (
    ChildFailed,
    child,
    environment_without_settings,
    first_line,
    free_port,
    job_server,
    stop,
    until_ready,
)
from waitd.bench.job_server import JobServerUrls
from waitd.bench.jobs import job_path
from waitd.bench.machine import Cores, ProcessUsage, UsageSpan, raise_file_limit
from waitd.bench.quantiles import bucket_quantile
from waitd.bench.sampler import LATENESS, ScrapedMetrics
from waitd.bench.submitter import sensor_wait
from waitd.client import Client

CORES = Cores.split()
#: Lines per batch.
BATCH = 10_000
#: Seconds after which a daemon must have reached an expected state.
PATIENCE = 180.0
POKES = "waitd_pokes_total"


def say(text: str) -> None:
    """Prints progress on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)  # noqa: T201 - for a person


def use_other_cores() -> None:
    """Moves this process off the daemon's core and raises its limit of open files."""
    raise_file_limit()
    os.sched_setaffinity(0, CORES.others)


class LabTarget(NamedTuple):
    """A job server in a child process."""

    pid: int
    urls: JobServerUrls
    session: aiohttp.ClientSession

    def endpoint(self, behaviour: str, job_id: str, origin: int = 0) -> str:
        """The URL of a job."""
        return self.urls.urls[origin] + job_path(behaviour, 0, job_id)

    def waits(self, name: str, count: int, poke_interval: float) -> list[dict[str, Any]]:
        """Waits on as many endless jobs, so that no two share a request."""
        return [
            sensor_wait(self.endpoint("endless", f"{name}-{n}"), poke_interval=poke_interval)
            for n in range(count)
        ]

    async def take_arrivals(self) -> dict[str, Any]:
        """See `waitd.bench.job_table.JobTable.take_arrivals`."""
        async with self.session.get(self.urls.urls[0] + "/arrivals") as response:
            return dict(orjson.loads(await response.read()))


class MeasuredDaemon(NamedTuple):
    """A daemon in a child process; `spawned_at` is the Unix second of its start."""

    process: asyncio.subprocess.Process
    client: Client
    log: Path
    spawned_at: float

    @property
    def usage(self) -> ProcessUsage:
        """CPU time and memory so far."""
        return ProcessUsage.from_pid(self.process.pid)

    async def until_logged(
        self, matches: Callable[[Mapping[str, Any]], bool], *, every: float = 0.05
    ) -> dict[str, Any]:
        """Returns the first matching log event once it is written.

        Raises:
            ChildFailed: it never is.
        """
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit and self.process.returncode is None:
            for line in self.log.read_bytes().splitlines(keepends=True):
                if line.startswith(b"{") and line.endswith(b"\n") and matches(event := orjson.loads(line)):
                    return dict(event)
            await asyncio.sleep(every)
        raise ChildFailed("The daemon did not log an expected event", self.log)

    async def submit(self, waits: Sequence[Mapping[str, Any]]) -> None:
        """Submits waits in batches. Raises RuntimeError: one was refused."""
        for start in range(0, len(waits), BATCH):
            results = await self.client.submit_batch(waits[start : start + BATCH])
            if refused := [result for result in results if result["status"] != 201]:
                raise RuntimeError(f"The daemon refused a wait: {refused[0]}")

    async def metrics(self) -> ScrapedMetrics:
        """Its metrics now."""
        return ScrapedMetrics.parse(await self.client.metrics())

    async def until_poked(self, pokes: int) -> None:
        """Returns when it has made so many pokes. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while (await self.metrics()).total(POKES) < pokes:  # noqa: ASYNC110 - another process's state
                await asyncio.sleep(0.25)

    async def settled_rss(self, patience: float = 10.0) -> int:
        """Its resident memory in bytes, once it is stable for two seconds."""
        limit, sizes = time.monotonic() + patience, [0, 1, 2]
        while time.monotonic() < limit and len(set(sizes[-3:])) > 1:
            await asyncio.sleep(1.0)
            sizes.append(self.usage.rss)
        return sizes[-1]

    async def rss_at(self, target: LabTarget, sizes: Sequence[int]) -> list[int]:
        """Its resident memory in bytes at each number of held waits, all of them poked once."""
        sizes_in_bytes, held = [], 0
        for size in sizes:
            say(f"holding {size:,} waits with an interval of 1 h, each poked once")
            await self.submit(target.waits(f"held-{size}", size - held, 3600.0))
            held = size
            await self.until_poked(held)
            sizes_in_bytes.append(await self.settled_rss())
        return sizes_in_bytes

    async def stop(self) -> None:
        """Sends SIGTERM and waits for the end."""
        await stop(self.process)


class Window(NamedTuple):
    """What a daemon and its target did between two moments."""

    daemon: UsageSpan
    target: UsageSpan
    before: ScrapedMetrics
    after: ScrapedMetrics
    rss: int

    def increase(self, name: str) -> float:
        """The increase of a metric, over all its labels."""
        return self.after.total(name) - self.before.total(name)

    @property
    def pokes(self) -> float:
        """The number of pokes."""
        return self.increase(POKES)

    @property
    def cpu_per_poke(self) -> float:
        """CPU of the daemon per poke, in microseconds."""
        return self.daemon.cpu / self.pokes * 1e6

    @property
    def target_cpu_per_poke(self) -> float:
        """CPU of the target per poke, in microseconds."""
        return self.target.cpu / self.pokes * 1e6

    def lateness(self, q: float) -> float:
        """The `q`-quantile of poke lateness, in milliseconds."""
        return bucket_quantile(self.after.histogram_since(self.before, LATENESS), q) * 1e3


async def measure_window(daemon: MeasuredDaemon, target: LabTarget, seconds: float) -> Window:
    """Measures a daemon and its target for so many seconds."""
    metrics, usages = await daemon.metrics(), (daemon.usage, ProcessUsage.from_pid(target.pid))
    await asyncio.sleep(seconds)
    metrics_after, after = await daemon.metrics(), (daemon.usage, ProcessUsage.from_pid(target.pid))
    spans = [UsageSpan.between(*both) for both in zip(usages, after, strict=True)]
    return Window(spans[0], spans[1], metrics, metrics_after, after[0].rss)


class Lab(NamedTuple):
    """Starts child processes; their files are below `folder`."""

    folder: Path
    session: aiohttp.ClientSession

    @asynccontextmanager
    async def target(self, origins: int = 1, *, with_s3: bool = False) -> AsyncIterator[LabTarget]:
        """A job server."""
        log = self.folder / "target.log"
        async with job_server(origins, log=log, with_s3=with_s3, cores=CORES.others) as (pid, urls):
            yield LabTarget(pid, urls, self.session)

    @asynccontextmanager
    async def daemon(
        self,
        name: str,
        *,
        keep: bool = False,
        ready: bool = True,
        python: Sequence[str] = (sys.executable, "-m"),
        environment: Mapping[str, str] | None = None,
        **settings: object,
    ) -> AsyncIterator[MeasuredDaemon]:
        """A daemon.

        Args:
            name: names its state directory below `folder`; one that exists is opened again.
            keep: whether to keep the state directory afterwards.
            ready: whether to wait until it is ready.
            python: starts its command line.
            environment: variables in addition to this process's own.
            settings: settings in addition to those of the lab.
        """
        log, state = self.folder / f"{name}.{time.monotonic_ns()}.log", self.folder / name
        bind = f"127.0.0.1:{free_port()}"
        variables = environment_without_settings() | dict(environment or {})
        all_settings = {
            "state_dir": state,
            "bind": bind,
            "log_format": "json",
            "capacity": 1_000_000,
            **settings,
        }
        variables |= {f"WAITD_{key.upper()}": str(value) for key, value in all_settings.items()}
        spawned_at = time.time()
        try:
            async with (
                Client(f"http://{bind}") as client,
                child(
                    ["waitd", "serve"], log=log, environment=variables, python=python, cores=CORES.measured
                ) as process,
            ):
                if ready:
                    await until_ready(process, client, log, PATIENCE)
                yield MeasuredDaemon(process, client, log, spawned_at)
        finally:
            if not keep:
                shutil.rmtree(state, ignore_errors=True)

    async def submit(self, daemon: MeasuredDaemon, endpoint: str, **options: float) -> dict[str, Any]:
        """Runs `waitd.bench.submitter`.

        Returns its result and the daemon's usage meanwhile as `span`.

        Raises:
            RuntimeError: the daemon refused a wait.
        """
        log = self.folder / "submitter.log"
        arguments = ["waitd.bench.submitter", "--url", daemon.client.url, "--target", endpoint]
        for name, value in options.items():
            arguments += [f"--{name.replace('_', '-')}", str(value)]
        before = daemon.usage
        async with child(arguments, log=log, pipe_output=True, cores=CORES.others) as process:
            result = await first_line(process, "The submitter", log)
        if result["statuses"] != {"201": options["count"]}:
            raise RuntimeError(f"The daemon did not accept every wait: {result['statuses']}")
        return {**result, "span": UsageSpan.between(before, daemon.usage)}


@asynccontextmanager
async def open_lab() -> AsyncIterator[Lab]:
    """A lab in a temporary folder."""
    with TemporaryDirectory(prefix="waitd-benchmark-") as folder:
        timeout = aiohttp.ClientTimeout(total=120)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            yield Lab(Path(folder), session)
