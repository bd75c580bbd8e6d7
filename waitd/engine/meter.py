"""Measures what this process uses, and what the same waits would occupy in Airflow.

Once a second it reads the process's CPU time, its memory and the work done since. CPU time is
attributed to the work by regression (`waitd.core.costs.attribution`), memory by the size of a held
wait (`waitd.engine.memory_sizing`). What belongs to no wait (the idle loop, the API's answers, the
interpreter) is overhead. A poke costs nothing extra: the counts are those of the metrics.
"""

import time
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from math import exp

from waitd.core.costs.attribution import IDLE, CpuAttribution
from waitd.core.costs.model import (
    DEFAULT_KIND,
    CostConstants,
    CostMode,
    ExampleWait,
    MeasuredUsage,
    Prices,
    WaitingTotals,
    break_even_duration,
    break_even_poke_interval,
    resource_usage,
)
from waitd.core.waits.wait import WaitSpec
from waitd.engine.clock import Clock
from waitd.engine.memory_sizing import resident_bytes
from waitd.engine.poker import Poker
from waitd.metrics import Instruments, total_of
from waitd.ports import StoredOutcome, StoredWait, StoreListener

SAMPLE_SECONDS = 1.0
#: After how many samples the weight of a sample has dropped to a third: about an hour.
MEMORY_SAMPLES = 3600.0
#: How often the size of held waits is measured, in samples, and on how many waits.
SIZING_INTERVAL, SIZED_WAITS = 30, 64
#: The time over which the slots of short runs are averaged, in seconds.
SMOOTHED_SECONDS = 60.0
#: The poke_interval of the break-even gauges: Airflow's default, seconds.
BREAK_EVEN_POKE_INTERVAL = 60.0
#: How many kinds have their own poke cost; the others share one.
OWN_KINDS = 6
_ACCEPTED, _ENDED, _DELIVERED, _SHARED = "accepted", "ended", "delivered", "shared"
_OTHERS = "poke of other kinds"
#: Initial costs in CPU-seconds: a submit and an end with their share of a commit, a delivery, a
#: verdict of a shared poke, the idle loop for a second. Measured with `tests/benchmarks`.
GUESSES = {_ACCEPTED: 100e-6, _ENDED: 150e-6, _DELIVERED: 200e-6, _SHARED: 25e-6, IDLE: 0.002}


@dataclass(slots=True, kw_only=True)
class Work:
    """Work done since the start, or since the last sample.

    Attributes:
        accepted: waits accepted.
        ended: waits ended.
        delivered: attempts at deliveries.
        shared: verdicts without a request of their own.
        requests: pokes by kind; waits with equal keys share one.
        verdicts: verdicts by kind, one for each wait of a poke.
    """

    accepted: int = 0
    ended: int = 0
    delivered: int = 0
    shared: int = 0
    requests: Mapping[str, int] = field(default_factory=dict)
    verdicts: Mapping[str, int] = field(default_factory=dict)

    def since(self, earlier: "Work") -> "Work":
        """The work done since an earlier moment."""
        return Work(
            accepted=self.accepted - earlier.accepted,
            ended=self.ended - earlier.ended,
            delivered=self.delivered - earlier.delivered,
            shared=max(0, self.shared - earlier.shared),
            requests={kind: count - earlier.requests.get(kind, 0) for kind, count in self.requests.items()},
            verdicts={kind: count - earlier.verdicts.get(kind, 0) for kind, count in self.verdicts.items()},
        )


class Meter(StoreListener):
    """Accounts for each second; `run` is its loop. Not thread-safe."""

    def __init__(
        self,
        poker: Poker,
        clock: Clock,
        instruments: Instruments,
        *,
        held: Callable[[], Mapping[str, int]],
        constants: CostConstants,
        prices: Prices,
        labels: Sequence[str],
        poke_cpu_seconds: Mapping[str, float],
        cpu_time: Callable[[], float] = time.process_time,
        memory: Callable[[], int] = resident_bytes,
    ) -> None:
        """`held`: held waits by kind; `poke_cpu_seconds`: the initial cost of a poke by kind."""
        self.constants = constants
        self.prices = prices
        self.labels = labels
        self._poker = poker
        self._clock = clock
        self._instruments = instruments
        self._held = held
        self._cpu_time = cpu_time
        self._memory = memory
        self._guesses = poke_cpu_seconds
        self._attribution = CpuAttribution(
            {**GUESSES, _OTHERS: poke_cpu_seconds[DEFAULT_KIND]}, memory=MEMORY_SAMPLES
        )
        #: The name of the poke cost of each kind that has been held or poked.
        self._kinds: dict[str, str] = {}
        #: Waits accepted and ended since the start.
        self._accepted = self._ended = 0
        self._callbacks: defaultdict[str, WaitingTotals] = defaultdict(lambda: WaitingTotals(""))
        self._requests: defaultdict[str, float] = defaultdict(float)
        self._verdicts: defaultdict[str, float] = defaultdict(float)
        self._before = self._totals()
        self._cpu_before = cpu_time()
        self._sampled_at = clock.monotonic()
        self._samples = 0
        self._unexplained = 0.0
        self._slots = dict.fromkeys(CostMode, 0.0)
        #: What belonged to no wait since the start.
        self.overhead = MeasuredUsage()
        for mode in CostMode:  # so that the series exist from the first scrape
            self._count(mode, WaitingTotals(""))
        #: The size of a held wait, in bytes.
        self.wait_bytes = 0.0

    async def run(self) -> None:
        """Samples until it is cancelled."""
        while True:
            await self._clock.sleep(SAMPLE_SECONDS)
            self.sample()

    # ------------------------------------------------------------ waits

    def measured(self, spec: WaitSpec, pokes: int, seconds: float, *, ended: bool) -> MeasuredUsage:
        """What a wait that has lasted `seconds` has used; if `ended`, with end and deliveries."""
        costs = self._attribution.costs
        cpu_seconds = costs[_ACCEPTED] + pokes * self.poke_cpu_seconds(spec.kind)
        if ended:
            cpu_seconds += costs[_ENDED] + len(spec.sinks) * costs[_DELIVERED]
        return MeasuredUsage(cpu_seconds, max(0.0, seconds) * self.wait_bytes)

    def poke_cpu_seconds(self, kind: str) -> float:
        """The CPU time of one poke of one wait; less than a request that waits share."""
        costs = self._attribution.costs
        each = costs[self._kinds.get(kind, _OTHERS)]
        requests, verdicts = self._requests[kind], self._verdicts[kind]
        if verdicts <= requests or not requests:
            return each
        return (requests * each + (verdicts - requests) * costs[_SHARED]) / verdicts

    def on_inserted(self, waits: Sequence[StoredWait]) -> None:
        """Counts new waits and the callbacks that they occupy in Airflow."""
        self._accepted += len(waits)
        parked = [wait for wait in waits if _calls_airflow(wait)]
        plain = Counter([wait.spec.kind for wait in waits])
        plain.subtract([wait.spec.kind for wait in parked])
        for kind, count in plain.items():
            self._count_callbacks(WaitingTotals(kind, count))
        for wait in parked:
            totals = WaitingTotals.from_wait(wait.spec.kind, wait.spec.sinks, seconds=0, pokes=0)
            self._count_callbacks(totals._replace(resumed=0.0))

    def on_finished(self, outcomes: Sequence[StoredOutcome]) -> None:
        """Counts ended waits and the callbacks that they end in Airflow."""
        self._ended += len(outcomes)
        for outcome in outcomes:
            wait = outcome.wait
            if _calls_airflow(wait):
                totals = WaitingTotals.from_wait(wait.spec.kind, wait.spec.sinks, seconds=0, pokes=0)
                self._count_callbacks(totals._replace(waits=0.0, parked=0.0))

    def _count_callbacks(self, totals: WaitingTotals) -> None:
        self._callbacks[totals.kind] = totals.plus(self._callbacks[totals.kind])

    # ------------------------------------------------------------ one sample

    def sample(self) -> None:
        """Accounts for the time since the last sample."""
        cpu, at = self._cpu_time(), self._clock.monotonic()
        cpu_seconds, seconds = cpu - self._cpu_before, at - self._sampled_at
        if seconds <= 0:
            return
        self._cpu_before, self._sampled_at = cpu, at
        totals = self._totals()
        done, self._before = totals.since(self._before), totals
        self._add_kinds(done)
        counts = self._counts(done)
        self._attribution.add_sample(counts, seconds, cpu_seconds)
        self._account_pokes(done)
        if self._samples % SIZING_INTERVAL == 0 or not self.wait_bytes:
            self.wait_bytes = self._poker.gauges.bytes_each(SIZED_WAITS) or self.wait_bytes
        self._samples += 1
        rss = self._memory()
        self._account_overhead(counts, seconds, cpu_seconds, rss)
        self._account_modes(done, seconds, MeasuredUsage(cpu_seconds, rss * seconds))

    def _totals(self) -> Work:
        """The work done since the start, mostly from the metrics."""
        requests = self._instruments.poke_duration.counts("kind")
        verdicts = self._instruments.pokes.counts("kind")
        return Work(
            accepted=self._accepted,
            ended=self._ended,
            delivered=int(total_of(self._instruments.deliveries)),
            shared=max(0, sum(verdicts.values()) - sum(requests.values())),
            requests=requests,
            verdicts=verdicts,
        )

    def _add_kinds(self, done: Work) -> None:
        """Adds the kinds that were first held or poked since the last sample.

        Only the first few get their own cost: the regression costs the cube of their number.
        """
        poked = (kind for kind, count in done.verdicts.items() if count)
        for kind in (*self._held(), *self._callbacks, *poked):
            if kind not in self._kinds:
                name = f"poke {kind}" if len(self._kinds) < OWN_KINDS else _OTHERS
                if name != _OTHERS:
                    self._attribution.add_kind(name, self._guesses.get(kind, self._guesses[DEFAULT_KIND]))
                self._kinds[kind] = name

    def _counts(self, done: Work) -> Mapping[str, int]:
        """The work by the name of its cost."""
        counts = {
            _ACCEPTED: done.accepted,
            _ENDED: done.ended,
            _DELIVERED: done.delivered,
            _SHARED: done.shared,
        }
        for kind, name in self._kinds.items():
            counts[name] = counts.get(name, 0) + done.requests.get(kind, 0)
        return counts

    def _account_pokes(self, done: Work) -> None:
        costs, keep = self._attribution.costs, 1 - 1 / MEMORY_SAMPLES
        for kind, name in self._kinds.items():
            requests, verdicts = done.requests.get(kind, 0), done.verdicts.get(kind, 0)
            self._requests[kind] = self._requests[kind] * keep + requests
            self._verdicts[kind] = self._verdicts[kind] * keep + verdicts
            used = requests * costs[name] + max(0, verdicts - requests) * costs[_SHARED]
            self._instruments.poke_cpu_seconds.labels(kind).inc(used)

    def _account_overhead(
        self, counts: Mapping[str, int], seconds: float, cpu_seconds: float, rss: float
    ) -> None:
        costs = self._attribution.costs
        explained = sum(counts.get(name, 0) * cost for name, cost in costs.items() if name != IDLE)
        # A sample that takes less than its work on average is offset against the next ones; else
        # noise would count as overhead.
        self._unexplained += cpu_seconds - explained
        cpu_overhead = max(0.0, self._unexplained)
        self._unexplained -= cpu_overhead
        byte_overhead = max(0.0, rss - self.wait_bytes * self._poker.held) * seconds
        self._instruments.overhead_cpu_seconds.inc(cpu_overhead)
        self.overhead = self.overhead.plus(MeasuredUsage(cpu_overhead, byte_overhead))

    def _account_modes(self, done: Work, seconds: float, whole: MeasuredUsage) -> None:
        held = self._held()
        share = 1 - exp(-seconds / SMOOTHED_SECONDS)
        for mode in CostMode:
            slot_seconds = 0.0
            for kind in self._kinds:
                waiting = self._callbacks[kind]._replace(
                    kind=kind,
                    seconds=held.get(kind, 0) * seconds,
                    pokes=done.verdicts.get(kind, 0),
                    measured=MeasuredUsage(),
                )
                slot_seconds += self._count(mode, waiting)
            self._slots[mode] += share * (slot_seconds / seconds - self._slots[mode])
        self._count(CostMode.WAITD, WaitingTotals("", measured=whole))
        self._callbacks.clear()

    def _count(self, mode: CostMode, waiting: WaitingTotals) -> float:
        used, instruments = resource_usage(mode, waiting, self.constants), self._instruments
        instruments.slot_seconds.labels(mode).inc(used.slot_seconds)
        instruments.cpu_seconds.labels(mode).inc(used.cpu_seconds)
        instruments.memory_byte_seconds.labels(mode).inc(used.memory_byte_seconds)
        instruments.cost.labels(mode, self.prices.currency).inc(used.money(self.prices))
        return used.slot_seconds

    # ------------------------------------------------------------ gauges

    def refresh_gauges(self) -> None:
        """Sets the gauges; called before a scrape.

        A poking sensor holds its slot; slots of short runs are averaged.
        """
        instruments = self._instruments
        instruments.resident_bytes_per_wait.set(self.wait_bytes)
        for mode, slots in self._slots.items():
            instruments.slots_held.labels(mode).set(
                sum(self._held().values()) if mode is CostMode.POKE else slots
            )
        for kind in self._kinds:
            instruments.break_even_poke_interval.labels(kind).set(
                break_even_poke_interval(kind, self.constants, self.prices)
            )
            case = ExampleWait(kind, BREAK_EVEN_POKE_INTERVAL, self.poke_cpu_seconds(kind), self.wait_bytes)
            for mode in (CostMode.RESCHEDULE, CostMode.DEFER, CostMode.WAITD):
                instruments.break_even_duration.labels(mode, kind).set(
                    break_even_duration(mode, case, self.constants, self.prices)
                )


def _calls_airflow(wait: StoredWait) -> bool:
    """Whether a task of Airflow may be parked on the wait; other sinks occupy nothing there."""
    for sink in wait.spec.sinks:  # noqa: SIM110 - runs for each line of a batch; a generator costs three times as much
        if sink.get("kind") == "airflow":
            return True
    return False
