"""Several job servers, each a process of its own, as one; and what they saw."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import orjson

from waitd.bench.children import FLEET, fleet_process
from waitd.bench.job_server import JobServerUrls
from waitd.bench.machine import Cores
from waitd.bench.profiles import ORIGINS, Load, LoadKind, PlannedWait
from waitd.bench.progress_display import ProgressDisplay
from waitd.bench.s3 import MARKER

BUCKET = "landing"
#: Seconds that a fleet may take to tell what became of its jobs.
TELLING = 120.0


class FleetSettings(NamedTuple):
    """How the fleet of a run is set up.

    Attributes:
        processes: of how many processes it is.
        host: on which address they listen.
        program: what they run.
    """

    processes: int = 1
    host: str = "127.0.0.1"
    program: str = FLEET


class BenchContext(NamedTuple):
    """What all parts of a run have in common: who shows it, what is held, by which fleet, on which cores, and where files go."""

    show: ProgressDisplay
    load: Load
    setting: FleetSettings
    cores: Cores
    folder: Path


class RequestTally(NamedTuple):
    """How much was asked so far: requests, jobs, and gaps between two requests about a job (counts as `waitd.bench.job_server.GAPS` says)."""

    requests: int
    jobs: int
    gaps: Sequence[int]


class Fleet:
    """The job servers of a run. `pids`: their processes."""

    def __init__(
        self, processes: Sequence[tuple[int, JobServerUrls]], session: aiohttp.ClientSession
    ) -> None:
        self.pids = [pid for pid, _ in processes]
        self._urls = [urls for _, urls in processes]
        self._session = session

    def endpoint(self, wait: PlannedWait) -> str:
        """The URL of a wait's job."""
        return self._urls[wait.fleet].urls[wait.origin] + wait.path

    def key(self, wait: PlannedWait) -> str:
        """The key that its job writes with its end."""
        return f"s3://{BUCKET}{wait.path}/{MARKER}"

    @property
    def s3(self) -> Sequence[Sequence[str]]:
        """Where each one's keys are, once for each of its origins."""
        return [urls.s3 for urls in self._urls]

    async def tally(self) -> RequestTally:
        """Of all of them, added up."""
        each = [await self._ask(urls, "/tally") for urls in self._urls]
        gaps = [sum(counts) for counts in zip(*(tally["gaps"] for tally in each), strict=True)]
        return RequestTally(
            sum(tally["requests"] for tally in each), sum(tally["jobs"] for tally in each), gaps
        )

    async def jobs(self) -> Mapping[str, Mapping[str, Any]]:
        """What became of each job, by path; see `waitd.bench.job_server.Fleet.report`."""
        reports = [await self._ask(urls, "/report") for urls in self._urls]
        return {path: job for report in reports for path, job in report["jobs"].items()}

    async def _ask(self, urls: JobServerUrls, path: str) -> Any:
        async with self._session.get(urls.urls[0] + path) as answer:
            return orjson.loads(await answer.read())


@asynccontextmanager
async def running_fleet(scene: BenchContext) -> AsyncIterator[Fleet]:
    """A fleet for a load, on the cores where nothing is measured."""
    async with AsyncExitStack() as stack:
        starting = [
            fleet_process(
                ORIGINS,
                log=scene.folder / f"fleet-{n}.log",
                with_s3=scene.load.kind is not LoadKind.HTTP,
                host=scene.setting.host,
                cores=scene.cores.others,
                program=scene.setting.program,
            )
            for n in range(scene.setting.processes)
        ]
        processes = [await stack.enter_async_context(one) for one in starting]
        session = await stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=TELLING))
        )
        yield Fleet(processes, session)
