"""Measures a daemon in a child process: poking, submitting, restarting, its ledger.

    python tests/benchmarks/scenarios.py                    the default ones, under four minutes
    python tests/benchmarks/scenarios.py --only holding     one scenario; may be repeated
    python tests/benchmarks/scenarios.py --json > out.json  for programs; progress goes to stderr

The daemon has one core; the target and this script, which submits the waits, share the others. On a
machine that does other work trust CPU time and ratios; a note says how long the daemon was kept
waiting for its core.
"""

import argparse
import signal
from collections.abc import Awaitable, Callable, Mapping, Sequence

import hanging
import holding
import large_scale
import ledger
import recovery
import restarting
import submitting
import uvloop
from figures import Figure, print_figures
from lab import CORES, say, use_other_cores

from waitd.bench.machine import machine

Scenario = Callable[[], Awaitable[Sequence[Figure]]]
DEFAULT: Mapping[str, Scenario] = {
    "holding": holding.measure,
    "submitting": submitting.measure,
    "hanging": hanging.measure,
    "restarting": restarting.measure,
}
#: Scenarios of four to eight minutes, which run only by name.
LONG: Mapping[str, Scenario] = {
    "100000": large_scale.hundred_thousand,
    "1000000": large_scale.million,
    "ledger_cpu": ledger.cpu,
    "ledger_memory": ledger.memory,
    "ledger_overhead": ledger.overhead,
    "recovery": recovery.measure,
}
SCENARIOS = {**DEFAULT, **LONG}


async def measure(names: Sequence[str]) -> list[Figure]:
    """The figures of these scenarios."""
    figures: list[Figure] = []
    for name in names:
        say(f"scenario {name}")
        figures += await SCENARIOS[name]()
    return figures


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=list(SCENARIOS),
        help=f"run this scenario (default: {', '.join(DEFAULT)})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    facts = machine() | {"daemon_core": sorted(CORES.measured), "other_cores": sorted(CORES.others)}
    use_other_cores()
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # as Ctrl-C: ends the child processes
    figures = uvloop.run(measure(options.only or list(DEFAULT)))
    print_figures(figures, facts, as_json=options.json)


if __name__ == "__main__":
    main()
