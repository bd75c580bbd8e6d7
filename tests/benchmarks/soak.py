"""Puts one load after another on a daemon: memory, descriptors and held waits must not grow.

    python tests/benchmarks/soak.py                          half an hour
    python tests/benchmarks/soak.py --minutes 5 --waits 500  a shorter soak
    python tests/benchmarks/soak.py --json > soak.json       for programs; progress goes to stderr

Exit code 1: something grew, was lost, or ended wrongly. Lateness is printed but decides nothing,
because it depends on what else the machine does.
"""

import argparse
import asyncio
import sys

import orjson

from waitd.bench.lab import say
from waitd.bench.profiles import PROFILES, Load
from waitd.bench.soak import complaints, soak


class StepsOnly:
    """A progress display that prints each step on standard error."""

    def step(self, text: str) -> None:
        """Prints it."""
        say(text)

    broke = step

    def progress(self, done: int, total: int, text: str) -> None:
        """Does nothing."""


def main() -> None:
    """Runs the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="length of the soak (default: 30)")
    parser.add_argument("--waits", type=int, default=5_000, help="waits in each round")
    parser.add_argument("--poke-interval", type=float, default=5.0, help="seconds")
    parser.add_argument("--duration", type=float, default=60.0, help="length of a round, seconds")
    parser.add_argument("--profile", choices=list(PROFILES), default="storm")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    load = Load(options.waits, options.poke_interval, options.duration, profile=options.profile)
    rounds = asyncio.run(soak(StepsOnly(), load, options.minutes))
    defects = complaints(rounds)
    if options.json:
        document = {"rounds": [result.as_json() for result in rounds], "complaints": defects}
        print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        for n, result in enumerate(rounds, 1):
            print(f"round {n}, {result}")
        print("\n".join(defects) or "nothing grew")
    sys.exit(1 if defects else 0)


if __name__ == "__main__":
    main()
