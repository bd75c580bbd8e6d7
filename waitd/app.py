"""The only place that puts the parts together: settings become objects, objects run in one task group, SIGTERM drains them."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any, NamedTuple

import anyio
import structlog
from aiohttp import web
from sqlalchemy.engine import make_url

from waitd import __build__, __version__
from waitd.api import ApiRunner, Endings, Feed, Limits, Services, build_application
from waitd.app_connections import connections_of, outgoing_of
from waitd.core.errors import InvalidInput, Unavailable, WaitdError
from waitd.core.wait import Progress, WaitId
from waitd.engine.clock import SystemClock
from waitd.engine.deliverer import Deliverer
from waitd.engine.keeper import Keeper, pages
from waitd.engine.ledger import Ledger
from waitd.engine.poker import Poker
from waitd.log import configure
from waitd.metrics import Instruments
from waitd.outgoing import Outgoing
from waitd.ports import Connections, Ended, Probe, Sink, StoredWait
from waitd.probes.http import HttpProbe
from waitd.probes.s3 import s3_probes
from waitd.settings import Settings
from waitd.sinks.amqp import AmqpSink
from waitd.sinks.broker import BrokerSink
from waitd.sinks.kafka import KafkaSink
from waitd.sinks.nats import NatsSink
from waitd.sinks.redis import RedisSink
from waitd.sinks.sqs import SqsSink
from waitd.sinks.webhook import WebhookSink
from waitd.state_volume import ephemeral_state
from waitd.stores import Store

log = structlog.get_logger(__name__)

#: Each behind an extra of its own; its library is imported when the first event goes there.
BROKER_SINKS: tuple[type[BrokerSink[Any, Any]], ...] = (SqsSink, RedisSink, NatsSink, KafkaSink, AmqpSink)

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
        """Serves until SIGTERM or SIGINT, then drains."""
        async with anyio.create_task_group() as tasks:
            with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
                tasks.start_soon(self.poker.run, name="poker")
                tasks.start_soon(self.deliverer.run, name="deliverer")
                tasks.start_soon(self.keeper.run, name="keeper")
                tasks.start_soon(self._load, name="load")
                runner = await self._listen()
                async for signum in signals:
                    log.info("draining", signal=signal.Signals(signum).name, held=self.poker.held)
                    break
                await self._drain(runner)
                tasks.cancel_scope.cancel()

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
            await self.poker.flush_progress(everything=True)
        except Unavailable as error:
            log.warning("progress_not_stored", error=str(error))
        await runner.cleanup()
        log.info("drained", outcomes_not_stored=self.poker.ending)


class Parts(NamedTuple):
    """What pokes, what delivers, where both look up their connections, and where both may go."""

    probes: Mapping[str, Probe]
    sinks: Mapping[str, Sink]
    connections: Connections
    outgoing: Outgoing


@asynccontextmanager
async def parts_of(settings: Settings, instruments: Instruments) -> AsyncIterator[Parts]:
    """Probes by kind and sinks by kind. A new one is one file and one line here."""
    outgoing = outgoing_of(settings)
    secret = settings.webhook_secret.get_secret_value() if settings.webhook_secret else None
    async with AsyncExitStack() as stack:
        connections = await stack.enter_async_context(connections_of(settings, outgoing, instruments))
        http = await stack.enter_async_context(
            HttpProbe(connections, secret_headers=settings.secret_headers, outgoing=outgoing)
        )
        webhook = await stack.enter_async_context(
            WebhookSink(connections, secret=secret, secret_headers=settings.secret_headers, outgoing=outgoing)
        )
        s3 = await stack.enter_async_context(s3_probes(connections, outgoing))
        sinks: dict[str, Sink] = {"webhook": webhook}
        for broker_sink in BROKER_SINKS:
            sinks[broker_sink.kind] = await stack.enter_async_context(broker_sink(connections))
        yield Parts({"http": http, **s3}, sinks, connections, outgoing)


@asynccontextmanager
async def probes_of(settings: Settings) -> AsyncIterator[Mapping[str, Probe]]:
    """The probes alone, for a wait without a daemon."""
    async with parts_of(settings, Instruments(version=__version__)) as parts:
        yield parts.probes


@asynccontextmanager
async def daemon_of(settings: Settings) -> AsyncIterator[Daemon]:
    """A daemon, put together and not yet running.

    Raises:
        WaitdError: the store cannot be opened, e.g. because another daemon holds it.
    """
    instruments = Instruments(version=__version__, build=__build__)
    async with parts_of(settings, instruments) as parts:

        def destination_of(_: str, sink: Mapping[str, Any]) -> str:
            params = dict(sink)
            kind = params.pop("kind")
            if kind not in parts.sinks:
                raise InvalidInput.at("/kind", f"there is no sink {kind}")
            return str(parts.sinks[kind].parse(params).destination)

        store = await Store.open(
            settings.store_url, now=SystemClock.now, ladder=settings.ladder, destination_of=destination_of
        )
        try:
            _tell_if_ephemeral(settings, instruments)
            yield Daemon(settings, store, parts, instruments)
        finally:
            await store.close()


def _tell_if_ephemeral(settings: Settings, instruments: Instruments) -> None:
    """Says it loudly where a wait accepted here may be lost with its volume. The daemon runs on: for a trial that is well enough."""
    why = ephemeral_state(settings.store_url, settings.state_ephemeral)
    instruments.state_ephemeral.set(why is not None)
    if why is not None:
        log.error(
            "state_is_ephemeral",
            why=why,
            consequence="every wait is lost when the volume goes",
            remedy="put state_dir on a disk or a persistent volume claim, or run waitd standalone; state_ephemeral=false if this is wrong",
        )


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop: uvloop's where there is one."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def serve(settings: Settings) -> int:
    """Runs a daemon until it is told to stop; returns the process's exit code."""

    async def main() -> None:
        async with daemon_of(settings) as daemon:
            await daemon.run()

    configure(level=settings.log_level, log_format=settings.log_format)
    try:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    except (WaitdError, OSError) as error:
        sys.stderr.write(f"waitd: {error}\n")
        return 1
    return 0
