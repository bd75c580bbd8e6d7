"""The meter: what this process uses, whose it is, and what the same waits would occupy in Airflow's ways of waiting.

Once a second it reads the process's CPU time and size and what was done since, and accounts for that second. CPU time is shared out by
the slope of CPU over what was done (`waitd.core.costs.attribution`), memory by what a wait in hand weighs (`waitd.engine.memory_sizing`). What
belongs to no wait (the idle loop, the API's answers, the interpreter itself) is overhead, counted beside them.

Nothing is done for a poke: the counts are those that the metrics have anyway.
"""

import asyncio
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from waitd.ports import StoredOutcome, StoredWait

SAMPLE_SECONDS = 1.0
#: After how many samples one counts for a third: an hour's worth of work tells what a poke costs.
REMEMBERED = 3600.0
#: How often waits in hand are weighed, in samples, and how many of them.
WEIGHED_EVERY, WEIGHED = 30, 64
#: Over how many seconds the slots that runs of a moment would hold are averaged.
SMOOTHED_SECONDS = 60.0
#: The poke_interval at which the gauges say from when on each mode is worth it: Airflow's default, seconds.
BREAK_EVEN_POKE_INTERVAL = 60.0
#: How many kinds' pokes are learned each by itself.
OWN_KINDS = 6
_ACCEPTED, _ENDED, _DELIVERED, _SHARED = "accepted", "ended", "delivered", "shared"
_OTHERS, _JUDGED = "poke of other kinds", "judged "
#: What one of each takes until there are samples, in CPU-seconds: a submit and an end with their share of a commit, a delivery, a
#: verdict of a poke that others share, the idle loop for a second. Measured beside the pokes by `tests/benchmarks`.
GUESSES = {_ACCEPTED: 100e-6, _ENDED: 150e-6, _DELIVERED: 200e-6, _SHARED: 25e-6, IDLE: 0.002}


class Meter:
    """Accounts. One per daemon; `run` is its loop. Reads instruments and belongs to the loop's thread."""

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
        """`held`: how many waits are held, by kind; `poke_cpu_seconds`: what a poke is taken to cost until it is known, by kind."""
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
            {**GUESSES, _OTHERS: poke_cpu_seconds[DEFAULT_KIND]}, memory=REMEMBERED
        )
        #: Kinds that have been held or poked, each with the name under which its pokes are learned.
        self._kinds: dict[str, str] = {}
        self._now: Counter[str] = Counter()
        self._callbacks: defaultdict[str, WaitingTotals] = defaultdict(lambda: WaitingTotals(""))
        self._looks: defaultdict[str, float] = defaultdict(float)
        self._verdicts: defaultdict[str, float] = defaultdict(float)
        self._before = self._totals()
        self._cpu_before = cpu_time()
        self._at = clock.monotonic()
        self._samples = 0
        self._unexplained = 0.0
        self._slots = dict.fromkeys(CostMode, 0.0)
        #: What has belonged to no wait since the start.
        self.overhead = MeasuredUsage()
        for mode in CostMode:  # so that there are series from the first scrape on
            self._count(mode, WaitingTotals(""))
        #: What a wait in hand weighs, in bytes.
        self.wait_bytes = 0.0

    async def run(self) -> None:
        """Accounts until it is cancelled."""
        never = asyncio.Event()
        while True:
            await self._clock.sleep_until(self._clock.monotonic() + SAMPLE_SECONDS, never)
            self.sample()

    # ------------------------------------------------------------ what others ask and tell

    def measured(self, spec: WaitSpec, pokes: int, seconds: float, *, ended: bool) -> MeasuredUsage:
        """What a wait that has lasted `seconds` has used by now: its submit and its pokes; with `ended`, its end and its deliveries."""
        costs = self._attribution.costs
        cpu_seconds = costs[_ACCEPTED] + pokes * self.poke_cpu_seconds(spec.kind)
        if ended:
            cpu_seconds += costs[_ENDED] + len(spec.sinks) * costs[_DELIVERED]
        return MeasuredUsage(cpu_seconds, max(0.0, seconds) * self.wait_bytes)

    def poke_cpu_seconds(self, kind: str) -> float:
        """What one poke of one wait takes now; less than a request where waits share them."""
        costs = self._attribution.costs
        each = costs[self._kinds.get(kind, _OTHERS)]
        looks, verdicts = self._looks[kind], self._verdicts[kind]
        if verdicts <= looks or not looks:
            return each
        return (looks * each + (verdicts - looks) * costs[_SHARED]) / verdicts

    def on_inserted(self, waits: Sequence[StoredWait]) -> None:
        """New waits are on disk."""
        self._now[_ACCEPTED] += len(waits)
        telling = [wait for wait in waits if _tells_airflow(wait)]
        untold = Counter([wait.spec.kind for wait in waits])
        untold.subtract([wait.spec.kind for wait in telling])
        for kind, count in untold.items():
            self._note(WaitingTotals(kind, count))
        for wait in telling:
            one = WaitingTotals.from_wait(wait.spec.kind, wait.spec.sinks, seconds=0, pokes=0)
            self._note(one._replace(resumed=0.0))

    def on_finished(self, endings: Sequence[StoredOutcome]) -> None:
        """Waits have ended on disk."""
        self._now[_ENDED] += len(endings)
        for ended in endings:
            wait = ended.wait
            if _tells_airflow(wait):
                one = WaitingTotals.from_wait(wait.spec.kind, wait.spec.sinks, seconds=0, pokes=0)
                self._note(one._replace(waits=0.0, parked=0.0))

    def _note(self, part: WaitingTotals) -> None:
        self._callbacks[part.kind] = part.plus(self._callbacks[part.kind])

    # ------------------------------------------------------------ one sample

    def sample(self) -> None:
        """Accounts for the time since the last one."""
        cpu, at = self._cpu_time(), self._clock.monotonic()
        cpu_seconds, seconds = cpu - self._cpu_before, at - self._at
        if seconds <= 0:
            return
        self._cpu_before, self._at = cpu, at
        totals = self._totals()
        done, self._before = totals - self._before, totals
        done += self._now
        for kind in self._seen(done):
            done[self._kinds[kind]] += done[_looked(kind)]
        self._now.clear()
        self._attribution.add_sample(done, seconds, cpu_seconds)
        self._account_pokes(done)
        if self._samples % WEIGHED_EVERY == 0 or not self.wait_bytes:
            self.wait_bytes = self._poker.bytes_each(WEIGHED) or self.wait_bytes
        self._samples += 1
        rss = self._memory()
        self._account_overhead(done, seconds, cpu_seconds, rss)
        self._account_modes(done, seconds, MeasuredUsage(cpu_seconds, rss * seconds))

    def _totals(self) -> Counter[str]:
        """What was done since the start, of all that is counted elsewhere."""
        looks = self._instruments.poke_duration.counts("kind")
        verdicts = self._instruments.pokes.counts("kind")
        totals: Counter[str] = Counter()
        for kind, count in verdicts.items():
            totals[_looked(kind)] = looks.get(kind, 0)
            totals[_judged(kind)] = count
        totals[_SHARED] = max(0, sum(verdicts.values()) - sum(looks.values()))
        totals[_DELIVERED] = int(total_of(self._instruments.deliveries))
        return totals

    def _seen(self, done: Mapping[str, int]) -> Iterable[str]:
        """The kinds seen so far. The first few are learned of each by itself, the others as one: learning costs the cube of their number."""
        held = self._held()
        judged = (
            name.removeprefix(_JUDGED) for name, times in done.items() if times and name.startswith(_JUDGED)
        )
        for kind in (*held, *self._callbacks, *judged):
            if kind not in self._kinds:
                name = f"poke {kind}" if len(self._kinds) < OWN_KINDS else _OTHERS
                if name != _OTHERS:
                    self._attribution.add_kind(name, self._guesses.get(kind, self._guesses[DEFAULT_KIND]))
                self._kinds[kind] = name
        return self._kinds

    def _account_pokes(self, done: Mapping[str, int]) -> None:
        costs, keep = self._attribution.costs, 1 - 1 / REMEMBERED
        for kind, name in self._kinds.items():
            looks, verdicts = done.get(_looked(kind), 0), done.get(_judged(kind), 0)
            self._looks[kind] = self._looks[kind] * keep + looks
            self._verdicts[kind] = self._verdicts[kind] * keep + verdicts
            used = looks * costs[name] + max(0, verdicts - looks) * costs[_SHARED]
            self._instruments.poke_cpu_seconds.labels(kind).inc(used)

    def _account_overhead(
        self, done: Mapping[str, float], seconds: float, cpu_seconds: float, rss: float
    ) -> None:
        costs = self._attribution.costs
        explained = sum(done.get(name, 0.0) * cost for name, cost in costs.items() if name != IDLE)
        # A sample may take less than its work takes on the average: that is set off against the next ones, or noise would count as overhead.
        self._unexplained += cpu_seconds - explained
        cpu_overhead = max(0.0, self._unexplained)
        self._unexplained -= cpu_overhead
        byte_overhead = max(0.0, rss - self.wait_bytes * self._poker.held) * seconds
        self._instruments.overhead_cpu_seconds.inc(cpu_overhead)
        self.overhead = self.overhead.plus(MeasuredUsage(cpu_overhead, byte_overhead))

    def _account_modes(self, done: Mapping[str, float], seconds: float, whole: MeasuredUsage) -> None:
        held = self._held()
        share = 1 - exp(-seconds / SMOOTHED_SECONDS)
        for mode in CostMode:
            slot_seconds = 0.0
            for kind in self._kinds:
                waiting = self._callbacks[kind]._replace(
                    kind=kind,
                    seconds=held.get(kind, 0) * seconds,
                    pokes=done.get(_judged(kind), 0),
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

    # ------------------------------------------------------------ before a scrape

    def refresh_gauges(self) -> None:
        """Sets the gauges; called before a scrape. A slot held is held all the time; those of short runs are a mean over a minute."""
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


def _tells_airflow(wait: StoredWait) -> bool:
    """Whether a task of Airflow may be parked on it: no other callback occupies anything there."""
    for sink in wait.spec.sinks:  # noqa: SIM110 - asked of each line of a batch; a generator costs three times as much
        if sink.get("kind") == "airflow":
            return True
    return False


def _looked(kind: str) -> str:
    """What a request on behalf of waits of this kind counts under."""
    return f"looked {kind}"


def _judged(kind: str) -> str:
    """What a verdict for one of them counts under."""
    return _JUDGED + kind
