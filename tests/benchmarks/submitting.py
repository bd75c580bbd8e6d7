"""How fast a daemon accepts waits: single submits, each on disk before its 201, and batches."""

from collections.abc import Sequence

from figures import Figure
from lab import BATCH, running_daemon, running_target, say, waits_on

from waitd.bench.quantiles import quantile

CONNECTIONS = 64
SINGLES = 20_000
IN_BATCHES = 200_000
POKE_INTERVAL = 60.0
#: The first poke of each wait, which is immediate, uses the daemon's core too, unless the target
#: hangs.
TARGETS = {"endless": "first pokes included", "dead": "without pokes: the target hangs"}
BATCH_GOALS = {"endless": 20_000, "dead": 50_000}


async def measure() -> Sequence[Figure]:
    """Runs a daemon for each combination."""
    figures = []
    for behaviour, words in TARGETS.items():
        say(f"submitting {SINGLES:,} waits to a new daemon, {words}")
        async with running_target() as target, running_daemon() as daemon:
            waits = waits_on(target, SINGLES, POKE_INTERVAL, behaviour=behaviour)
            cost = await daemon.submit_singly(waits, CONNECTIONS)
        figures += [
            Figure(f"single submits/s, {words}", SINGLES / cost.daemon.wall, "/s", at_least=4_000, note=f"{SINGLES:,} over {CONNECTIONS} connections; {cost.daemon}; the client {cost.client_cpu:.1f} s"),
            Figure("  p99 of the response time", quantile(cost.seconds, 0.99) * 1e3, "ms", note=f"p50 {quantile(cost.seconds, 0.5) * 1e3:.1f} ms"),
            Figure("  CPU per submit", cost.daemon.cpu / SINGLES * 1e6, "µs", note=words),
        ]  # fmt: skip
    for behaviour, words in TARGETS.items():
        say(f"submitting {IN_BATCHES:,} waits in batches to a new daemon, {words}")
        async with running_target() as target, running_daemon() as daemon:
            cost = await daemon.submit(waits_on(target, IN_BATCHES, POKE_INTERVAL, behaviour=behaviour))
        figures += [
            Figure(f"waits/s by batch, {words}", IN_BATCHES / cost.daemon.wall, "/s", at_least=BATCH_GOALS[behaviour], note=f"{IN_BATCHES // BATCH} batches of {BATCH:,}; {cost.daemon}"),
            Figure("  p50 of a batch", quantile(cost.seconds, 0.5) * 1e3, "ms", note=f"the slowest {max(cost.seconds) * 1e3:.0f} ms"),
            Figure("  CPU per line", cost.daemon.cpu / IN_BATCHES * 1e6, "µs", note=words),
        ]  # fmt: skip
    return figures
