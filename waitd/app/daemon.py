"""One waitd: what its parts tell each other, and its life from start to drain."""

import asyncio
import gc
import os
import signal
from collections.abc import Sequence

import anyio
import structlog
from aiohttp import web
from sqlalchemy.engine import make_url

from waitd import __build__, __version__
from waitd.api import ApiRunner, Endings, Feed, Limits, Services, build_application
from waitd.app.parts import Parts
from waitd.core.errors import Unavailable
from waitd.core.wait import Progress, WaitId
from waitd.engine.clock import SystemClock
from waitd.engine.deliverer import Deliverer
from waitd.engine.keeper import Keeper, pages
from waitd.engine.ledger import Ledger
from waitd.engine.poker import Poker
from waitd.metrics import Instruments
from waitd.ports import Ended, StoredWait
from waitd.settings import Settings
from waitd.stores import Store

log = structlog.get_logger(__name__)

#: How many more waits than at the last time are worth a walk of the collector.
FREEZE_STEP = 10_000


class Daemon:
    """One waitd: its parts, and its life from start to drain."""

    def __init__(
        self,
        settings: Settings,
        store: Store,
        parts: "Parts",
        instruments: Instruments,
    ) -> None:
        self.settings = settings
        self.store = store
        self.instruments = instruments
        self.clock = SystemClock()
        self._outgoing = parts.outgoing
        self.ledger = Ledger(instruments)
        self.endings = Endings(settings.max_long_polls)
        self.feed = Feed()
        self.poker = Poker(
            store,
            parts.probes,
            self.clock,
            instruments,
            capacity=settings.capacity,
            poke_concurrency=settings.poke_concurrency,
            per_host_concurrency=settings.per_host_concurrency,
        )
        self.deliverer = Deliverer(
            store,
            parts.sinks,
            self.clock,
            instruments,
            ladder=settings.ladder,
            attempt_timeout=settings.delivery_timeout,
            per_destination=settings.per_destination_concurrency,
        )
        self.keeper = Keeper(store, self.poker, self.clock, retention=settings.retention, recount=self._count)
        self.draining = False
        self._frozen = 0
        store.on_added = self._added
        store.on_ended = self._ended
        store.on_redelivered = self.deliverer.wake
        store.live_progress = self._live_progress
        self.application = build_application(
            Services(
                store=store,
                poking=self.poker,
                probes=parts.probes,
                sinks=parts.sinks,
                connections=parts.connections,
                endings=self.endings,
                feed=self.feed,
                instruments=instruments,
                limits=Limits(settings.default_timeout, settings.max_timeout, settings.min_poke_interval),
                health=self,
                before_scrape=self._before_scrape,
            )
        )

    # ------------------------------------------------------------ health, as the API tells it

    @property
    def store_writable(self) -> bool:
        """Whether the store's last write went through."""
        return not self.store.failing

    @property
    def store_trouble(self) -> str:
        """Why it did not."""
        return "its last write failed; the log says why" if self.store.failing else ""

    @property
    def unstored_endings(self) -> int:
        """How many outcomes the store refused when it was last asked."""
        return self.poker.unstored

    @property
    def loop_lag(self) -> float:
        """The longest pause of the event loop in the last second, seconds."""
        return self.keeper.lag

    # ------------------------------------------------------------ what the writer tells

    def _added(self, waits: Sequence[StoredWait]) -> None:
        self.ledger.added(waits)
        self.poker.adopt(waits)

    def _ended(self, endings: Sequence[Ended]) -> None:
        self.ledger.ended(endings)
        destinations: set[str] = set()
        for ended in endings:
            self.poker.drop(ended.wait.id)
            self.endings.announce(ended.wait.id)
            destinations |= ended.destinations
        self.feed.announce(self.store.finished_seq)
        self.deliverer.wake(destinations)

    def _live_progress(self, wait_id: WaitId) -> Progress | None:
        live = self.poker.live(wait_id)
        return None if live is None else live.progress

    async def _count(self) -> None:
        if self.poker.held > self._frozen * 1.5 + FREEZE_STEP:
            self._freeze()
        self.ledger.reset(await self.store.counts())
        for state, count in (await self.store.delivery_counts()).items():
            self.instruments.outbox_deliveries.labels(state).set(count)

    def _before_scrape(self) -> None:
        self.poker.refresh_gauges()
        self.ledger.refresh_gauges()
        self.instruments.event_loop_lag.set(self.keeper.lag)

    # ------------------------------------------------------------ its life

    def _freeze(self) -> None:
        """What is held now is held for long: the collector need not walk through it again and again (0.1 s at a million waits)."""
        self._frozen = self.poker.held
        gc.collect()
        gc.freeze()

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains.

        Raises:
            OSError: the address cannot be listened on.
        """
        runner = await self._listen()
        try:
            async with anyio.create_task_group() as tasks:
                with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                    tasks.start_soon(self.poker.run, name="poker")
                    tasks.start_soon(self.deliverer.run, name="deliverer")
                    tasks.start_soon(self.keeper.run, name="keeper")
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
        async for page in pages(self.store):
            self.poker.adopt(page)
            await asyncio.sleep(0)
        self._freeze()
        log.info("loaded", waits=self.poker.held, seconds=round(self.clock.monotonic() - started, 3))

    async def _listen(self) -> web.AppRunner:
        runner = ApiRunner(self.application)
        await runner.setup()
        site = web.TCPSite(runner, self.settings.host, self.settings.port, backlog=1024)
        await site.start()
        for address in runner.addresses:
            self._outgoing.listens_on(*address[:2])
        host, port = runner.addresses[0][:2]
        log.info(
            "serving",
            version=__version__,
            build=__build__,
            address=f"{host}:{port}",
            pid=os.getpid(),
            store=self._store_name(),
        )
        return runner

    def _store_name(self) -> str:
        return make_url(self.settings.store_url).render_as_string(hide_password=True)

    async def _drain(self, runner: web.AppRunner) -> None:
        self.draining = True
        self.endings.drain()
        self.feed.drain()
        grace = self.settings.drain_timeout
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self.poker.drain, grace)
            tasks.start_soon(self.deliverer.drain, grace)
        try:
            await self.poker.learned.flush(everything=True)
        except Unavailable as error:
            log.warning("progress_not_stored", error=str(error))
        await runner.cleanup()
        log.info("drained", outcomes_not_stored=self.poker.ending)
