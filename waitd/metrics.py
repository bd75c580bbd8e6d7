"""Every instrument of waitd, in one place. Names and labels are part of the contract; no label takes a wait's id or a URL.

An `Instruments` belongs to one daemon and its own registry, so that two in one process (tests, the lab) do not share counts. Hot paths
keep the child they got from `labels(...)`; looking it up costs five times as much as using it.
"""

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from math import inf

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

LATENESS_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0)
DURATION_BUCKETS = (
    0.0005,
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1.0,
    2.5,
    5.0,
    10.0,
    30.0,
)
WAIT_BUCKETS = (
    1.0,
    10.0,
    60.0,
    300.0,
    900.0,
    3600.0,
    3 * 3600.0,
    12 * 3600.0,
    86400.0,
    3 * 86400.0,
    7 * 86400.0,
)


class Tally:
    """One count that only grows. Belongs to one thread; a scrape in another reads it as it is."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def inc(self, amount: int = 1) -> None:
        """One more, or `amount` more."""
        self.count += amount


class Spread:
    """How values are spread over buckets. Belongs to one thread; a scrape in another reads it as it is."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """One more value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class HotCounter(Collector):
    """A counter for the path of every poke: prometheus_client's own takes a lock and a microsecond for each count."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        self._names = (name, documentation, tuple(labels))
        self._children: dict[tuple[str, ...], Tally] = {}
        registry.register(self)

    def labels(self, *values: str) -> Tally:
        """The count under these labels; keep it, looking it up costs more than counting."""
        return self._children.setdefault(values, Tally())

    def counts(self, label: str) -> dict[str, int]:
        """The counts by one label, added up over the others."""
        return _added_up(
            (values[self._names[2].index(label)], tally.count) for values, tally in self._children.items()
        )

    def describe(self) -> Iterator[CounterMetricFamily]:
        """Its name, for the registry."""
        name, documentation, labels = self._names
        yield CounterMetricFamily(name, documentation, labels=labels)

    def collect(self) -> Iterator[CounterMetricFamily]:
        """The counts, for a scrape."""
        for family in self.describe():
            for values, tally in list(self._children.items()):
                family.add_metric(values, tally.count)
            yield family


class HotHistogram(Collector):
    """A histogram for the same path, and for the same reason."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        registry: CollectorRegistry,
        buckets: Sequence[float],
    ) -> None:
        self._names = (name, documentation, tuple(labels))
        self._bounds = tuple(buckets)
        self._children: dict[tuple[str, ...], Spread] = {}
        registry.register(self)

    def labels(self, *values: str) -> Spread:
        """The values under these labels; keep it."""
        return self._children.setdefault(values, Spread(self._bounds))

    def counts(self, label: str) -> dict[str, int]:
        """How many values there are by one label."""
        return _added_up(
            (values[self._names[2].index(label)], sum(spread.counts))
            for values, spread in self._children.items()
        )

    def describe(self) -> Iterator[HistogramMetricFamily]:
        """Its name, for the registry."""
        name, documentation, labels = self._names
        yield HistogramMetricFamily(name, documentation, labels=labels)

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """The buckets, for a scrape."""
        for family in self.describe():
            for values, spread in list(self._children.items()):
                cumulative, buckets = 0, []
                for bound, count in zip((*spread.bounds, inf), list(spread.counts), strict=True):
                    cumulative += count
                    buckets.append((str(float(bound)) if bound != inf else "+Inf", cumulative))
                family.add_metric(values, buckets, spread.total)
            yield family


def _added_up(counts: Iterable[tuple[str, int]]) -> dict[str, int]:
    added: dict[str, int] = {}
    for name, count in counts:
        added[name] = added.get(name, 0) + count
    return added


def total_of(counter: Counter) -> float:
    """What a counter has counted under all of its labels."""
    return sum(s.value for family in counter.collect() for s in family.samples if s.name.endswith("_total"))


class Instruments:
    """The instruments of one daemon."""

    def __init__(self, *, version: str, build: str = "") -> None:
        self.registry = r = CollectorRegistry()
        ProcessCollector(registry=r)
        self.waits = Gauge(
            "waitd_waits", "Waits in the store by state and kind.", ["state", "kind"], registry=r
        )
        self.waits_finished = Counter(
            "waitd_waits_finished", "Waits that ended.", ["kind", "state"], registry=r
        )
        self.wait_duration = Histogram(
            "waitd_wait_duration_seconds", "From acceptance to the end.", registry=r, buckets=WAIT_BUCKETS
        )
        self.detection_delay = Histogram(
            "waitd_detection_delay_seconds",
            "From the moment the deciding poke was due to the outcome being on disk.",
            registry=r,
            buckets=LATENESS_BUCKETS,
        )
        self.pokes = HotCounter("waitd_pokes", "Verdicts of pokes.", ["kind", "verdict"], registry=r)
        self.unknown_states = Counter(
            "waitd_unknown_states",
            "Answers with a job's state that is on no list of its kind.",
            ["kind"],
            registry=r,
        )
        self.pokes_coalesced = Counter(
            "waitd_pokes_coalesced", "Pokes answered by a request made for another wait too.", registry=r
        )
        self.poke_duration = HotHistogram(
            "waitd_poke_duration_seconds",
            "How long one look at a target took.",
            ["kind"],
            registry=r,
            buckets=DURATION_BUCKETS,
        )
        self.poke_lateness = HotHistogram(
            "waitd_poke_lateness_seconds",
            "How long after its due time a poke started.",
            [],
            registry=r,
            buckets=LATENESS_BUCKETS,
        ).labels()
        self.pokes_in_flight = Gauge("waitd_pokes_in_flight", "Pokes waiting for their target.", registry=r)
        self.waits_overdue = Gauge(
            "waitd_waits_overdue", "Waits that are due and not yet being poked.", registry=r
        )
        self.waits_ending = Gauge(
            "waitd_waits_ending", "Waits whose outcome is known and not yet on disk.", registry=r
        )
        self.origins_limited = Gauge(
            "waitd_origins_limited",
            "Origins whose concurrency is held down because they time out.",
            registry=r,
        )
        self.deliveries = Counter(
            "waitd_deliveries", "Delivery attempts by result.", ["sink", "result"], registry=r
        )
        self.delivery_delay = Histogram(
            "waitd_delivery_delay_seconds",
            "From the outcome to its delivery.",
            ["sink"],
            registry=r,
            buckets=LATENESS_BUCKETS,
        )
        self.submits = Counter(
            "waitd_submits",
            "Submitting calls of waits, by what came of them.",
            ["kind", "result"],
            registry=r,
        )
        self.signals = Counter(
            "waitd_signals", "Signals, and news of keys in S3, that came.", ["source"], registry=r
        )
        self.wakeups = Counter("waitd_wakeups", "Waits that were poked for them.", ["source"], registry=r)
        self.job_cancels = Counter(
            "waitd_job_cancels", "Tries to cancel the job of an ended wait.", ["kind", "state"], registry=r
        )
        self.outbox_deliveries = Gauge(
            "waitd_outbox_deliveries", "Deliveries in the store.", ["state"], registry=r
        )
        self.event_loop_lag = Gauge(
            "waitd_event_loop_lag_seconds", "The longest pause of the loop in the last second.", registry=r
        )
        self.capacity_left = Gauge(
            "waitd_capacity_left", "How many more waits would be accepted.", registry=r
        )
        self.secret_lookups = Counter(
            "waitd_secret_lookups", "Look-ups of connections.", ["backend", "result"], registry=r
        )
        self.api_connections = Gauge(
            "waitd_api_connections", "Connections to the API that are open.", registry=r
        )
        self.requests_refused = Counter(
            "waitd_requests_refused",
            "Requests that the API answered with a problem, by its type; and connections that it did not take.",
            ["problem"],
            registry=r,
        )
        self.state_ephemeral = Gauge(
            "waitd_state_ephemeral",
            "1: the database lies on a volume that ends with the pod or the machine.",
            registry=r,
        )
        self.slots_held = Gauge(
            "waitd_slots_held",
            "Worker slots that the waits in hand hold here, or would hold in Airflow's ways of waiting.",
            ["mode"],
            registry=r,
        )
        self.slot_seconds = Counter(
            "waitd_slot_seconds", "Seconds for which worker slots are or would be held.", ["mode"], registry=r
        )
        self.cpu_seconds = Counter(
            "waitd_cpu_seconds",
            "CPU time that waiting takes: waitd measured, all of the process; the other modes by a model.",
            ["mode"],
            registry=r,
        )
        self.memory_byte_seconds = Counter(
            "waitd_memory_byte_seconds",
            "Memory that waiting takes times how long: waitd measured, all of the process; the other modes by a model.",
            ["mode"],
            registry=r,
        )
        self.cost = Counter(
            "waitd_cost", "What that costs at the prices of the settings.", ["mode", "currency"], registry=r
        )
        self.poke_cpu_seconds = Counter(
            "waitd_poke_cpu_seconds", "CPU time of this process that pokes account for.", ["kind"], registry=r
        )
        self.overhead_cpu_seconds = Counter(
            "waitd_overhead_cpu_seconds",
            "CPU time of this process that no poke, submit, end or delivery explains.",
            registry=r,
        )
        self.resident_bytes_per_wait = Gauge(
            "waitd_resident_bytes_per_wait", "Memory that a wait in hand takes.", registry=r
        )
        self.break_even_poke_interval = Gauge(
            "waitd_break_even_poke_interval_seconds",
            "From which poke_interval on a rescheduled sensor costs less than one that holds its slot.",
            ["kind"],
            registry=r,
        )
        self.break_even_duration = Gauge(
            "waitd_break_even_duration_seconds",
            "From which duration on a wait poked each minute costs less in this mode than with its slot held.",
            ["mode", "kind"],
            registry=r,
        )
        build_info = Gauge(
            "waitd_build_info",
            "The version that runs, and what it was built from.",
            ["version", "build"],
            registry=r,
        )
        build_info.labels(version, build).set(1)
