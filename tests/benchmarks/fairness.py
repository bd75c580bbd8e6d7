"""Measures what a namespace at full speed does to a quiet one beside it.

    python tests/benchmarks/fairness.py                        every storm for 30 s, 20 minutes
    python tests/benchmarks/fairness.py --only submits --seconds 10
    python tests/benchmarks/fairness.py --plot fairness.png    the ratios as a picture
    python tests/benchmarks/fairness.py --only costs           what the checks of a request cost

The quiet namespace submits and reads waits, has waits poked at the storm's origin and events
delivered to the storm's destination. Each storm has a new daemon with default limits, and the quiet
namespace is measured on it first alone and then in the storm. The daemon has one core. Storm,
target and the measuring process share the others: where that is one core, the storm has a low
priority, and the figures in a storm still include what the storm takes of that core.

Memory is the peak in the storm, without what the limits grant: pages of lists and batches in
progress, and the waits that are held.
"""

import argparse
import asyncio
import signal
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, closing
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import orjson
import uvloop
from check_costs import measure_costs
from figures import Figure, print_figures
from lab import CORES, MeasuredDaemon, running_daemon, say, use_other_cores
from storms import ROLES, SECRET, STORM_KEYS, STORMS, Api, wait_on

from waitd.bench.children import ChildFailed, child
from waitd.bench.machine import machine
from waitd.bench.quantiles import quantile
from waitd.core.auth.api_key import format_key
from waitd.core.auth.quotas import DEFAULT_SHARES, PAGE_BYTES, Resource

HERE = Path(__file__).parent
SECONDS = 30.0
#: How much worse a p99 of the quiet namespace may become.
RATIO = 1.2
#: The quiet namespace's calls a second of each kind, its polled waits, and their interval in
#: seconds.
CALLS_PER_SECOND, WAITS, INTERVAL = 25, 25, 1.0
#: How many waits the daemon may hold.
CAPACITY = 100_000
KINDS = ("submit", "read", "lateness", "delivery")


class Quiet:
    """The quiet namespace: its calls, and what the target has seen of its waits."""

    def __init__(self, daemon: MeasuredDaemon, target: str) -> None:
        self._url, self._target, self._target_api = daemon.client.url, target, Api(target, "quiet")
        self._apis = [self._target_api]
        self._ids: list[str] = []
        self._submitted = 0

    def close(self) -> None:
        """Closes its connections."""
        for api in self._apis:
            api.close()

    def _connect(self) -> Api:
        api = Api(self._url, "quiet")
        self._apis.append(api)
        return api

    async def start(self) -> None:
        """Submits the waits that are poked all the time."""
        api = self._connect()
        for n in range(WAITS):
            wait = wait_on(self._target, f"/quiet/poked/{n}", interval=INTERVAL)
            status, answer = await api.call("POST", "/v1/waits", orjson.dumps(wait))
            if status != 201:
                raise RuntimeError(f"The daemon refused a quiet wait: {answer!r}")
            self._ids.append(orjson.loads(answer)["id"])

    async def measure(self, seconds: float) -> Mapping[str, Sequence[float]]:
        """Calls for so many seconds; returns the milliseconds of everything, by kind."""
        await self._target_api.call("GET", "/calls")
        async with asyncio.TaskGroup() as tasks:
            submits = tasks.create_task(self._call_regularly(self._submit, seconds))
            reads = tasks.create_task(self._call_regularly(self._read, seconds))
        await asyncio.sleep(min(1.0, seconds))  # the last events arrive
        _, calls = await self._target_api.call("GET", "/calls")
        lateness, delivery = _seen(orjson.loads(calls))
        return dict(zip(KINDS, (submits.result(), reads.result(), lateness, delivery), strict=True))

    async def _call_regularly(
        self, call: Callable[[Api, int], Awaitable[int]], seconds: float
    ) -> list[float]:
        """Calls at fixed times, on as many connections as that takes; returns milliseconds."""
        idle: list[Api] = []
        answered: list[float] = []

        async def call_once(n: int, due: float) -> None:
            api = idle.pop() if idle else self._connect()
            status = await call(api, n)
            answered.append((time.perf_counter() - due) * 1e3)
            if status not in {200, 201}:
                raise RuntimeError(f"The quiet namespace got a {status}")
            idle.append(api)

        loop = asyncio.get_running_loop()
        started = loop.time()
        async with asyncio.TaskGroup() as tasks:
            for n in range(int(seconds * CALLS_PER_SECOND)):
                due = started + n / CALLS_PER_SECOND
                await asyncio.sleep(max(0.0, due - loop.time()))
                tasks.create_task(call_once(n, time.perf_counter()))
        return answered

    async def _submit(self, api: Api, _: int) -> int:
        """Submits a wait that ends at its first poke, with a webhook to the shared destination."""
        self._submitted += 1
        path = f"/quiet/done/{self._submitted}"
        wait = wait_on(self._target, path, hook=path.replace("done", "hook"))
        status, _answer = await api.call("POST", "/v1/waits", orjson.dumps(wait))
        return status

    async def _read(self, api: Api, n: int) -> int:
        status, _answer = await api.call("GET", f"/v1/waits/{self._ids[n % len(self._ids)]}")
        return status


def _seen(calls: Sequence[tuple[float, str]]) -> tuple[list[float], list[float]]:
    """How late the pokes were, and how long after an end its event came, in milliseconds."""
    times: defaultdict[str, list[float]] = defaultdict(list)
    for at, path in calls:
        times[path].append(at)
    lateness, delivery = [], []
    for path, moments in list(times.items()):
        if "/poked/" in path:
            since = [moment - moments[0] for moment in moments]
            offsets = [seconds - round(seconds / INTERVAL) * INTERVAL for seconds in since]
            gaps = [0.0, *(after - before - INTERVAL for before, after in pairwise(since))]
            first = min(offsets)
            lateness += [max(offset - first, gap) * 1e3 for offset, gap in zip(offsets, gaps, strict=True)]
        elif "/done/" in path:
            delivery += [(hook - moments[0]) * 1e3 for hook in times[path.replace("done", "hook")][:1]]
    return lateness, delivery


class Result(NamedTuple):
    """What one storm did to the quiet namespace.

    Attributes:
        alone: milliseconds by kind before the storm.
        stormy: the same during the storm.
        rss: the daemon's memory before and at most during the storm, in bytes.
        budget: what the limits allow of that for pages of lists and for batches, in bytes.
        held: by how many waits it held more, before and after the storm at most, and their memory.
        disk: by how many bytes the state directory grew.
        answers: the statuses that the storm got.
    """

    alone: Mapping[str, Sequence[float]]
    stormy: Mapping[str, Sequence[float]]
    rss: tuple[int, int]
    budget: int
    held: tuple[int, float]
    disk: int
    answers: Mapping[str, int]

    def figures(self, name: str) -> list[Figure]:
        """The figures of the storm."""
        figures = []
        for kind in KINDS:
            before, during = (quantile(values[kind], 0.99) for values in (self.alone, self.stormy))
            note = f"p99 {before:.1f} → {during:.1f} ms; p50 {quantile(self.alone[kind], 0.5):.1f} → {quantile(self.stormy[kind], 0.5):.1f} ms"
            figures.append(
                Figure(f"{name}: {kind}", during / before if before else 0.0, "x", RATIO, note=note)
            )
        (idle, most), (held, held_bytes) = self.rss, self.held
        memory = f"{idle >> 20} → {most >> 20} MiB without {self.budget >> 20} MiB for pages and batches"
        if held > 0:
            memory += f" and {held_bytes / 2**20:.0f} MiB for {held:,} waits that it holds more"
        sent = ", ".join(f"{count:,} x {status}" for status, count in sorted(self.answers.items()))
        note = f"{memory}; disk +{self.disk / 1e6:.1f} MB; {sent}"
        ratio = (most - self.budget - max(0.0, held_bytes)) / idle
        figures.append(Figure(f"{name}: memory", ratio, "x", RATIO, note=note))
        return figures


def memory_budget(name: str) -> int:
    """How many bytes of pages and of batches the default limits let a storm have in progress.

    Those are as many lists as may be read at the same time, with a page each, or as many batches
    as may be stored, with the body that the storm sends.
    """
    storm = STORMS[name]
    request = storm.request(0, [""], "http://127.0.0.1:65535")
    if request["path"].startswith("/v1/waits:batch"):
        resource, size = Resource.BATCHES, len(request["body"])
    elif request["path"].startswith("/v1/waits?"):
        resource, size = Resource.READS, PAGE_BYTES
    else:
        return 0
    share = DEFAULT_SHARES[resource]
    return int(min(storm.connections, share.namespace, len(STORM_KEYS) * share.principal)) * size


class PeakMemory:
    """The most memory that a process had since this was made, as Linux counts it."""

    def __init__(self, pid: int) -> None:
        self._proc = Path(f"/proc/{pid}")
        (self._proc / "clear_refs").write_text("5", "utf-8")

    @property
    def rss(self) -> int:
        """In bytes."""
        status = (self._proc / "status").read_text("utf-8")
        return int(status.partition("VmHWM:")[2].split()[0]) * 1024


async def _held(daemon: MeasuredDaemon) -> tuple[int, float]:
    """How many waits the daemon holds, and their memory in bytes."""
    metrics = await daemon.metrics()
    held = CAPACITY - int(metrics.total("waitd_capacity_left"))
    return held, held * metrics.total("waitd_resident_bytes_per_wait")


def _size(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


@asynccontextmanager
async def _storms(*arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    python = (sys.executable, str(HERE / "storms.py"))
    with TemporaryDirectory(prefix="waitd-storm-") as folder:
        async with child(
            arguments, log=Path(folder) / "log", pipe_output=True, cores=CORES.others, python=python
        ) as process:
            yield process


async def _line(process: asyncio.subprocess.Process) -> bytes:
    line = await process.stdout.readline() if process.stdout else b""
    if not line:
        raise ChildFailed("A storm failed", Path("its log"))
    return line.strip()


async def run_storm(name: str, seconds: float) -> Result:
    """Measures the quiet namespace alone, and in a storm."""
    say(f"storm {name}")
    with TemporaryDirectory(prefix="waitd-fairness-") as folder:
        keys, state = Path(folder) / "keys", Path(folder) / "state"
        keys.write_text(
            "".join(f"{format_key(key, SECRET)} {role} {where}\n" for key, (role, where) in ROLES.items())
        )
        settings: dict[str, Any] = {
            "api_keys_file": keys,
            "state_dir": state,
            "open_metrics": "true",
            "capacity": CAPACITY,
        }
        async with (
            _storms("target") as target_process,
            running_daemon(**settings) as daemon,
            AsyncExitStack() as stack,
        ):
            target = (await _line(target_process)).decode()
            quiet = stack.enter_context(closing(Quiet(daemon, target)))
            await quiet.start()
            await quiet.measure(min(seconds, 2.0))  # caches, connections and limits of origins
            alone = await quiet.measure(seconds)
            held, idle, size = await _held(daemon), daemon.usage.rss, _size(state)
            peak = PeakMemory(daemon.process.pid)
            async with _storms(name, daemon.client.url, target, str(seconds + min(2.0, seconds))) as storm:
                ready, most_held = asyncio.create_task(_line(storm)), held
                while not ready.done():
                    most_held = max(most_held, await _held(daemon))
                    await asyncio.wait([ready], timeout=0.25)
                await ready
                if storm.stdin is not None:
                    storm.stdin.write(b"go\n")
                await asyncio.sleep(min(1.0, seconds))
                stormy = await quiet.measure(seconds)
                most, grown = peak.rss, _size(state) - size
                answers = orjson.loads(await _line(storm))
                most_held = max(most_held, await _held(daemon))
    more = (most_held[0] - held[0], most_held[1] - held[1])
    return Result(alone, stormy, (idle, most), memory_budget(name), more, grown, answers)


def draw(file: Path, results: Mapping[str, Result]) -> None:
    """Draws the ratio of each p99 by storm. Needs matplotlib (the extra `plot`)."""
    from matplotlib.figure import Figure as Picture

    picture = Picture(figsize=(9, 1 + 0.45 * len(results)), layout="constrained")
    axes = picture.subplots()
    for place, kind in enumerate(KINDS):
        rows = [row + (place - 1.5) * 0.2 for row in range(len(results))]
        ratios = [result.figures("")[place].value for result in results.values()]
        axes.barh(rows, ratios, height=0.18, label=kind)
    axes.axvline(RATIO, color="black", linestyle="--", linewidth=1)
    axes.set_xscale("log")
    axes.set_yticks(range(len(results)), list(results))
    axes.invert_yaxis()
    axes.set_xlabel(
        f"p99 of the quiet namespace in the storm, as a multiple of that without (dashed: {RATIO})"
    )
    axes.legend()
    picture.savefig(file)


async def measure(names: Sequence[str], seconds: float, plot: Path | None) -> list[Figure]:
    """The figures of these storms, each on a new daemon, and of the checks."""
    results = {name: await run_storm(name, seconds) for name in names if name != COSTS}
    if plot is not None and results:
        draw(plot, results)
    figures = [figure for name, result in results.items() for figure in result.figures(name)]
    return [*figures, *(measure_costs() if COSTS in names else ())]


COSTS = "costs"


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=[*STORMS, COSTS], help="run this storm (default: all)"
    )
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of each storm (default: 30)")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the ratios into this file")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    facts = machine() | {"daemon_core": sorted(CORES.measured), "other_cores": sorted(CORES.others)}
    use_other_cores()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: ends the child processes
    figures = uvloop.run(measure(options.only or [*STORMS, COSTS], options.seconds, options.plot))
    print_figures(figures, facts, as_json=options.json)


if __name__ == "__main__":
    main()
