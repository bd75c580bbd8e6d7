"""The job servers of a load test: one or more processes that act as one."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson

from waitd.bench.children import JOB_SERVER, job_server
from waitd.bench.job_server import JobServerUrls
from waitd.bench.machine import Cores
from waitd.bench.profiles import ORIGINS, Load, LoadKind, PlannedWait
from waitd.bench.progress_display import ProgressDisplay
from waitd.bench.s3 import MARKER

BUCKET = "landing"
#: Seconds that a job server may take to report on all its jobs.
REPORT_TIMEOUT = 120.0


class FleetSettings(NamedTuple):
    """The number of job servers, the address they listen on, and the module they run."""

    processes: int = 1
    host: str = "127.0.0.1"
    program: str = JOB_SERVER


class BenchContext(NamedTuple):
    """What all parts of a run share."""

    display: ProgressDisplay
    load: Load
    fleet_settings: FleetSettings
    cores: Cores
    folder: Path


class RequestTally(NamedTuple):
    """Counts so far; `gaps` has a count for each bucket of `waitd.bench.job_table.GAPS`."""

    requests: int
    jobs: int
    gaps: Sequence[int]


class Fleet:
    """The running job servers; `pids` are their processes."""

    def __init__(self, servers: Sequence[tuple[int, JobServerUrls]], session: aiohttp.ClientSession) -> None:
        self.pids = [pid for pid, _ in servers]
        self._urls = [urls for _, urls in servers]
        self._session = session

    def endpoint(self, wait: PlannedWait) -> str:
        """The URL of a wait's job."""
        return self._urls[wait.server].urls[wait.origin] + wait.path

    def key(self, wait: PlannedWait) -> str:
        """The key that a wait's job writes at its end."""
        return f"s3://{BUCKET}{wait.path}/{MARKER}"

    @property
    def s3(self) -> Sequence[Sequence[str]]:
        """The S3 endpoints of each server, one for each of its origins."""
        return [urls.s3 for urls in self._urls]

    async def tally(self) -> RequestTally:
        """The counts of all servers, added up."""
        each = [await self._get(urls, "/tally") for urls in self._urls]
        gaps = [sum(counts) for counts in zip(*(tally["gaps"] for tally in each), strict=True)]
        return RequestTally(
            sum(tally["requests"] for tally in each), sum(tally["jobs"] for tally in each), gaps
        )

    async def jobs(self) -> Mapping[str, Mapping[str, Any]]:
        """What became of each job, by path; see `waitd.bench.job_table.JobTable.report`."""
        reports = [await self._get(urls, "/report") for urls in self._urls]
        return {path: job for report in reports for path, job in report["jobs"].items()}

    async def _get(self, urls: JobServerUrls, path: str) -> Any:
        async with self._session.get(urls.urls[0] + path) as response:
            return orjson.loads(await response.read())


@asynccontextmanager
async def running_fleet(context: BenchContext) -> AsyncIterator[Fleet]:
    """Runs the job servers of a load, on the cores where nothing is measured."""
    async with AsyncExitStack() as stack:
        servers = [
            await stack.enter_async_context(
                job_server(
                    ORIGINS,
                    log=context.folder / f"job-server-{n}.log",
                    with_s3=context.load.kind is not LoadKind.HTTP,
                    host=context.fleet_settings.host,
                    cores=context.cores.others,
                    program=context.fleet_settings.program,
                )
            )
            for n in range(context.fleet_settings.processes)
        ]
        timeout = aiohttp.ClientTimeout(total=REPORT_TIMEOUT)
        yield Fleet(servers, await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout)))
