"""A program that prints the size of a wait: as it is measured, and by this process's growth.

It runs in its own process, since one that has freed memory uses that again before it grows.
"""

import gc

from fakes import MemoryStore, ScriptedProbe, waiting
from msgspec.structs import replace

from waitd.core.waits.verdict import Pending
from waitd.engine.clock import SystemClock
from waitd.engine.memory_sizing import resident_bytes
from waitd.engine.poker import Poker
from waitd.metrics import Instruments
from waitd.probes.http.params import parse_target

BEFORE, MORE = 30_000, 60_000


def main() -> None:
    clock = SystemClock()
    probe = ScriptedProbe(lambda *_: Pending(), clock.now)
    poker = Poker(
        MemoryStore(),
        {"scripted": probe},
        clock,
        Instruments(version="test"),
        capacity=100_000,
        poke_concurrency=10,
        per_host_concurrency=10,
    )

    def grow(start: int, end: int) -> int:
        for n in range(start, end):
            name = f"0197a1f0-8f3c-7d2e-9b51-{n:012}"
            params = {"endpoint": f"http://127.0.0.1:9/jobs/endless/0/{n}", "success_when": "body.done"}
            target = parse_target(params, namespace="default", secret_headers=(), known=None)
            poker.adopt([replace(waiting(name, clock.now(), interval=3600.0), target=target)])
        gc.collect()
        return resident_bytes()

    before, after = grow(0, BEFORE), grow(BEFORE, BEFORE + MORE)
    print(poker.gauges.bytes_each(64), (after - before) / MORE)  # noqa: T201 - the result


if __name__ == "__main__":
    main()
