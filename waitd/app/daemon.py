"""One waitd: what its parts tell each other, and its life from start to drain."""

import gc
import os
import signal
from collections.abc import Sequence
from typing import TYPE_CHECKING

import anyio
import structlog
from aiohttp import web
from sqlalchemy.engine import make_url

from waitd import __build__, __version__
from waitd.api import (
    ApiRunner,
    Certificate,
    EventFeed,
    Limits,
    LongPolls,
    Services,
    Throttle,
    TlsSite,
    build_application,
)
from waitd.app.auth import ApiGuard
from waitd.app.parts import Parts
from waitd.core.costs.model import MeasuredUsage
from waitd.core.errors import Unavailable, WaitdError
from waitd.core.waits.delivery import DeliveryState
from waitd.core.waits.wait import Progress, WaitId
from waitd.engine.clock import SystemClock
from waitd.engine.deliverer import Deliverer
from waitd.engine.job_cancels import JobCancels
from waitd.engine.maintenance import Maintenance, pages
from waitd.engine.metering import Meter
from waitd.engine.poker import Poker
from waitd.engine.signals import SignalDispatcher
from waitd.engine.submitter import Submitter
from waitd.engine.wait_counts import WaitCounts
from waitd.metrics import Instruments
from waitd.ports import StoredOutcome, StoredWait
from waitd.settings import Settings
from waitd.sinks.airflow.sweep import AirflowSweep
from waitd.stores import Store

if TYPE_CHECKING:
    from waitd.probes.s3.events_queue import S3EventQueue

log = structlog.get_logger(__name__)

#: From how many waits on the collector is kept from walking through what is held.
FREEZE_STEP = 10_000
#: How many connections may wait to be accepted.
BACKLOG = 1024


class Daemon:
    """One waitd: its parts, and its life from start to drain."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        parts: "Parts",
        door: ApiGuard,
        instruments: Instruments,
    ) -> None:
        self.settings = settings
        self.store = store
        self.instruments = instruments
        self.clock = SystemClock()
        self._outgoing = parts.outgoing
        self._keyring = door.keyring
        self.wait_counts = WaitCounts(instruments)
        self.long_polls = LongPolls(settings.max_long_polls)
        self.feed = EventFeed()
        self.submitter = Submitter(store, parts.jobs, self.clock, instruments)
        self.job_cancels = JobCancels(
            store, parts.probes, parts.jobs, self.submitter, self.clock, instruments
        )
        self.poker = Poker(
            store,
            parts.probes,
            self.clock,
            instruments,
            capacity=settings.capacity,
            poke_concurrency=settings.poke_concurrency,
            per_host_concurrency=settings.per_host_concurrency,
            submitter=self.submitter,
        )
        self.deliverer = Deliverer(
            store,
            parts.sinks,
            self.clock,
            instruments,
            retry_delays=settings.delivery_retry_delays,
            attempt_timeout=settings.delivery_timeout,
            per_destination=settings.per_destination_concurrency,
        )
        self.signals = SignalDispatcher(
            store, self.poker, self.clock, instruments, retention=settings.signal_retention
        )
        parts.signals.read = self.signals.signals
        self._s3_events = self._s3_event_queue(parts)
        self._sweep = AirflowSweep(store, parts.airflow)
        self.maintenance = Maintenance(
            store, self.poker, self.clock, retention=settings.retention, recount=self._tidy
        )
        self.meter = self._metering() if settings.cost.enabled else None
        self._overhead_kept = MeasuredUsage()
        self.draining = False
        self._frozen = 0
        store.on_added = self._added
        store.on_ended = self._ended
        store.on_redelivered = self.deliverer.wake
        store.on_signals = self.signals.heard
        store.live_progress = self._live_progress
        store.measured = self._measured
        self.application = build_application(
            Services(
                store=store,
                poking=self.poker,
                probes=parts.probes,
                sinks=parts.sinks,
                connections=parts.connections,
                long_polls=self.long_polls,
                feed=self.feed,
                instruments=instruments,
                limits=Limits(settings.default_timeout, settings.max_timeout, settings.min_poke_interval),
                health=self,
                before_scrape=self._before_scrape,
                signal_receiver=self.signals,
                keyring=door.keyring,
                authenticator=door.authenticator,
                namespaces=door.namespaces,
                now=self.clock.now,
                meter=self.meter,
                throttle=Throttle(
                    requests_per_second=settings.requests_per_second,
                    request_burst=settings.request_burst,
                    max_concurrent=settings.max_connections // 2,
                ),
                open_metrics=settings.open_metrics,
            )
        )

    def _metering(self) -> Meter:
        cost = self.settings.cost
        return Meter(
            self.poker,
            self.clock,
            self.instruments,
            held=self.wait_counts.waiting,
            constants=cost.constants,
            prices=cost.prices,
            labels=cost.labels,
            poke_cpu_seconds=cost.poke_cpu_seconds,
        )

    def _s3_event_queue(self, parts: "Parts") -> "S3EventQueue | None":
        url = self.settings.s3_events_queue_url
        if url is None:
            return None
        try:
            from waitd.probes.s3.events_queue import S3EventQueue  # noqa: PLC0415 - its libraries come with an extra
        except ImportError:
            raise WaitdError("s3_events_queue_url needs pip install 'waitd[s3]'") from None

        def on_created(bucket: str, key: str) -> None:
            self.signals.on_s3_object("s3_queue", bucket, key, namespace=None)

        conn_id = self.settings.s3_events_conn_id
        try:
            return S3EventQueue(
                parts.connections, url, conn_id, on_created=on_created, outgoing=parts.outgoing
            )
        except ValueError as error:
            raise WaitdError(f"s3_events_queue_url: {error}") from None

    # ------------------------------------------------------------ health, as the API tells it

    @property
    def store_writable(self) -> bool:
        """Whether the store's last write went through."""
        return not self.store.failing

    @property
    def store_error(self) -> str:
        """Why it did not."""
        return "its last write failed; the log says why" if self.store.failing else ""

    @property
    def refused_outcomes(self) -> int:
        """How many outcomes the store refused when it was last asked."""
        return self.poker.refused_outcomes

    @property
    def loop_lag(self) -> float:
        """The longest pause of the event loop in the last second, seconds."""
        return self.maintenance.lag

    # ------------------------------------------------------------ what the writer tells

    def _added(self, waits: Sequence[StoredWait]) -> None:
        self.wait_counts.on_inserted(waits)
        self.poker.adopt(waits)
        if self.poker.held > self._frozen * 1.5 + FREEZE_STEP:
            gc.collect(1)  # what is young: garbage would be kept, too
            self._freeze()
        if self.meter is not None:
            self.meter.on_inserted(waits)

    def _ended(self, endings: Sequence[StoredOutcome]) -> None:
        self.wait_counts.on_finished(endings)
        if self.meter is not None:
            self.meter.on_finished(endings)
        destinations: set[str] = set()
        for ended in endings:
            self.poker.drop(ended.wait.id)
            self.job_cancels.on_finished(ended.wait)
            self.long_polls.notify(ended.wait.id)
            destinations |= ended.destinations
        self.feed.notify(self.store.finished_seq)
        self.deliverer.wake(destinations)

    def _measured(self, wait: StoredWait, seconds: float) -> MeasuredUsage | None:
        if self.meter is None:
            return None
        return self.meter.measured(wait.spec, wait.progress.pokes, seconds, ended=True)

    async def _keep_overhead(self) -> None:
        """Raises StoreUnavailable: it is kept the next time."""
        before, now = self._overhead_kept, self.meter.overhead if self.meter is not None else MeasuredUsage()
        if now != before:
            await self.store.save_overhead(now.since(before))
            self._overhead_kept = now

    def _live_progress(self, wait_id: WaitId) -> Progress | None:
        live = self.poker.live(wait_id)
        return None if live is None else live.progress

    async def _tidy(self) -> None:
        """With each sweep of the keeper. Raises StoreUnavailable."""
        await self.signals.prune()
        await self._count()

    async def _count(self) -> None:
        self._frozen = min(self._frozen, self.poker.held)  # those that come in the place of others are new
        self.wait_counts.reset(await self.store.counts())
        deliveries = await self.store.delivery_counts()
        for state in DeliveryState:
            self.instruments.outbox_deliveries.labels(state).set(deliveries.get(state, 0))
        await self._keep_overhead()

    def _before_scrape(self) -> None:
        self.poker.refresh_gauges()
        self.wait_counts.refresh_gauges()
        if self.meter is not None:
            self.meter.refresh_gauges()
        self.instruments.event_loop_lag.set(self.maintenance.lag)

    # ------------------------------------------------------------ its life

    def _freeze(self) -> None:
        """What is held now is held for long: the collector need not walk through it again and again. It does not now either, which takes a
        second for 100,000 waits; old garbage, of which there is little, is kept.
        """
        self._frozen = self.poker.held
        gc.freeze()

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains.

        Raises:
            OSError: the address cannot be listened on.
        """
        await self.signals.load()
        runner = await self._listen()
        try:
            async with anyio.create_task_group() as tasks:
                with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    tasks.start_soon(self.submitter.run, name="submitter")
                    tasks.start_soon(self.job_cancels.run, name="job cancels")
                    tasks.start_soon(self.poker.run, name="poker")
                    if self._s3_events is not None:
                        tasks.start_soon(self._s3_events.run, name="S3 events")
                    tasks.start_soon(self.deliverer.run, name="deliverer")
                    tasks.start_soon(self.maintenance.run, name="maintenance")
                    tasks.start_soon(
                        self._sweep.run, self.settings.airflow_sweep_interval, name="airflow sweep"
                    )
                    tasks.start_soon(self._keyring.run, name="keyring")
                    if self.meter is not None:
                        tasks.start_soon(self.meter.run, name="meter")
                    tasks.start_soon(self._load, name="load")
                    async for signum in signals:
                        log.info("draining", signal=signal.Signals(signum).name, held=self.poker.held)
                        break
                    await self._drain(runner)
                    tasks.cancel_scope.cancel()
        finally:
            await runner.cleanup()

    async def _load(self) -> None:
        """Takes the store's waiting waits in hand, page by page; the first are poked while the last are still being read."""
        await self._count()
        started = self.clock.monotonic()
        gc.disable()  # nothing that is loaded is garbage, and looking for it takes a tenth of the time
        try:
            async for page in pages(self.store):
                self.poker.adopt(page)
            self._freeze()
        finally:
            gc.enable()
        log.info("loaded", waits=self.poker.held, seconds=round(self.clock.monotonic() - started, 3))

    async def _listen(self) -> web.AppRunner:
        runner = ApiRunner(
            self.application, instruments=self.instruments, max_connections=self.settings.max_connections
        )
        await runner.setup()
        await self._site(runner).start()
        for address in runner.addresses:
            self._outgoing.add_listener(*address[:2])
        host, port = runner.addresses[0][:2]
        log.info(
            "serving",
            version=__version__,
            build=__build__,
            address=f"{host}:{port}",
            tls=self.settings.tls_certificate is not None,
            authentication=self.settings.authenticates,
            pid=os.getpid(),
            store=self._store_name(),
        )
        return runner

    def _site(self, runner: web.AppRunner) -> web.BaseSite:
        """Where the API is listened for: with TLS, where there is a certificate."""
        host, port = self.settings.host, self.settings.port
        certificate, key = self.settings.tls_certificate, self.settings.tls_key
        if certificate is None or key is None:
            return web.TCPSite(runner, host, port, backlog=BACKLOG)
        pair = Certificate(certificate, key, now=self.clock.monotonic)
        return TlsSite(runner, host, port, pair, backlog=BACKLOG)

    def _store_name(self) -> str:
        return make_url(self.settings.store_url).render_as_string(hide_password=True)

    async def _drain(self, runner: web.AppRunner) -> None:
        self.draining = True
        self.long_polls.drain()
        self.feed.drain()
        grace = self.settings.drain_timeout
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.poker.drain, grace)
            tasks.start_soon(self.deliverer.drain, grace)
        try:
            await self.poker.progress_buffer.flush(everything=True)
            await self._keep_overhead()
        except Unavailable as error:
            log.warning("progress_not_stored", error=str(error))
        await runner.cleanup()
        log.info("drained", outcomes_not_stored=self.poker.pending_outcomes)
