"""Compares the cost of two revisions of waitd in one run.

    python tests/benchmarks/compare_revisions.py 3229241                     the working tree against 3229241
    python tests/benchmarks/compare_revisions.py 3229241 HEAD                HEAD against 3229241
    python tests/benchmarks/compare_revisions.py 3229241 --only poke,batch   two of the figures
    python tests/benchmarks/compare_revisions.py 3229241 --spread            3229241 against itself first
    python tests/benchmarks/compare_revisions.py 3229241 --json > cost.json  for programs; progress goes to stderr

Each pair measures both revisions, one after the other, and swaps their order from pair to pair. The
result is the median of the ratios new / old of all pairs. `--spread` first measures the old revision
against itself: a ratio within that range is noise. Exit code 1: a ratio exceeds `--limit` (1.03).

Figures:
    poke      CPU of the daemon per poke while more pokes are due than it can make
    batch     CPU of the daemon per line of a batch submit
    single    CPU of the daemon per single submit, 64 connections
    memory    resident memory per held wait that was poked once
    restart   CPU of the daemon from its start until 100,000 waits are loaded; `restart_wall` is the
              time that takes, for information only

Both revisions run as `python -m waitd serve` from a copy in a temporary folder and are measured from
outside: over the HTTP API, by `/metrics`, the JSON log and `/proc`. The target and the load generator
come from the tree of this script, for both. The daemon has one core, everything else has another one.
All figures of one pair take about 90 seconds, `poke` about 20. On a busy machine, CPU times grow
together and only ratios mean something; repeat with more pairs what `--spread` shows to be noisy.
"""

import argparse
import asyncio
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tarfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import aiohttp
import orjson
from rich.console import Console
from rich.table import Table

from waitd.bench.children import ChildFailed, child, fleet_process, free_port, stop
from waitd.bench.jobs import path_of
from waitd.bench.machine import Cores, ProcessUsage, machine, open_as_many_files_as_allowed
from waitd.bench.scrape import ScrapedMetrics

ROOT = Path(__file__).parents[2]
SUBMITTER = Path(__file__).parent / "submitter.py"
CORES = Cores.ours()
#: Seconds that a daemon may take to start, to poke each wait once, or to load its store.
PATIENCE = 120.0

POKE_WAITS, POKE_INTERVAL, POKE_WARM_UP, POKE_WINDOW = 10_000, 0.1, 2.0, 5.0
SINGLES, CONNECTIONS = 10_000, 64
LINES, BATCH = 100_000, 10_000
#: Memory per wait is the slope between these numbers of waits.
FEW, MANY = 10_000, 60_000
STORED = 100_000
#: Waits that must not be poked a second time while a figure is taken.
RARELY = 3600.0


class Revision(NamedTuple):
    """A copy of one revision and the interpreter that runs it."""

    name: str
    checkout: Path
    python: str

    @property
    def environment(self) -> dict[str, str]:
        """The environment of its processes: no setting but those of the measurement."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WAITD_")}
        # PYTHONSAFEPATH keeps `-m` from importing the current folder before the checkout.
        return {**inherited, "PYTHONPATH": str(self.checkout), "PYTHONSAFEPATH": "1"}


class RunningDaemon(NamedTuple):
    """A daemon under measurement."""

    process: asyncio.subprocess.Process
    url: str
    log: Path
    spawned_at: float

    @property
    def usage(self) -> ProcessUsage:
        """CPU time and memory so far."""
        return ProcessUsage.of(self.process.pid)


class Rig:
    """The processes of a comparison: one target for all measurements, one daemon at a time."""

    def __init__(self, folder: Path, session: aiohttp.ClientSession, target: str) -> None:
        self.folder = folder
        self._session = session
        self._target = target
        self._runs = 0

    @asynccontextmanager
    async def daemon(self, revision: Revision, state: Path | None = None) -> AsyncIterator[RunningDaemon]:
        """Runs a daemon of `revision`, over a new store unless `state` names one."""
        self._runs += 1
        folder = self.folder / f"run-{self._runs}"
        folder.mkdir()
        log, bind = folder / "log", f"127.0.0.1:{free_port()}"
        environment = revision.environment | {
            "WAITD_STATE_DIR": str(state or folder / "state"),
            "WAITD_BIND": bind,
            "WAITD_LOG_FORMAT": "json",
            "WAITD_CAPACITY": "1000000",
        }
        python = ("taskset", "-c", _list(CORES.measured), revision.python, "-m")
        spawned_at = time.time()
        try:
            async with child(["waitd", "serve"], log=log, environment=environment, python=python) as process:
                daemon = RunningDaemon(process, f"http://{bind}", log, spawned_at)
                if state is None:
                    await self.ready(daemon)
                yield daemon
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    async def ready(self, daemon: RunningDaemon) -> None:
        """Returns when the daemon serves. Raises ChildFailed: it does not."""
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit and daemon.process.returncode is None:
            try:
                async with self._session.get(daemon.url + "/readyz") as response:
                    if response.status == 200:
                        return
            except aiohttp.ClientConnectionError:
                pass
            await asyncio.sleep(0.05)
        raise ChildFailed("the daemon did not start", daemon.log)

    async def metrics(self, daemon: RunningDaemon) -> ScrapedMetrics:
        """The daemon's metrics now."""
        async with self._session.get(daemon.url + "/metrics") as response:
            return ScrapedMetrics.of(await response.text())

    async def pokes(self, daemon: RunningDaemon) -> float:
        """How many pokes the daemon has made."""
        return (await self.metrics(daemon)).total("waitd_pokes_total")

    async def until_poked(self, daemon: RunningDaemon, pokes: int) -> None:
        """Returns when the daemon has made that many pokes. Raises TimeoutError."""
        async with asyncio.timeout(PATIENCE):
            while await self.pokes(daemon) < pokes:  # noqa: ASYNC110 - another process's
                await asyncio.sleep(0.25)

    async def submit(self, daemon: RunningDaemon, behaviour: str, count: int, **options: float) -> None:
        """Submits `count` waits on jobs of that behaviour. Raises RuntimeError: the daemon refused one."""
        target = self._target + path_of(behaviour, 0, f"{self._runs}-{time.monotonic_ns()}")
        arguments = ["--url", daemon.url, "--target", target, "--count", str(count)]
        for name, value in options.items():
            arguments += [f"--{name.replace('_', '-')}", str(value)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        log, python = self.folder / "submitter.log", (sys.executable,)
        async with child(
            [str(SUBMITTER), *arguments], log=log, environment=environment, heard=True, python=python
        ) as process:
            line = await process.stdout.readline() if process.stdout else b""
        if not line:
            raise ChildFailed("the load generator failed", log)
        if (statuses := orjson.loads(line)["statuses"]) != {"201": count}:
            raise RuntimeError(f"the daemon did not accept all {count:,} waits: {statuses}")


class Stores:
    """Stores with 100,000 waits, one for each revision, which are filled once."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig
        self._filled: dict[Path, Path] = {}

    async def copy(self, revision: Revision) -> Path:
        """A fresh copy of the revision's store."""
        if revision.checkout not in self._filled:
            say(f"filling a store with {STORED:,} waits by {revision.name}")
            state = self._rig.folder / f"store-{len(self._filled)}"
            async with self._rig.daemon(revision, state) as daemon:
                await self._rig.ready(daemon)
                await self._rig.submit(
                    daemon, "endless", STORED, batch=BATCH, connections=1, poke_interval=RARELY
                )
                await self._rig.until_poked(daemon, STORED)
                await stop(daemon.process)
            self._filled[revision.checkout] = state
        copy = self._rig.folder / "restarted"
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(self._filled[revision.checkout], copy)
        return copy


async def measure_poke(rig: Rig, revision: Revision, _: Stores) -> Sequence[float]:
    """CPU per poke at saturation, in microseconds."""
    async with rig.daemon(revision) as daemon:
        await rig.submit(
            daemon, "endless", POKE_WAITS, batch=BATCH, connections=1, poke_interval=POKE_INTERVAL
        )
        await asyncio.sleep(POKE_WARM_UP)
        pokes, before = await rig.pokes(daemon), daemon.usage
        await asyncio.sleep(POKE_WINDOW)
        after, metrics = daemon.usage, await rig.metrics(daemon)
        if not metrics.total("waitd_waits_overdue"):
            say("the daemon was not saturated: CPU per poke is that of a daemon with idle time")
        return [(after.cpu - before.cpu) / (metrics.total("waitd_pokes_total") - pokes) * 1e6]


async def measure_batch(rig: Rig, revision: Revision, _: Stores) -> Sequence[float]:
    """CPU per line of a batch, in microseconds; the target hangs, so that no poke is finished meanwhile."""
    async with rig.daemon(revision) as daemon:
        before = daemon.usage
        await rig.submit(daemon, "dead", LINES, batch=BATCH, connections=1)
        return [(daemon.usage.cpu - before.cpu) / LINES * 1e6]


async def measure_single(rig: Rig, revision: Revision, _: Stores) -> Sequence[float]:
    """CPU per single submit, in microseconds; the target hangs."""
    async with rig.daemon(revision) as daemon:
        before = daemon.usage
        await rig.submit(daemon, "dead", SINGLES, connections=CONNECTIONS)
        return [(daemon.usage.cpu - before.cpu) / SINGLES * 1e6]


async def measure_memory(rig: Rig, revision: Revision, _: Stores) -> Sequence[float]:
    """Resident bytes per held wait, as the slope between FEW and MANY waits."""
    sizes, held = [], 0
    async with rig.daemon(revision) as daemon:
        for count in (FEW, MANY):
            await rig.submit(
                daemon, "endless", count - held, batch=BATCH, connections=1, poke_interval=RARELY
            )
            await rig.until_poked(daemon, held := count)
            sizes.append(await _settled_rss(daemon))
    return [(sizes[1] - sizes[0]) / (MANY - FEW)]


async def _settled_rss(daemon: RunningDaemon, patience: float = 8.0) -> int:
    limit, sizes = time.monotonic() + patience, [0, 1, 2]
    while time.monotonic() < limit and len(set(sizes[-3:])) > 1:
        await asyncio.sleep(0.5)
        sizes.append(daemon.usage.rss)
    return sizes[-1]


async def measure_restart(rig: Rig, revision: Revision, stores: Stores) -> Sequence[float]:
    """CPU seconds from the start of the process until all waits are loaded, and how long that takes."""
    async with rig.daemon(revision, await stores.copy(revision)) as daemon:
        limit = time.monotonic() + PATIENCE
        while time.monotonic() < limit and daemon.process.returncode is None:
            lines = daemon.log.read_bytes().splitlines(keepends=True)
            if any(_says_all_loaded(line) for line in lines):
                return [daemon.usage.cpu, time.time() - daemon.spawned_at]
            await asyncio.sleep(0.005)
        raise ChildFailed(f"the daemon did not log that it loaded {STORED} waits", daemon.log)


def _says_all_loaded(line: bytes) -> bool:
    """Whether a log line has the number of waits in it, whatever its event and field are called."""
    if not line.startswith(b"{") or not line.endswith(b"\n"):
        return False
    return any(value == STORED for value in orjson.loads(line).values() if not isinstance(value, bool))


class Measurement(NamedTuple):
    """One way to measure a revision.

    Attributes:
        figures: names of the values that it returns, each with its unit.
        measure: takes the figures of one revision once.
    """

    figures: Mapping[str, str]
    measure: Callable[[Rig, Revision, Stores], Awaitable[Sequence[float]]]


MEASUREMENTS: Mapping[str, Measurement] = {
    "poke": Measurement({"poke": "µs CPU"}, measure_poke),
    "batch": Measurement({"batch": "µs CPU a line"}, measure_batch),
    "single": Measurement({"single": "µs CPU"}, measure_single),
    "memory": Measurement({"memory": "bytes a wait"}, measure_memory),
    "restart": Measurement({"restart": "s CPU", "restart_wall": "s"}, measure_restart),
}
#: Figures that depend on what else the machine does.
UNJUDGED = frozenset({"restart_wall"})


class Compared(NamedTuple):
    """A figure of two revisions, pair by pair."""

    name: str
    unit: str
    old: list[float]
    new: list[float]

    @property
    def ratios(self) -> list[float]:
        """New / old of each pair."""
        return [new / old for old, new in zip(self.old, self.new, strict=True)]

    @property
    def ratio(self) -> float:
        """The median of the ratios."""
        return statistics.median(self.ratios)


async def compare(
    rig: Rig, stores: Stores, names: Sequence[str], pairs: int, old: Revision, new: Revision
) -> dict[str, Compared]:
    """Measures both revisions `pairs` times, in alternating order."""
    results = {
        name: Compared(name, unit, [], [])
        for key in names
        for name, unit in MEASUREMENTS[key].figures.items()
    }
    for pair in range(pairs):
        for key in names:
            sides = [(0, old), (1, new)]
            values: dict[int, Sequence[float]] = {}
            for side, revision in sides if pair % 2 == 0 else reversed(sides):
                values[side] = await MEASUREMENTS[key].measure(rig, revision, stores)
            for n, name in enumerate(MEASUREMENTS[key].figures):
                result = results[name]
                result.old.append(values[0][n])
                result.new.append(values[1][n])
                say(
                    f"pair {pair + 1} of {pairs}, {name}: {old.name} {result.old[-1]:,.4g}, {new.name} {result.new[-1]:,.4g} "
                    f"{result.unit}; ratio {result.ratios[-1]:.3f}"
                )
    return results


def checkout(revision: str | None, folder: Path, python: str) -> Revision:
    """Copies the code of a revision, or of the working tree for None, to a folder and compiles it."""
    folder.mkdir()
    if revision is None:
        name = "working tree"
        shutil.copytree(ROOT / "waitd", folder / "waitd", ignore=shutil.ignore_patterns("__pycache__"))
    else:
        name = _output("git", "rev-parse", "--short", f"{revision}^{{commit}}").decode().strip()
        archive = _output("git", "archive", "--format=tar", name, "waitd")
        with tarfile.open(fileobj=BytesIO(archive)) as tar:
            tar.extractall(folder, filter="data")
    copy = Revision(name, folder, python)
    _output(python, "-m", "compileall", "-q", str(folder))
    imported = _output(python, "-c", "import waitd; print(waitd.__file__)", environment=copy.environment)
    if not imported.startswith(str(folder).encode()):
        raise SystemExit(f"{python} imports waitd from {imported.decode().strip()}, not from the checkout")
    return copy


def _output(*command: str, environment: Mapping[str, str] | None = None) -> bytes:
    done = subprocess.run(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed with exit code {done.returncode}")
    return done.stdout


def _list(cores: frozenset[int]) -> str:
    return ",".join(map(str, sorted(cores)))


def say(text: str) -> None:
    """Prints progress on standard error."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


class Outcome(NamedTuple):
    """What a run found; `spread` compares the old revision with itself and is empty unless requested."""

    old: str
    new: str
    results: Mapping[str, Compared]
    spread: Mapping[str, Compared]

    def as_json(self) -> dict[str, Any]:
        """Everything, for programs."""
        return {
            "machine": machine(),
            "old": self.old,
            "new": self.new,
            "figures": [
                {
                    **result._asdict(),
                    "ratios": result.ratios,
                    "ratio": result.ratio,
                    "spread": self.spread[name].ratios if name in self.spread else None,
                }
                for name, result in self.results.items()
            ],
        }

    def table(self, limit: float) -> Table:
        """Everything, for people."""
        table = Table(
            "figure", self.old, self.new, "unit", "ratio", "of all pairs", "spread of old", f"≤ {limit:g}"
        )
        for name, result in self.results.items():
            spread = self.spread.get(name)
            table.add_row(
                name,
                f"{statistics.median(result.old):,.4g}",
                f"{statistics.median(result.new):,.4g}",
                result.unit,
                f"{result.ratio:.3f}",
                _range(result.ratios),
                _range(spread.ratios) if spread else "",
                "" if name in UNJUDGED else "yes" if result.ratio <= limit else "NO",
            )
        return table


def _range(ratios: Sequence[float]) -> str:
    return f"{min(ratios):.3f} to {max(ratios):.3f}"


async def run(options: argparse.Namespace) -> Outcome:
    """Compares the revisions that the command line names."""
    open_as_many_files_as_allowed()
    os.sched_setaffinity(0, CORES.others)
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(TemporaryDirectory(prefix="waitd-compare-")))
        old, new = (
            checkout(name, folder / side, options.python)
            for side, name in (("old", options.old), ("new", options.new))
        )
        timeout = aiohttp.ClientTimeout(total=60)
        session = await stack.enter_async_context(aiohttp.ClientSession(timeout=timeout))
        _, urls = await stack.enter_async_context(
            fleet_process(1, log=folder / "target.log", cores=CORES.others)
        )
        rig = Rig(folder, session, urls.urls[0])
        stores, spread = Stores(rig), {}
        if options.spread:
            again = Revision(f"{old.name} again", old.checkout, old.python)
            spread = await compare(rig, stores, options.only, options.pairs, old, again)
        results = await compare(rig, stores, options.only, options.pairs, old, new)
    return Outcome(old.name, new.name, results, spread)


def figure_names(text: str) -> list[str]:
    """Parses `poke,batch`. Raises argparse.ArgumentTypeError."""
    names = text.split(",")
    if unknown := [name for name in names if name not in MEASUREMENTS]:
        raise argparse.ArgumentTypeError(f"{unknown[0]} is none of {', '.join(MEASUREMENTS)}")
    return names


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("old", metavar="OLD", help="the revision to compare with")
    parser.add_argument(
        "new", metavar="NEW", nargs="?", help="the revision to measure (default: working tree)"
    )
    parser.add_argument(
        "--only",
        type=figure_names,
        default=list(MEASUREMENTS),
        metavar="NAMES",
        help=f"figures to take, separated by commas: {', '.join(MEASUREMENTS)} (default: all)",
    )
    parser.add_argument("--pairs", type=int, default=5, help="how many pairs (default: 5)")
    parser.add_argument("--spread", action="store_true", help="measure the old revision against itself first")
    parser.add_argument("--limit", type=float, default=1.03, help="the highest good ratio (default: 1.03)")
    parser.add_argument("--python", default=sys.executable, help="the interpreter that runs both daemons")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: ends the child processes
    outcome = asyncio.run(run(options))
    if options.json:
        print(orjson.dumps(outcome.as_json(), option=orjson.OPT_INDENT_2).decode())
    else:
        Console(width=None if sys.stdout.isatty() else 140).print(outcome.table(options.limit))
    judged = (result for name, result in outcome.results.items() if name not in UNJUDGED)
    sys.exit(any(result.ratio > options.limit for result in judged))


if __name__ == "__main__":
    main()
