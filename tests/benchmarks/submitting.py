"""How fast a daemon accepts waits: single submits, each on disk before its 201, and batches."""

from collections.abc import Sequence
from typing import Any

from waitd.bench.figures import Figure
from waitd.bench.lab import BATCH, Lab, say

CONNECTIONS = 64
SINGLES = 20_000
IN_BATCHES = 200_000
#: The first poke of each wait, which is immediate, uses the daemon's core too, unless the target
#: hangs.
TARGETS = {"endless": "first pokes included", "dead": "without pokes: the target hangs"}
BATCH_GOALS = {"endless": 20_000, "dead": 50_000}


async def measure(lab: Lab) -> Sequence[Figure]:
    """Runs a daemon for each combination."""
    figures = []
    for behaviour, words in TARGETS.items():
        result = await _submit(lab, behaviour, count=SINGLES, connections=CONNECTIONS)
        span = result["span"]
        figures += [
            Figure(f"single submits/s, {words}", SINGLES / result["wall"], "/s", at_least=4_000, note=f"{SINGLES:,} over {CONNECTIONS} connections; {span}; the client {result['cpu']:.1f} s"),
            Figure("  p99 of the response time", result["p99"] * 1e3, "ms", note=f"p50 {result['p50'] * 1e3:.1f} ms"),
            Figure("  CPU per submit", span.cpu / SINGLES * 1e6, "µs", note=words),
        ]  # fmt: skip
    for behaviour, words in TARGETS.items():
        result = await _submit(lab, behaviour, count=IN_BATCHES, batch=BATCH, connections=1)
        span = result["span"]
        figures += [
            Figure(f"waits/s by batch, {words}", IN_BATCHES / result["wall"], "/s", at_least=BATCH_GOALS[behaviour], note=f"{IN_BATCHES // BATCH} batches of {BATCH:,}; {span}"),
            Figure("  p50 of a batch", result["p50"] * 1e3, "ms", note=f"the slowest {result['p99'] * 1e3:.0f} ms"),
            Figure("  CPU per line", span.cpu / IN_BATCHES * 1e6, "µs", note=words),
        ]  # fmt: skip
    return figures


async def _submit(lab: Lab, behaviour: str, **options: float) -> dict[str, Any]:
    say(f"submitting to a new daemon, {TARGETS[behaviour]}: {options}")
    async with lab.target() as target, lab.daemon("submitting") as daemon:
        return await lab.submit(daemon, target.endpoint(behaviour, "submitted"), **options)
