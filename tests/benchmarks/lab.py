"""Runs a daemon and a target on separate cores, loads the daemon, and measures both.

The daemon has one core. The target and the script that loads and measures share the others.
"""

import asyncio
import os
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import orjson
from minimal_client import MinimalClient

from waitd.bench.children import ChildFailed, JobServer, daemon, free_port, job_server
from waitd.bench.jobs import CONDITIONS, job_path
from waitd.bench.machine import Cores, ProcessUsage, UsageSpan, raise_file_limit
from waitd.bench.quantiles import bucket_quantile
from waitd.bench.sampler import LATENESS, ScrapedMetrics
from waitd.client import Client, batch_body

CORES = Cores.split()
#: Lines per batch.
BATCH = 10_000
#: Seconds within which a daemon must reach an expected state.
PATIENCE = 180.0
POKES = "waitd_pokes_total"


def say(text: str) -> None:
    """Prints progress on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def use_other_cores() -> None:
    """Moves this process off the daemon's core and raises its limit of open files."""
    raise_file_limit()
    os.sched_setaffinity(0, CORES.others)


def sensor_wait(endpoint: str, *, poke_interval: float) -> dict[str, Any]:
    """The body of a wait as a DAG sends it: conditions, labels and one webhook."""
    number = endpoint.rpartition("/")[2]
    return {
        "kind": "http",
        "params": {"endpoint": endpoint, **CONDITIONS},
        "poke_interval": poke_interval,
        "timeout": 86_400.0,
        "sinks": [{"kind": "webhook", "url": "http://127.0.0.1:9/never-called"}],
        "labels": {"dag_id": "benchmark", "run_id": "manual__2025", "task_id": "wait", "map_index": number},
    }


def waits_on(
    target: JobServer,
    count: int,
    poke_interval: float,
    *,
    name: str = "",
    behaviour: str = "endless",
    origin: int = 0,
) -> Iterator[dict[str, Any]]:
    """Waits on as many jobs, so that no two share a request; without a name, on new jobs."""
    name = name or str(time.monotonic_ns())
    for n in range(count):
        endpoint = target.urls[origin] + job_path(behaviour, 0, f"{name}-{n}")
        yield sensor_wait(endpoint, poke_interval=poke_interval)


@asynccontextmanager
async def running_target(origins: int = 1, *, with_s3: bool = False) -> AsyncIterator[JobServer]:
    """A job server to poke."""
    with TemporaryDirectory(prefix="waitd-target-") as folder:
        log = Path(folder) / "log"
        async with job_server(origins, log=log, with_s3=with_s3, cores=CORES.others) as target:
            yield target


class SubmitCost(NamedTuple):
    """The seconds of each request, what the daemon used meanwhile, and the client's CPU seconds."""

    seconds: Sequence[float]
    daemon: UsageSpan
    client_cpu: float


class MeasuredDaemon(NamedTuple):
    """A daemon in a child process."""

    process: asyncio.subprocess.Process
    client: Client
    log: Path

    @property
    def usage(self) -> ProcessUsage:
        """CPU time and memory so far."""
        return ProcessUsage.from_pid(self.process.pid)

    async def until_logged(self, matches: Callable[[Mapping[str, Any]], bool]) -> dict[str, Any]:
        """Waits for the first matching log event. Raises ChildFailed if there is none."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit and self.process.returncode is None:
            for line in self.log.read_bytes().splitlines(keepends=True):
                if line.startswith(b"{") and line.endswith(b"\n") and matches(event := orjson.loads(line)):
                    return dict(event)
            await asyncio.sleep(0.005)
        raise ChildFailed("The daemon did not log an expected event", self.log)

    async def submit(self, waits: Iterable[Mapping[str, Any]]) -> SubmitCost:
        """Submits waits in batches, one after the other. Raises RuntimeError: one was refused."""
        lines = [batch_body([wait]) for wait in waits]
        batches = [b"".join(lines[n : n + BATCH]) for n in range(0, len(lines), BATCH)]
        cost, answers = await self._send(batches, [self.client.send_batch])
        results = [result for answer in answers for result in self.client.batch_answers(answer)]
        if refused := [result for result in results if result["status"] != 201]:
            raise RuntimeError(f"The daemon refused a wait: {refused[0]}")
        return cost

    async def submit_singly(self, waits: Iterable[Mapping[str, Any]], connections: int) -> SubmitCost:
        """Submits each wait by a request of its own. Raises RuntimeError: one was refused."""
        host = self.client.url.removeprefix("http://")
        head = (
            f"POST /v1/waits HTTP/1.1\r\nHost: {host}\r\nContent-Type: application/json\r\nContent-Length: "
        )
        bodies = [orjson.dumps(wait) for wait in waits]
        requests = [f"{head}{len(body)}\r\n\r\n".encode() + body for body in bodies]
        clients = [await MinimalClient.connect(self.client.url) for _ in range(connections)]
        cost, answers = await self._send(requests, [client.request for client in clients])
        for client in clients:
            client.close()
        if refused := [answer for answer in answers if not answer.startswith(b"HTTP/1.1 201")]:
            raise RuntimeError(f"The daemon refused a wait: {refused[0]!r}")
        return cost

    async def _send(
        self, requests: Sequence[bytes], senders: Sequence[Callable[[bytes], Awaitable[bytes]]]
    ) -> tuple[SubmitCost, Sequence[bytes]]:
        """Each sender sends the next request when its previous one is answered."""
        remaining = iter(requests)
        seconds: list[float] = []
        answers: list[bytes] = []

        async def send_all(send: Callable[[bytes], Awaitable[bytes]]) -> None:
            for request in remaining:
                started = time.perf_counter()
                answers.append(await send(request))
                seconds.append(time.perf_counter() - started)

        before, cpu = self.usage, time.process_time()
        await asyncio.gather(*map(send_all, senders))
        span = UsageSpan.between(before, self.usage)
        return SubmitCost(seconds, span, time.process_time() - cpu), answers

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

    async def rss_at(self, target: JobServer, sizes: Sequence[int]) -> list[int]:
        """Its resident memory in bytes at each number of held waits, all of them poked once."""
        sizes_in_bytes, held = [], 0
        for size in sizes:
            say(f"holding {size:,} waits with an interval of 1 h, each poked once")
            await self.submit(waits_on(target, size - held, 3600.0))
            held = size
            await self.until_poked(held)
            sizes_in_bytes.append(await self.settled_rss())
        return sizes_in_bytes


@asynccontextmanager
async def running_daemon(
    *,
    python: Sequence[str] = (sys.executable, "-m"),
    environment: Mapping[str, str] | None = None,
    **settings: object,
) -> AsyncIterator[MeasuredDaemon]:
    """A daemon, over a new store unless `settings` have a `state_dir`.

    Args:
        python: starts its command line.
        environment: variables in addition to this process's own.
        settings: settings in addition to those of the lab.
    """
    with TemporaryDirectory(prefix="waitd-benchmark-") as folder:
        log, bind = Path(folder) / "log", f"127.0.0.1:{free_port()}"
        fixed = {
            "state_dir": Path(folder) / "state",
            "bind": bind,
            "log_format": "json",
            "capacity": 1_000_000,
        }
        async with (
            Client(f"http://{bind}", timeout=PATIENCE) as client,
            daemon(
                fixed | settings,
                client,
                log=log,
                environment=environment,
                patience=PATIENCE,
                cores=CORES.measured,
                python=python,
            ) as process,
        ):
            yield MeasuredDaemon(process, client, log)


class Window(NamedTuple):
    """What a daemon and its target did between two moments."""

    daemon: UsageSpan
    target: UsageSpan
    before: ScrapedMetrics
    after: ScrapedMetrics

    def increase(self, name: str) -> float:
        """The increase of a metric, over all its labels."""
        return self.after.total(name) - self.before.total(name)

    @property
    def pokes(self) -> float:
        """The number of pokes."""
        return self.increase(POKES)

    @property
    def rate(self) -> float:
        """Pokes per second."""
        return self.pokes / self.daemon.wall

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


async def measure_window(daemon: MeasuredDaemon, target: JobServer, seconds: float) -> Window:
    """Measures a daemon and its target for so many seconds."""
    before, daemon_before = await daemon.metrics(), daemon.usage
    target_before = ProcessUsage.from_pid(target.pid)
    await asyncio.sleep(seconds)
    after, daemon_after = await daemon.metrics(), daemon.usage
    return Window(
        UsageSpan.between(daemon_before, daemon_after),
        UsageSpan.between(target_before, ProcessUsage.from_pid(target.pid)),
        before,
        after,
    )


async def saturate(
    daemon: MeasuredDaemon, target: JobServer, *, warm_up: float = 3.0, seconds: float = 10.0
) -> Window:
    """Measures a daemon while ten times as many pokes are due as it can make."""
    await daemon.submit(waits_on(target, 10_000, 0.1))
    await asyncio.sleep(warm_up)
    return await measure_window(daemon, target, seconds)
