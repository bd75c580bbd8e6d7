"""The job servers of a load test: one or more processes that act as one."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

from waitd.bench.children import JOB_SERVER, JobServer, job_server
from waitd.bench.machine import Cores
from waitd.bench.profiles import ORIGINS, Load, LoadKind, PlannedWait
from waitd.bench.progress_display import ProgressDisplay
from waitd.bench.s3 import MARKER

BUCKET = "landing"


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


class Fleet(NamedTuple):
    """The running job servers."""

    servers: Sequence[JobServer]

    @property
    def pids(self) -> Sequence[int]:
        """Their process ids."""
        return [server.pid for server in self.servers]

    def endpoint(self, wait: PlannedWait) -> str:
        """The URL of a wait's job."""
        return self.servers[wait.server].urls[wait.origin] + wait.path

    def key(self, wait: PlannedWait) -> str:
        """The key that a wait's job writes at its end."""
        return f"s3://{BUCKET}{wait.path}/{MARKER}"

    async def tally(self) -> RequestTally:
        """The counts of all servers, added up."""
        each = [await server.get("/tally") for server in self.servers]
        gaps = [sum(counts) for counts in zip(*(tally["gaps"] for tally in each), strict=True)]
        return RequestTally(
            sum(tally["requests"] for tally in each), sum(tally["jobs"] for tally in each), gaps
        )

    async def jobs(self) -> Mapping[str, Mapping[str, Any]]:
        """What became of each job, by path; see `waitd.bench.job_table.JobTable.report`."""
        reports = [await server.get("/report") for server in self.servers]
        return {path: job for report in reports for path, job in report["jobs"].items()}


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
        yield Fleet(servers)
