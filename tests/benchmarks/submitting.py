"""How fast waits are taken: one by one, each on disk before its 201, and in batches of 10,000."""

from collections.abc import Sequence
from typing import Any

from figures import Figure
from lab import BATCH, Lab, say

from waitd.bench.jobs import path_of

CONNECTIONS = 64
SINGLES = 20_000
IN_BATCHES = 200_000
#: On a target that answers, each wait's first poke, which is at once, takes its share of the daemon's core. On one that hangs, hardly.
TARGETS = {"endless": "first pokes included", "dead": "without pokes: the target hangs"}
BATCH_GOALS = {"endless": 20_000, "dead": 50_000}


async def measure(lab: Lab) -> Sequence[Figure]:
    """A daemon each."""
    figures = []
    for behaviour, words in TARGETS.items():
        result = await _submitted(lab, behaviour, count=SINGLES, connections=CONNECTIONS)
        count, span = result["count"], result["span"]
        figures += [
            Figure(f"single submits/s, {words}", count / result["wall"], "/s", at_least=4_000, note=f"{count:,} over {CONNECTIONS} connections; {span}; the client {result['cpu']:.1f} s"),
            Figure("  answered in, p99", result["p99"] * 1e3, "ms", note=f"p50 {result['p50'] * 1e3:.1f} ms"),
            Figure("  CPU per submit", span.cpu / count * 1e6, "µs", note=words),
        ]  # fmt: skip
    for behaviour, words in TARGETS.items():
        result = await _submitted(lab, behaviour, count=IN_BATCHES, batch=BATCH, connections=1)
        count, span = result["count"], result["span"]
        figures += [
            Figure(f"waits/s by batch, {words}", count / result["wall"], "/s", at_least=BATCH_GOALS[behaviour], note=f"{count // BATCH} batches of {BATCH:,}; {span}"),
            Figure("  a batch took, p50", result["p50"] * 1e3, "ms", note=f"the slowest {result['p99'] * 1e3:.0f} ms"),
            Figure("  CPU per line", span.cpu / count * 1e6, "µs", note=words),
        ]  # fmt: skip
    return figures


async def _submitted(lab: Lab, behaviour: str, **options: int) -> dict[str, Any]:
    say(f"submitting to a fresh daemon, {TARGETS[behaviour]}: {options}")
    async with lab.target() as target, lab.daemon("submitting") as daemon:
        url = target.urls[0] + path_of(behaviour, 0, "submitted")
        result = await lab.submitter(daemon, url, **options)
    if result["statuses"] != {"201": options["count"]}:
        raise RuntimeError(f"not everything was taken: {result['statuses']}")
    return {**result, "count": options["count"]}
