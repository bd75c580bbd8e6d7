"""The engine of one daemon: the store, its loops, and how they learn of changes."""

import gc
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import structlog
from anyio.abc import TaskGroup

from waitd.api import EventFeed, LongPolls
from waitd.app.adapters import Adapters
from waitd.app.limits import build_kept_limits
from waitd.core.costs.model import MeasuredUsage
from waitd.core.disk_room import DiskRoom
from waitd.core.errors import InvalidInput, Unavailable, WaitdError
from waitd.core.waits.delivery import DeliveryState, OutboxKey
from waitd.core.waits.retention import RetentionHorizon
from waitd.engine.clock import SteadyClock
from waitd.engine.deliverer import Deliverer
from waitd.engine.disk_watch import DiskWatch
from waitd.engine.job_cancels import JobCancels
from waitd.engine.maintenance import Maintenance, waiting_pages
from waitd.engine.meter import Meter
from waitd.engine.poker import Poker
from waitd.engine.signal_dispatcher import SignalDispatcher
from waitd.engine.submitter import Submitter
from waitd.engine.trouble_log import TroubleLog
from waitd.engine.wait_counts import WaitCounts
from waitd.metrics import Instruments
from waitd.ports import Probe, Sink, StoredOutcome, StoredWait, StoreListener
from waitd.probes.signal import SignalProbe
from waitd.probes.time import TimeProbe
from waitd.settings import Settings
from waitd.settings.types import entry_of
from waitd.sinks.airflow.sweep import AirflowSweep
from waitd.stores import CostRules, Database, Store

if TYPE_CHECKING:
    from waitd.probes.s3.events_queue import S3EventQueue

log = structlog.get_logger(__name__)

#: `gc.freeze` runs again when more than 1.5 times as many waits are held as at the last time, plus
#: this.
FREEZE_STEP = 10_000
#: How often the database's files are looked at, in seconds; three calls of stat(2).
WATCH_SECONDS = 1.0


class Engine(StoreListener):
    """Builds the parts that hold, poke and deliver, and runs their loops.

    The store tells each part in `Store.listeners` what has changed, in that order.
    """

    def __init__(
        self, settings: Settings, database: Database, adapters: Adapters, instruments: Instruments
    ) -> None:
        cost = settings.cost

        def weight(namespace: str) -> float:
            return entry_of(settings.namespaces, namespace).weight

        self.clock = SteadyClock()
        # What stepped while no daemon ran is followed as what steps now: by the maintenance.
        self.clock.follow(-database.clock_moved)
        self.instruments = instruments
        self.kept_limits = build_kept_limits(settings)
        self.store = Store(
            database,
            destination_of=partial(outbox_key, adapters.sinks),
            live_progress=lambda wait_id: self.poker.live_progress(wait_id),  # noqa: PLW0108 - the poker is built below
            measure=self._measure,
            now=self.clock.now,
            retry_delays=settings.delivery_retry_delays,
            costs=CostRules(cost.labels, cost.values),
            limits=self.kept_limits,
        )
        signal_probe = SignalProbe(lambda namespace, key: self.signals.payloads(namespace, key))  # noqa: PLW0108 - the signals are built below
        # A moment comes by the clock of the schedules: by another one, a due poke may be early.
        time_probe = TimeProbe(self.clock.now)
        self.probes: Mapping[str, Probe] = {**adapters.probes, "signal": signal_probe, "time": time_probe}
        self.long_polls = LongPolls()
        self.feed = EventFeed()
        self.wait_counts = WaitCounts(instruments)
        self.submitter = Submitter(
            self.store,
            adapters.jobs,
            self.clock,
            instruments,
            wake=lambda wait_id: self.poker.poke_now(wait_id),  # noqa: PLW0108 - the poker is built below
        )
        self.disk_watch = DiskWatch(
            self.store.disk_space,
            DiskRoom(settings.disk_reserve, settings.disk_warning),
            self.clock,
            instruments,
        )
        self.troubles = TroubleLog(self.clock, instruments)
        self.job_cancels = JobCancels(
            self.store,
            self.probes,
            adapters.jobs,
            self.submitter,
            self.clock,
            instruments,
            troubles=self.troubles,
        )
        self.poker = Poker(
            self.store,
            self.probes,
            self.clock,
            instruments,
            capacity=settings.capacity,
            poke_concurrency=settings.poke_concurrency,
            per_host_concurrency=settings.per_host_concurrency,
            weight=weight,
            submitter=self.submitter,
            troubles=self.troubles,
        )
        self.deliverer = Deliverer(
            self.store,
            adapters.sinks,
            self.clock,
            instruments,
            retry_delays=settings.delivery_retry_delays,
            attempt_timeout=settings.delivery_timeout,
            per_destination=settings.per_destination_concurrency,
            weight=weight,
            troubles=self.troubles,
        )
        self.signals = SignalDispatcher(
            self.store, self.poker, self.clock, instruments, retention=settings.signal_retention
        )
        self.maintenance = Maintenance(
            self.store,
            self.poker,
            self.clock,
            retention=settings.retention,
            retention_bytes=settings.retention_bytes,
            audit_entries=settings.audit_entries,
            after_sweep=self._after_sweep,
        )
        self.meter = (
            Meter(
                self.poker,
                self.clock,
                instruments,
                held=self.wait_counts.waiting,
                constants=cost.constants,
                prices=cost.prices,
                labels=cost.labels,
                poke_cpu_seconds=cost.poke_cpu_seconds,
            )
            if cost.enabled
            else None
        )
        listeners = (self.wait_counts, self.meter, self.poker, self.job_cancels, self.signals, self.deliverer)
        self.store.listeners = [*filter(None, listeners), self]
        self._s3_events = self._build_s3_event_queue(settings, adapters)
        self._sweep_airflow = partial(
            AirflowSweep(self.store, adapters.airflow).run, settings.airflow_sweep_interval
        )
        self._saved_overhead = MeasuredUsage()
        self._cost_horizon = RetentionHorizon(cost.retention)
        self._frozen = 0

    def _build_s3_event_queue(self, settings: Settings, adapters: Adapters) -> "S3EventQueue | None":
        url = settings.s3_events_queue_url
        if url is None:
            return None
        try:
            from waitd.probes.s3.events_queue import S3EventQueue  # noqa: PLC0415 - needs an extra
        except ImportError:
            raise WaitdError("s3_events_queue_url needs pip install 'waitd[s3]'") from None
        try:
            return S3EventQueue(
                adapters.connections,
                url,
                settings.s3_events_conn_id,
                on_created=partial(self.signals.on_s3_object, "s3_queue", namespace=None),
                egress=adapters.egress,
            )
        except ValueError as error:
            raise WaitdError(f"s3_events_queue_url: {error}") from None

    # ------------------------------------------------------------ as a listener of the store

    def on_inserted(self, waits: Sequence[StoredWait]) -> None:  # noqa: ARG002 - the poker holds them
        """Freezes objects when many more waits are held."""
        if self.poker.held > self._frozen * 1.5 + FREEZE_STEP:
            gc.collect(1)  # the young objects: freezing would keep garbage among them
            self._freeze()

    def on_finished(self, outcomes: Sequence[StoredOutcome]) -> None:
        """Wakes the API's readers."""
        for outcome in outcomes:
            self.long_polls.notify(outcome.wait.id)
        self.feed.notify(self.store.finished_seq)

    def on_clock_stepped(self, moved: float) -> None:
        """Makes the clock step, and every schedule with it."""
        self.clock.follow(moved)
        self.poker.on_clock_step(moved)
        self.maintenance.on_clock_step(moved)
        self._cost_horizon.on_clock_step(moved, self.clock.monotonic())
        self.signals.on_clock_step(moved)
        self.deliverer.check_soon()

    def _measure(self, wait: StoredWait, seconds: float) -> MeasuredUsage | None:
        """What a wait that ends after `seconds` has used; None: costs are not measured."""
        meter, pokes = self.meter, wait.progress.pokes
        return None if meter is None else meter.measured(wait.spec, pokes, seconds, ended=True)

    # ------------------------------------------------------------ regular work

    async def _after_sweep(self) -> None:
        """Runs with each sweep of the maintenance. Raises StoreUnavailable."""
        await self.signals.prune()
        await self._count()

    async def _count(self) -> None:
        self._frozen = min(self._frozen, self.poker.held)  # waits that replaced others are not frozen
        self.wait_counts.reset(await self.store.counts())
        deliveries = await self.store.delivery_counts()
        for state in DeliveryState:
            self.instruments.outbox_deliveries.labels(state).set(deliveries.get(state, 0))
        await self._save_overhead()

    async def _save_overhead(self) -> None:
        """Saves what belongs to no wait since the last time.

        Raises StoreUnavailable: saved the next time.
        """
        overhead = self.meter.overhead if self.meter is not None else MeasuredUsage()
        if overhead != self._saved_overhead:
            before = self._cost_horizon.before(self.clock.now(), self.clock.monotonic())
            await self.store.save_overhead(overhead.since(self._saved_overhead), before)
            self._saved_overhead = overhead

    def refresh_gauges(self) -> None:
        """Sets the gauges that are computed for a scrape only."""
        self.poker.gauges.refresh()
        self.wait_counts.refresh_gauges()
        unreadable = self.store.unreadable_counts()
        self.instruments.unreadable_waits.set(unreadable.get("waits", 0))
        for table, rows in unreadable.items():
            self.instruments.unreadable_rows.labels(table).set(rows)
        if self.meter is not None:
            self.meter.refresh_gauges()
        self.instruments.event_loop_lag.set(self.maintenance.lag)

    def _freeze(self) -> None:
        """Takes all objects from the garbage collector, because waits are held for long.

        Walking through 100,000 of them takes a second. The little garbage among them is kept.
        """
        self._frozen = self.poker.held
        gc.freeze()

    # ------------------------------------------------------------ start and end

    def start(self, tasks: TaskGroup) -> None:
        """Starts all loops, and the loading of the store's waiting waits."""
        loops = {
            "submitter": self.submitter.run,
            "job cancels": self.job_cancels.run,
            "poker": self.poker.run,
            "S3 events": None if self._s3_events is None else self._s3_events.run,
            "deliverer": self.deliverer.run,
            "maintenance": self.maintenance.run,
            "database files": self._watch_files,
            "disk": self.disk_watch.run,
            "airflow sweep": self._sweep_airflow,
            "meter": None if self.meter is None else self.meter.run,
            "load": self._load,
        }
        for name, loop in loops.items():
            if loop is not None:
                tasks.start_soon(loop, name=name)

    async def _watch_files(self) -> None:
        """Notices files that are deleted or exchanged while nothing is written."""
        while True:
            await self.store.check_files()
            self.instruments.database_lost.set(bool(self.store.loss))
            await self.clock.sleep(WATCH_SECONDS)

    async def _load(self) -> None:
        """Holds the store's waiting waits, page by page; pokes begin during the read."""
        await self._count()
        started = self.clock.monotonic()
        gc.disable()  # nothing that is loaded is garbage, and looking for it takes a tenth of the time
        try:
            async for page in waiting_pages(self.store):
                self.poker.adopt(page)
            self._freeze()
        finally:
            gc.enable()
        log.info("loaded", waits=self.poker.held, seconds=round(self.clock.monotonic() - started, 3))

    async def drain(self, grace: float) -> None:
        """Starts nothing new, waits up to `grace` seconds for work in progress, saves progress."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.poker.drain, grace)
            tasks.start_soon(self.deliverer.drain, grace)
        try:
            await self.poker.progress_buffer.flush(everything=True)
            await self._save_overhead()
        except Unavailable as error:
            log.warning("progress_not_stored", error=str(error))


def outbox_key(sinks: Mapping[str, Sink], namespace: str, params: Mapping[str, Any]) -> str:
    """The key of a namespace's deliveries to a sink, by its parameters with `kind`.

    Raises InvalidInput.
    """
    rest = dict(params)
    kind = rest.pop("kind")
    if kind not in sinks:
        raise InvalidInput.at("/kind", f"there is no sink {kind}")
    return str(OutboxKey(str(sinks[kind].parse(rest).destination), namespace))
