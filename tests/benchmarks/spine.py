"""Measures a real daemon against its goals: holding and poking, submitting, hanging neighbours, restarting.

The daemon has one core to itself; the target, the submitter and this script share another. Trust CPU time and ratios where the machine
has other work to do: each note says how long the daemon was kept waiting for its core.
"""

import argparse
import asyncio
import signal
import sys
import tempfile
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import aiohttp
import hanging
import holding
import orjson
import restarting
import submitting
from figures import Figure
from lab import CORES, Lab, say, set_up
from rich.console import Console
from rich.table import Table
from rich.text import Text

from waitd.bench.machine import machine

EXAMPLES = """examples:
  python tests/benchmarks/spine.py                     all of it, under four minutes
  python tests/benchmarks/spine.py --only holding      one part; may be given more than once
  python tests/benchmarks/spine.py --json > spine.json for programs; progress goes to standard error
"""

PARTS: Mapping[str, Callable[[Lab], Awaitable[Sequence[Figure]]]] = {
    "holding": holding.measure,
    "submitting": submitting.measure,
    "hanging": hanging.measure,
    "restarting": restarting.measure,
}


async def measure(parts: Sequence[str]) -> list[Figure]:
    """The figures of these parts, one after the other."""
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory(prefix="waitd-benchmark-") as folder:
        timeout = aiohttp.ClientTimeout(total=60)
        async with aiohttp.ClientSession(timeout=timeout) as session:
            for part in parts:
                say(f"— {part}")
                figures += await PARTS[part](Lab(Path(folder), session))
    return figures


def put(figures: Sequence[Figure], facts: Mapping[str, object], *, as_json: bool) -> None:
    """For people, or for programs."""
    if as_json:
        rows = [figure._asdict() | {"met": figure.met} for figure in figures]
        print(orjson.dumps({"machine": facts, "figures": rows}, option=orjson.OPT_INDENT_2).decode())
    else:
        show(figures, facts)


def show(figures: Sequence[Figure], facts: Mapping[str, object]) -> None:
    """A table for people."""
    console = Console(width=None if sys.stdout.isatty() else 200)
    table = Table(
        "figure", "goal", "measured", "", "on what", caption=", ".join(f"{k} {v}" for k, v in facts.items())
    )
    for column in (1, 2):
        table.columns[column].justify = "right"
    for figure in figures:
        mark = {None: Text(""), True: Text("met", "green"), False: Text("NOT MET", "bold red")}[figure.met]
        table.add_row(figure.name, figure.goal, figure.measured, mark, figure.note)
    console.print(table)


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only", action="append", choices=list(PARTS), help="measure this part (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    facts = machine() | {"daemon_core": sorted(CORES.measured), "other_cores": sorted(CORES.others)}
    set_up()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: what was started is ended
    figures = asyncio.run(measure(options.only or list(PARTS)))
    put(figures, facts, as_json=options.json)


if __name__ == "__main__":
    main()
