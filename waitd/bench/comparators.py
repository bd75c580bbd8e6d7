"""The same load on what waitd is compared with: a program each, started, watched and held to account the same way."""

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
from waitd.bench.machine import ProcessUsage, sockets_of
from waitd.bench.measurement import LoadMeasurement, take_snapshot
from waitd.bench.profiles import ON_404, LoadKind, PlannedWait, plan_waits
from waitd.bench.report import Comparison
from waitd.bench.submitting import REQUEST_TIMEOUT

#: How long a program may take until it is ready to take the waits, in seconds.
STARTING = 300.0
#: And how long until it has ended, once it is told to.
LEAVING = 20.0
#: A file of ours that runs on Airflow's own interpreter, where waitd need not be installed.
AIRFLOW_PROGRAM = Path(__file__).parent / "airflow" / "triggers.py"


class Comparator(NamedTuple):
    """What the load is put on.

    Attributes:
        name: for people.
        python: what its program is run with.
        replaced: behaviours by what its jobs do instead, because it could not wait for them otherwise.
        note: what else to know.
    """

    name: str
    python: Sequence[str]
    replaced: Mapping[str, str] | None = None
    note: str = ""


TASKS = Comparator(
    "a task and a client per wait",
    (sys.executable, "-m", "waitd.bench.task_per_wait"),
    note="asyncio and aiohttp as triggers use them: no store, no delivery",
)


def airflow(python: str) -> Comparator:
    """Airflow's own TriggerRunner on that interpreter."""
    return Comparator(
        "Airflow's TriggerRunner",
        (python, str(AIRFLOW_PROGRAM)),
        replaced=ON_404,
        note="with its supervisor, without a database; jobs answer 404 until they are done, because HttpSensorTrigger knows no other",
    )


async def compare(comparator: Comparator, scene: BenchContext) -> Comparison:
    """Puts the load on it; one that fails is a Comparison that says why."""
    if scene.load.kind is not LoadKind.HTTP:
        return Comparison(comparator.name, None, note="it is compared on --kind http only")
    place = scene.folder / f"comparator-{time.monotonic_ns()}"
    place.mkdir()
    scene = scene._replace(folder=place)
    try:
        async with running_fleet(scene) as fleet:
            return await _ComparisonRun(comparator, scene, fleet).measure()
    except ChildFailed as error:
        return Comparison(comparator.name, None, note=str(error))


class _ComparisonRun:
    """One comparator under the load."""

    def __init__(self, comparator: Comparator, scene: BenchContext, fleet: Fleet) -> None:
        self._comparator = comparator
        self._load = scene.load
        self._cores = scene.cores
        self._fleet = fleet
        self._show = scene.show
        self._log = scene.folder / "log"
        self._waits = scene.folder / "waits"
        self._ends = scene.folder / "ends"
        self._plan = list(plan_waits(scene.load, len(fleet.pids), comparator.replaced))

    async def measure(self) -> Comparison:
        """Starts the program, gives it the waits, watches it as long as waitd was watched, and until all have ended."""
        self._waits.write_bytes(b"\n".join(orjson.dumps(self._line(wait)) for wait in self._plan))
        self._ends.touch()
        files = [str(self._waits), str(self._ends)]
        async with child(
            files, log=self._log, heard=True, cores=self._cores.measured, python=self._comparator.python
        ) as process:
            await self._said(process, "ready", STARTING)
            pids = family_of(process.pid)
            rss_before = ProcessUsage.of_all(pids).rss

            async def system() -> tuple[ProcessUsage, int]:
                return ProcessUsage.of_all(pids), sum(sockets_of(pid) for pid in pids)

            began = time.monotonic()
            if process.stdin is not None:
                process.stdin.write(b"go\n")
            await self._until(process, began + self._load.warm_up)
            before = await take_snapshot(system, self._fleet)
            await self._until(process, max(began + self._load.measured_until, time.monotonic() + 1.0))
            after = await take_snapshot(system, self._fleet)
            await self._until(process, began + self._load.patience, all_ended=True)
            jobs = await self._fleet.jobs()
            await self._leave(process)
        return self._comparison(LoadMeasurement.between(before, after), rss_before, after.tally.jobs, jobs)

    async def _leave(self, process: asyncio.subprocess.Process) -> None:
        """Its standard input ends, and so does it, with what it has started; where it does not, it is killed."""
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

    async def _said(self, process: asyncio.subprocess.Process, word: str, patience: float) -> None:
        try:
            async with asyncio.timeout(patience):
                while process.stdout is not None and (line := await process.stdout.readline()):
                    if line.decode().strip() == word:
                        return
        except TimeoutError:
            raise ChildFailed(
                f"{self._comparator.name} was not {word} after {patience:g} s", self._log
            ) from None
        raise ChildFailed(f"{self._comparator.name} ended before it was {word}", self._log)

    async def _until(
        self, process: asyncio.subprocess.Process, until: float, *, all_ended: bool = False
    ) -> None:
        while time.monotonic() < until:
            if process.returncode is not None:
                raise ChildFailed(f"{self._comparator.name} ended by itself", self._log)
            ended = self._ends.read_bytes().count(b"\n")
            self._show.progress(ended, len(self._plan), f"ends on {self._comparator.name}")
            if all_ended and ended >= len(self._plan):
                return
            await asyncio.sleep(min(0.5, max(0.0, until - time.monotonic())))

    def _comparison(
        self, seen: LoadMeasurement, rss_before: int, started: int, jobs: Mapping[str, Mapping[str, Any]]
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
            seen=seen,
            rss_before=rss_before,
            waits=len(self._plan),
            started=started,
            wrong=sum(wait.path in ends and ends[wait.path][0] != wait.expected for wait in self._plan),
            lost=sum(wait.path not in ends for wait in self._plan),
            detection=detection,
            note=self._comparator.note,
        )


def family_of(pid: int) -> list[int]:
    """A process and whatever it has started."""
    found = [pid]
    for task in Path(f"/proc/{pid}/task").iterdir():
        for started in (task / "children").read_text("utf-8").split():
            found += family_of(int(started))
    return found
