"""All Prometheus instruments of waitd. Names and labels are part of the API.

No label contains a wait's id or a URL. `Instruments` belongs to one daemon and has its own
registry, so that two daemons in one process (tests, `waitd bench`) have separate counts. Hot paths
keep the child that `labels(...)` returns: looking it up costs five times as much as using it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily, Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

#: Upper bounds of histogram buckets, in seconds.
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
WAIT_BUCKETS = (1.0, 10.0, 60.0, 300.0, 900.0, 3600.0, 10_800.0, 43_200.0, 86_400.0, 259_200.0, 604_800.0)


class Tally:
    """A count that only increases. One thread writes it; a scrape may read it in another thread."""

    __slots__ = ("count",)

    def __init__(self) -> None:
        self.count = 0

    def inc(self, amount: int = 1) -> None:
        """Adds `amount`."""
        self.count += amount

    def add_to(self, family: CounterMetricFamily, labels: Sequence[str]) -> None:
        """Adds the sample with these labels to a metric family."""
        family.add_metric(labels, self.count)


class BucketCounts:
    """Counts of values by bucket. One thread writes it; a scrape may read it in another thread."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Adds a value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    @property
    def count(self) -> int:
        """The number of values."""
        return sum(self.counts)

    def add_to(self, family: HistogramMetricFamily, labels: Sequence[str]) -> None:
        """Adds the samples with these labels to a metric family."""
        bounds = (*(str(float(bound)) for bound in self.bounds), "+Inf")
        buckets = list(zip(bounds, accumulate(list(self.counts)), strict=True))
        family.add_metric(labels, buckets, self.total)


_Child = TypeVar("_Child", Tally, BucketCounts)


class _HotMetric(Collector, Generic[_Child]):
    """A metric for the path of a poke.

    Those of prometheus_client take a lock and 1 µs per count.
    """

    def __init__(
        self,
        new_family: Callable[[], Any],
        new_child: Callable[[], _Child],
        labels: Sequence[str],
        registry: CollectorRegistry,
    ) -> None:
        self._new_family = new_family
        self._new_child: Callable[[], _Child] = new_child
        self._labels = labels
        self._children: dict[tuple[str, ...], _Child] = {}
        registry.register(self)

    def labels(self, *values: str) -> _Child:
        """The child with these labels. Keep it: looking it up costs more than counting."""
        return self._children.setdefault(values, self._new_child())

    def counts(self, label: str) -> dict[str, int]:
        """The counts by one label, summed over the others."""
        index = self._labels.index(label)
        sums: dict[str, int] = {}
        for values, child in self._children.items():
            sums[values[index]] = sums.get(values[index], 0) + child.count
        return sums

    def describe(self) -> Iterator[Metric]:
        """The metric family without samples, for the registry."""
        yield self._new_family()

    def collect(self) -> Iterator[Metric]:
        """The metric family with its samples, for a scrape."""
        family = self._new_family()
        for values, child in list(self._children.items()):
            child.add_to(family, values)
        yield family


class HotCounter(_HotMetric[Tally]):
    """A counter for the path of a poke."""

    def __init__(
        self, name: str, documentation: str, labels: Sequence[str], *, registry: CollectorRegistry
    ) -> None:
        new_family = partial(CounterMetricFamily, name, documentation, labels=labels)
        super().__init__(new_family, Tally, labels, registry)


class HotHistogram(_HotMetric[BucketCounts]):
    """A histogram for the path of a poke."""

    def __init__(
        self,
        name: str,
        documentation: str,
        labels: Sequence[str],
        *,
        registry: CollectorRegistry,
        buckets: Sequence[float],
    ) -> None:
        new_family = partial(HistogramMetricFamily, name, documentation, labels=labels)
        super().__init__(new_family, partial(BucketCounts, buckets), labels, registry)


def total_of(counter: Counter) -> float:
    """The sum of a counter over all of its labels."""
    return sum(s.value for family in counter.collect() for s in family.samples if s.name.endswith("_total"))


class Instruments:
    """The instruments of one daemon."""

    def __init__(self, *, version: str, build: str = "") -> None:
        self.registry = r = CollectorRegistry()
        ProcessCollector(registry=r)
        self.waits = Gauge("waitd_waits", "Waits in the store.", ["state", "kind"], registry=r)
        self.waits_finished = Counter(
            "waitd_waits_finished", "Finished waits.", ["kind", "state"], registry=r
        )
        self.database_lost = Gauge(
            "waitd_database_lost",
            "1 if the database's files were deleted or exchanged under the daemon, else 0.",
            registry=r,
        )
        self.disk_bytes = Gauge(
            "waitd_disk_bytes",
            "The disk of the database: its size, what is free, what is free in the file, the log's size.",
            ["part"],
            registry=r,
        )
        self.disk_low = Gauge(
            "waitd_disk_low",
            "1 while the disk of the database has less free than disk_warning, else 0.",
            registry=r,
        )
        self.disk_full = Gauge(
            "waitd_disk_full",
            "1 while submits are refused because the disk of the database is nearly full, else 0.",
            registry=r,
        )
        self.unreadable_waits = Gauge(
            "waitd_unreadable_waits", "Waits in the store that cannot be read and are set aside.", registry=r
        )
        self.unreadable_rows = Gauge(
            "waitd_unreadable_rows", "Rows of the store that cannot be read, by table.", ["table"], registry=r
        )
        self.wait_duration = Histogram(
            "waitd_wait_duration_seconds",
            "Time from the acceptance of a wait to its end.",
            registry=r,
            buckets=WAIT_BUCKETS,
        )
        self.detection_delay = Histogram(
            "waitd_detection_delay_seconds",
            "Time from the due time of the deciding poke until the outcome is on disk.",
            registry=r,
            buckets=LATENESS_BUCKETS,
        )
        self.pokes = HotCounter("waitd_pokes", "Verdicts of pokes.", ["kind", "verdict"], registry=r)
        self.unknown_states = Counter(
            "waitd_unknown_states",
            "Responses with a job state that the kind does not list.",
            ["kind"],
            registry=r,
        )
        self.pokes_coalesced = Counter(
            "waitd_pokes_coalesced", "Pokes that shared the request of another wait.", registry=r
        )
        self.poke_duration = HotHistogram(
            "waitd_poke_duration_seconds",
            "Duration of a poke.",
            ["kind"],
            registry=r,
            buckets=DURATION_BUCKETS,
        )
        self.poke_lateness = HotHistogram(
            "waitd_poke_lateness_seconds",
            "Time from the due time of a poke to its start.",
            [],
            registry=r,
            buckets=LATENESS_BUCKETS,
        ).labels()
        self.pokes_in_flight = Gauge(
            "waitd_pokes_in_flight", "Pokes that wait for their target's response.", registry=r
        )
        self.waits_overdue = Gauge("waitd_waits_overdue", "Waits that are due and not yet poked.", registry=r)
        self.waits_ending = Gauge(
            "waitd_waits_ending", "Waits whose outcome is known but not yet on disk.", registry=r
        )
        self.origins_limited = Gauge(
            "waitd_origins_limited",
            "Origins whose concurrency is limited because they time out.",
            registry=r,
        )
        self.deliveries = Counter("waitd_deliveries", "Delivery attempts.", ["sink", "result"], registry=r)
        self.delivery_delay = Histogram(
            "waitd_delivery_delay_seconds",
            "Time from the outcome to its delivery.",
            ["sink"],
            registry=r,
            buckets=LATENESS_BUCKETS,
        )
        self.submits = Counter(
            "waitd_submits",
            "Submit calls of waits.",
            ["kind", "result"],
            registry=r,
        )
        self.signals = Counter(
            "waitd_signals", "Signals and S3 event notifications that were received.", ["source"], registry=r
        )
        self.wakeups = Counter(
            "waitd_wakeups",
            "Waits that a signal or an S3 event notification made poke at once.",
            ["source"],
            registry=r,
        )
        self.job_cancels = Counter(
            "waitd_job_cancels",
            "Attempts to cancel the job of a finished wait.",
            ["kind", "state"],
            registry=r,
        )
        self.outbox_deliveries = Gauge(
            "waitd_outbox_deliveries", "Deliveries in the store.", ["state"], registry=r
        )
        self.event_loop_lag = Gauge(
            "waitd_event_loop_lag_seconds",
            "The longest pause of the event loop in the last second.",
            registry=r,
        )
        self.capacity_left = Gauge(
            "waitd_capacity_left", "The number of further waits that would be accepted.", registry=r
        )
        self.secret_lookups = Counter(
            "waitd_secret_lookups", "Lookups of connections.", ["backend", "result"], registry=r
        )
        self.name_lookups = Counter(
            "waitd_name_lookups",
            "Look-ups of host names. stale: it failed, and the last answer is used on.",
            ["result"],
            registry=r,
        )
        self.api_connections = Gauge("waitd_api_connections", "Open connections to the API.", registry=r)
        self.requests_refused = Counter(
            "waitd_requests_refused",
            "Requests that the API answered with a problem, by its type, and refused connections.",
            ["problem"],
            registry=r,
        )
        self.limits_exceeded = Counter(
            "waitd_limits_exceeded",
            "Requests that a limit of a namespace or a caller refused.",
            ["namespace", "limit"],
            registry=r,
        )
        self.local_errors = Counter(
            "waitd_local_errors_total",
            "What the daemon's own trouble prevented: no descriptor, memory, disk, network or resolver.",
            ["met_by"],
            registry=r,
        )
        self.state_ephemeral = Gauge(
            "waitd_state_ephemeral",
            "1 if the database is on a volume that is lost with the pod or the machine, else 0.",
            registry=r,
        )
        self.slots_held = Gauge(
            "waitd_slots_held",
            "Worker slots that the present waits hold, or would hold in Airflow's modes.",
            ["mode"],
            registry=r,
        )
        self.slot_seconds = Counter(
            "waitd_slot_seconds", "Slot-seconds that waiting takes or would take.", ["mode"], registry=r
        )
        self.cpu_seconds = Counter(
            "waitd_cpu_seconds",
            "CPU time that waiting takes. waitd: measured, the whole process; other modes: by a model.",
            ["mode"],
            registry=r,
        )
        self.memory_byte_seconds = Counter(
            "waitd_memory_byte_seconds",
            "Memory byte-seconds that waiting takes. waitd: measured, the whole process; other modes: by a model.",
            ["mode"],
            registry=r,
        )
        self.cost = Counter(
            "waitd_cost",
            "The cost of waiting at the prices in the settings.",
            ["mode", "currency"],
            registry=r,
        )
        self.poke_cpu_seconds = Counter(
            "waitd_poke_cpu_seconds", "CPU time of this process that pokes used.", ["kind"], registry=r
        )
        self.overhead_cpu_seconds = Counter(
            "waitd_overhead_cpu_seconds",
            "CPU time of this process that no poke, submit, outcome or delivery explains.",
            registry=r,
        )
        self.resident_bytes_per_wait = Gauge(
            "waitd_resident_bytes_per_wait", "Memory of one held wait.", registry=r
        )
        self.break_even_poke_interval = Gauge(
            "waitd_break_even_poke_interval_seconds",
            "The poke_interval from which on a rescheduled sensor costs less than a held slot.",
            ["kind"],
            registry=r,
        )
        self.break_even_duration = Gauge(
            "waitd_break_even_duration_seconds",
            "The duration from which on a wait that is poked every minute costs less in this mode than a held slot.",
            ["mode", "kind"],
            registry=r,
        )
        Gauge(
            "waitd_build_info", "The running version and its build.", ["version", "build"], registry=r
        ).labels(version, build).set(1)
