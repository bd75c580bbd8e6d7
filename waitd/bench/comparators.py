"""Puts the same load on other systems and measures them in the same way."""

import asyncio
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import orjson

from waitd.bench.children import ChildFailed, child
from waitd.bench.fleet import BenchContext, Fleet, running_fleet
from waitd.bench.machine import ProcessUsage, count_sockets, descendants
from waitd.bench.measurement import LoadMeasurement, take_snapshot
from waitd.bench.profiles import ON_404, LoadKind, PlannedWait, plan_waits
from waitd.bench.report import Comparison
from waitd.bench.submitting import REQUEST_TIMEOUT

#: Seconds within which a comparator must be ready.
STARTING = 300.0
#: Seconds within which it must exit after its standard input ends.
LEAVING = 20.0
#: A program that runs on Airflow's interpreter and does not import waitd.
AIRFLOW_PROGRAM = Path(__file__).parent / "airflow" / "triggers.py"


class Comparator(NamedTuple):
    """A system to compare with.

    Attributes:
        name: its name, for people.
        python: the command line that starts it.
        replaced: replacements for behaviours that it cannot wait for.
        note: a remark, for people.
    """

    name: str
    python: Sequence[str]
    replaced: Mapping[str, str] | None = None
    note: str = ""


TASKS = Comparator(
    "a task and a client per wait",
    (sys.executable, "-m", "waitd.bench.task_per_wait"),
    note="asyncio and aiohttp as triggers use them; no store, no delivery",
)


def airflow(python: str) -> Comparator:
    """Airflow's own TriggerRunner, on this interpreter."""
    return Comparator(
        "Airflow's TriggerRunner",
        (python, str(AIRFLOW_PROGRAM)),
        replaced=ON_404,
        note="with its supervisor, without a database; jobs answer 404 until they end, because HttpSensorTrigger supports nothing else",
    )


async def compare(comparator: Comparator, context: BenchContext) -> Comparison:
    """Puts the load on a comparator; if it fails, the result says why."""
    if context.load.kind is not LoadKind.HTTP:
        return Comparison(comparator.name, None, note="compared with --kind http only")
    folder = context.folder / f"comparator-{time.monotonic_ns()}"
    folder.mkdir()
    context = context._replace(folder=folder)
    try:
        async with running_fleet(context) as fleet:
            return await _ComparisonRun(comparator, context, fleet).measure()
    except ChildFailed as error:
        return Comparison(comparator.name, None, note=str(error))


class _ComparisonRun:
    """One comparator under the load."""

    def __init__(self, comparator: Comparator, context: BenchContext, fleet: Fleet) -> None:
        self._comparator = comparator
        self._load = context.load
        self._cores = context.cores
        self._fleet = fleet
        self._display = context.display
        self._log = context.folder / "log"
        self._waits = context.folder / "waits"
        self._ends = context.folder / "ends"
        self._plan = list(plan_waits(context.load, len(fleet.servers), comparator.replaced))

    async def measure(self) -> Comparison:
        """Runs the comparator with all waits, and measures it in the same window as waitd."""
        self._waits.write_bytes(b"\n".join(orjson.dumps(self._line(wait)) for wait in self._plan))
        self._ends.touch()
        files = [str(self._waits), str(self._ends)]
        async with child(
            files, log=self._log, pipe_output=True, cores=self._cores.measured, python=self._comparator.python
        ) as process:
            await self._until_ready(process)
            pids = [process.pid, *descendants(process.pid)]
            rss_before = ProcessUsage.sum_of(pids).rss

            async def system_usage() -> tuple[ProcessUsage, int]:
                return ProcessUsage.sum_of(pids), sum(count_sockets(pid) for pid in pids)

            started = time.monotonic()
            if process.stdin is not None:
                process.stdin.write(b"go\n")
            await self._until(process, started + self._load.warm_up)
            before = await take_snapshot(system_usage, self._fleet)
            await self._until(process, max(started + self._load.measured_until, time.monotonic() + 1.0))
            after = await take_snapshot(system_usage, self._fleet)
            await self._until(process, started + self._load.patience, all_ended=True)
            jobs = await self._fleet.jobs()
            await self._end(process)
        return self._comparison(LoadMeasurement.between(before, after), rss_before, after.tally.jobs, jobs)

    async def _end(self, process: asyncio.subprocess.Process) -> None:
        """Ends standard input and waits for the exit.

        A process that does not exit is killed by `child`.
        """
        if process.stdin is not None:
            process.stdin.close()
        with suppress(TimeoutError):
            async with asyncio.timeout(LEAVING):
                await process.wait()

    def _line(self, wait: PlannedWait) -> dict[str, Any]:
        return {
            "endpoint": self._fleet.endpoint(wait),
            "path": wait.path,
            "poke_interval": self._load.poke_interval,
            "timeout": wait.timeout,
            "request_timeout": REQUEST_TIMEOUT,
        }

    async def _until_ready(self, process: asyncio.subprocess.Process) -> None:
        name = self._comparator.name
        try:
            async with asyncio.timeout(STARTING):
                while process.stdout is not None and (line := await process.stdout.readline()):
                    if line.strip() == b"ready":
                        return
        except TimeoutError:
            raise ChildFailed(f"{name} was not ready after {STARTING:g} s", self._log) from None
        raise ChildFailed(f"{name} ended before it was ready", self._log)

    async def _until(
        self, process: asyncio.subprocess.Process, until: float, *, all_ended: bool = False
    ) -> None:
        while time.monotonic() < until:
            if process.returncode is not None:
                raise ChildFailed(f"{self._comparator.name} ended early", self._log)
            ended = self._ends.read_bytes().count(b"\n")
            self._display.progress(ended, len(self._plan), f"waits ended on {self._comparator.name}")
            if all_ended and ended >= len(self._plan):
                return
            await asyncio.sleep(min(0.5, max(0.0, until - time.monotonic())))

    def _comparison(
        self, measured: LoadMeasurement, rss_before: int, started: int, jobs: Mapping[str, Mapping[str, Any]]
    ) -> Comparison:
        ends = {}
        for line in self._ends.read_text("utf-8").splitlines():
            path, state, at = line.split("\t")
            ends[path] = (state, float(at))
        detection = [
            ends[wait.path][1] - done_at
            for wait in self._plan
            if wait.path in ends
            and wait.expected != "timeout"
            and (done_at := jobs.get(wait.path, {}).get("done_at")) is not None
        ]
        return Comparison(
            name=self._comparator.name,
            measured=measured,
            rss_before=rss_before,
            waits=len(self._plan),
            started=started,
            wrong=sum(wait.path in ends and ends[wait.path][0] != wait.expected for wait in self._plan),
            lost=sum(wait.path not in ends for wait in self._plan),
            detection=detection,
            note=self._comparator.note,
        )
