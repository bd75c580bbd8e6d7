"""Compares the cost of two revisions of waitd in one run.

    compare_revisions.py 3229241                   the working tree against 3229241
    compare_revisions.py 3229241 HEAD              HEAD against 3229241
    compare_revisions.py 3229241 --only poke,batch  two of the figures
    compare_revisions.py 3229241 --spread          3229241 against itself first
    compare_revisions.py 3229241 --json > out.json  for programs; progress goes to stderr

Each pair measures both revisions, one after the other, and swaps their order from pair to pair. The
result is the median of the ratios new / old of all pairs. `--spread` first measures the old
revision against itself: a ratio within that range is noise. Exit code 1: a ratio exceeds `--limit`
(1.03).

Figures:
    poke      CPU of the daemon per poke while more pokes are due than it can make
    batch     CPU of the daemon per line of a batch submit
    single    CPU of the daemon per single submit, 64 connections
    memory    resident memory per held wait that was poked once
    restart   CPU of the daemon from its start until 100,000 waits are loaded; `restart_wall` is the
              time that takes, for information only

Both revisions run as `python -m waitd serve` from a copy in a temporary folder and are measured
from outside: over the HTTP API, by `/metrics`, the JSON log and `/proc`. The target and the load
generator come from the tree of this script, for both. The daemon has one core, everything else has
another one. All figures of one pair take about 90 seconds, `poke` about 20. On a busy machine, CPU
times grow together and only ratios mean something; repeat with more pairs what `--spread` shows to
be noisy.
"""

import argparse
import shutil
import signal
import statistics
import sys
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import orjson
import uvloop
from lab import MeasuredDaemon, running_daemon, running_target, saturate, say, use_other_cores, waits_on
from restarting import WAITS, all_loaded, fill_store
from revisions import Revision, copy_revision
from rich.console import Console
from rich.table import Table

from waitd.bench.children import JobServer
from waitd.bench.machine import machine

SINGLES, CONNECTIONS = 10_000, 64
LINES = 100_000
#: Memory per wait is the slope between these numbers of waits.
FEW, MANY = 10_000, 60_000
#: The interval of waits that must not be poked a second time while a figure is taken.
RARELY = 3600.0


def daemon_of(revision: Revision, **settings: object) -> AbstractAsyncContextManager[MeasuredDaemon]:
    """Runs a daemon of a revision."""
    return running_daemon(python=(revision.python, "-m"), environment=revision.environment, **settings)


async def measure_poke(target: JobServer, revision: Revision) -> Sequence[float]:
    """CPU per poke at saturation, in microseconds."""
    async with daemon_of(revision) as daemon:
        window = await saturate(daemon, target, warm_up=2.0, seconds=5.0)
    if not window.after.total("waitd_waits_overdue"):
        say("the daemon was not saturated: CPU per poke is that of a daemon with idle time")
    return [window.cpu_per_poke]


async def measure_batch(target: JobServer, revision: Revision) -> Sequence[float]:
    """CPU per line of a batch, in microseconds.

    The target hangs, so that no poke finishes meanwhile.
    """
    async with daemon_of(revision) as daemon:
        cost = await daemon.submit(waits_on(target, LINES, RARELY, behaviour="dead"))
    return [cost.daemon.cpu / LINES * 1e6]


async def measure_single(target: JobServer, revision: Revision) -> Sequence[float]:
    """CPU per single submit, in microseconds; the target hangs."""
    async with daemon_of(revision) as daemon:
        waits = waits_on(target, SINGLES, RARELY, behaviour="dead")
        cost = await daemon.submit_singly(waits, CONNECTIONS)
    return [cost.daemon.cpu / SINGLES * 1e6]


async def measure_memory(target: JobServer, revision: Revision) -> Sequence[float]:
    """Resident bytes per held wait, as the slope between FEW and MANY waits."""
    async with daemon_of(revision) as daemon:
        few, many = await daemon.rss_at(target, (FEW, MANY))
    return [(many - few) / (MANY - FEW)]


async def measure_restart(target: JobServer, revision: Revision) -> Sequence[float]:
    """CPU seconds and seconds from the start of the process until all waits are loaded."""
    store, copy = revision.checkout / "store", revision.checkout / "copy"
    if not store.exists():
        say(f"filling a store with {WAITS:,} waits by {revision.name}")
        filled = revision.checkout / "filled"
        async with daemon_of(revision, state_dir=filled) as daemon:
            await fill_store(daemon, target, RARELY)
        filled.rename(store)  # a daemon refuses a copy beside its original
    shutil.copytree(store, copy)
    spawned_at = time.time()
    async with daemon_of(revision, state_dir=copy) as daemon:
        await daemon.until_logged(all_loaded)
        used = [daemon.usage.cpu, time.time() - spawned_at]
    shutil.rmtree(copy)
    return used


class Measurement(NamedTuple):
    """One way to measure a revision.

    Attributes:
        figures: names of the values that it returns, each with its unit.
        measure: takes the figures of one revision once.
    """

    figures: Mapping[str, str]
    measure: Callable[[JobServer, Revision], Awaitable[Sequence[float]]]


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
    target: JobServer, names: Sequence[str], pairs: int, old: Revision, new: Revision
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
                values[side] = await MEASUREMENTS[key].measure(target, revision)
            for n, name in enumerate(MEASUREMENTS[key].figures):
                result = results[name]
                result.old.append(values[0][n])
                result.new.append(values[1][n])
                say(
                    f"pair {pair + 1} of {pairs}, {name}: {old.name} {result.old[-1]:,.4g}, {new.name} {result.new[-1]:,.4g} "
                    f"{result.unit}; ratio {result.ratios[-1]:.3f}"
                )
    return results


class Outcome(NamedTuple):
    """What a run found.

    `spread` compares the old revision with itself and is empty unless requested.
    """

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
    use_other_cores()
    with TemporaryDirectory(prefix="waitd-compare-") as folder:
        old = copy_revision(options.old, Path(folder) / "old", options.python)
        new = copy_revision(options.new, Path(folder) / "new", options.python)
        async with running_target() as target:
            spread: Mapping[str, Compared] = {}
            if options.spread:
                again = old._replace(name=f"{old.name} again")
                spread = await compare(target, options.only, options.pairs, old, again)
            results = await compare(target, options.only, options.pairs, old, new)
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
    outcome = uvloop.run(run(options))
    if options.json:
        print(orjson.dumps(outcome.as_json(), option=orjson.OPT_INDENT_2).decode())
    else:
        Console(width=None if sys.stdout.isatty() else 140).print(outcome.table(options.limit))
    judged = (result for name, result in outcome.results.items() if name not in UNJUDGED)
    sys.exit(any(result.ratio > options.limit for result in judged))


if __name__ == "__main__":
    main()
