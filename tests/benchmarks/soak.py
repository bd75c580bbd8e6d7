"""One daemon under one load after the other: memory, descriptors and what is held must come back to where they were.

    python tests/benchmarks/soak.py                          half an hour
    python tests/benchmarks/soak.py --minutes 5 --waits 500  less of it
    python tests/benchmarks/soak.py --json > soak.json       for programs; progress goes to standard error

Lateness is printed for each round and decides nothing: a shared machine would. Exit code 1: something grew, was lost, or ended wrongly.
"""

import argparse
import asyncio
import sys

import orjson
from lab import say

from waitd.bench.profiles import PROFILES, Load
from waitd.bench.soak import complaints, soak


class Told:
    """Says each step on standard error."""

    def step(self, text: str) -> None:
        """See `waitd.bench.progress_display.Show`."""
        say(text)

    broke = step

    def progress(self, done: int, total: int, text: str) -> None:
        """Steps are enough."""


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--minutes", type=float, default=30.0, help="for how long (default: 30)")
    parser.add_argument("--waits", type=int, default=5_000, help="held in each round")
    parser.add_argument("--poke-interval", type=float, default=5.0, help="seconds")
    parser.add_argument("--duration", type=float, default=60.0, help="of a round, seconds")
    parser.add_argument("--profile", choices=list(PROFILES), default="storm")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    load = Load(options.waits, options.poke_interval, options.duration, profile=options.profile)
    rests = asyncio.run(soak(Told(), load, options.minutes))
    wrong = complaints(rests)
    if options.json:
        document = {"rounds": [rest.as_json() for rest in rests], "complaints": wrong}
        print(orjson.dumps(document, option=orjson.OPT_INDENT_2).decode())
    else:
        for n, rest in enumerate(rests, 1):
            size = f"{rest.rss / 2**20:,.1f} MiB, {rest.descriptors} descriptors, {rest.held} held"
            print(f"round {n:3}, {rest.at:6.0f} s: {size}, p99 {rest.lateness_p99 * 1000:,.0f} ms late")
        print("\n".join(wrong) or "flat")
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
