"""One daemon: the engine with the HTTP API in front of it, from start to drain."""

import os
import signal
from collections.abc import Sequence
from contextlib import AsyncExitStack

import anyio
import structlog
from aiohttp import web
from sqlalchemy.engine import make_url

from waitd import __build__, __version__
from waitd.api import (
    ApiDependencies,
    ApiRunner,
    Certificate,
    Limits,
    TlsSite,
    build_application,
    build_metrics_application,
)
from waitd.app.adapters import Adapters
from waitd.app.auth import ApiGuard
from waitd.app.engine import Engine
from waitd.app.limits import build_throttle, connection_limit
from waitd.core.errors import StoreUnusable
from waitd.metrics import Instruments
from waitd.settings import Settings, parse_bind

log = structlog.get_logger(__name__)

#: How many connections may wait to be accepted.
BACKLOG = 1024
#: How many connections the address of the metrics may have.
MAX_SCRAPERS = 32


class Daemon:
    """One daemon, which also reports its health to the API."""

    def __init__(self, settings: Settings, engine: Engine, adapters: Adapters, guard: ApiGuard) -> None:
        self.engine = engine
        self.draining = False
        self._settings = settings
        self._egress = adapters.egress
        self._connections = adapters.connections
        self._keyring = guard.keyring
        dependencies = ApiDependencies(
            store=engine.store,
            poking=engine.poker,
            probes=engine.probes,
            sinks=adapters.sinks,
            connections=adapters.connections,
            long_polls=engine.long_polls,
            feed=engine.feed,
            instruments=engine.instruments,
            limits=Limits(settings.default_timeout, settings.max_timeout, settings.min_poke_interval),
            health=self,
            before_scrape=engine.refresh_gauges,
            signal_receiver=engine.signals,
            keyring=guard.keyring,
            inspector=adapters.inspector,
            authenticator=guard.authenticator,
            namespaces=guard.namespaces,
            now=engine.clock.now,
            meter=engine.meter,
            throttle=build_throttle(settings, engine.instruments),
            kept_limits=engine.kept_limits,
            page_bytes=lambda namespace: settings.limits_of(namespace).page_bytes,
            open_metrics=settings.open_metrics,
            disk=engine.disk_watch.room,
        )
        self.application = build_application(dependencies)
        self._metrics_application = build_metrics_application(dependencies)

    # ------------------------------------------------------------ health

    @property
    def store_error(self) -> str:
        """Why the last write failed; empty if it succeeded."""
        return self.engine.store.loss or self.engine.store.failure

    @property
    def local_trouble(self) -> str:
        """What is wrong with the daemon or its machine now; empty if nothing is."""
        return self.engine.troubles.current

    def report_trouble(self, trouble: str) -> None:
        """Notes what the daemon or its machine lacked during a request."""
        self.engine.troubles.report(trouble, "requests")

    @property
    def warnings(self) -> Sequence[str]:
        """What the operator should mend although the daemon is ready."""
        return self._connections.warnings

    @property
    def refused_outcomes(self) -> int:
        """How many outcomes the store refused at the last try."""
        return self.engine.poker.outcomes.refused

    @property
    def loop_lag(self) -> float:
        """The longest pause of the event loop in the last second, seconds."""
        return self.engine.maintenance.lag

    # ------------------------------------------------------------ start and drain

    async def run(self) -> None:
        """Serves until SIGTERM or SIGINT, then drains.

        Raises:
            OSError: the address cannot be listened on.
            ExceptionGroup: a loop failed, e.g. since the waits cannot be read.
        """
        await self.engine.signals.load()
        await self.engine.disk_watch.measure()
        async with AsyncExitStack() as listeners:
            runner = await self._listen(listeners)
            async with anyio.create_task_group() as tasks:
                with anyio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as stop_signals:
                    self.engine.start(tasks)
                    tasks.start_soon(self._keyring.run, name="keyring")
                    async for signum in stop_signals:
                        log.info("draining", signal=signal.Signals(signum).name, held=self.engine.poker.held)
                        break
                    await self._drain(runner)
                    tasks.cancel_scope.cancel()
        if self.engine.store.loss:
            raise StoreUnusable(f"the database was lost while the daemon ran: {self.engine.store.loss}")

    async def _listen(self, listeners: AsyncExitStack) -> web.AppRunner:
        """Listens until `listeners` are closed; returns the runner of the API."""
        settings = self._settings
        if settings.metrics_bind is not None:
            await self._listen_for_scrapes(listeners, *parse_bind(settings.metrics_bind))
        runner = ApiRunner(
            self.application,
            instruments=self.engine.instruments,
            max_connections=connection_limit(settings),
        )
        listeners.push_async_callback(runner.cleanup)
        await runner.setup()
        host, port = await self._start(runner, self._build_site(runner))
        log.info(
            "serving",
            version=__version__,
            build=__build__,
            address=f"{host}:{port}",
            tls=settings.tls_certificate is not None,
            authentication=settings.authenticates,
            pid=os.getpid(),
            store=make_url(settings.store_url).render_as_string(hide_password=True),
        )
        return runner

    async def _listen_for_scrapes(self, listeners: AsyncExitStack, host: str, port: int) -> None:
        """Serves the metrics; its connections are not counted among those of the API."""
        runner = ApiRunner(
            self._metrics_application,
            instruments=Instruments(version=__version__),
            max_connections=MAX_SCRAPERS,
        )
        listeners.push_async_callback(runner.cleanup)
        await runner.setup()
        host, port = await self._start(runner, web.TCPSite(runner, host, port))
        log.info("serving_metrics", address=f"{host}:{port}")

    async def _start(self, runner: web.AppRunner, site: web.BaseSite) -> tuple[str, int]:
        """Starts to listen; returns the address. No wait may poke the daemon itself."""
        await site.start()
        for address in runner.addresses:
            self._egress.add_listener(*address[:2])
        host, port = runner.addresses[0][:2]
        return host, port

    def _build_site(self, runner: web.AppRunner) -> web.BaseSite:
        """The site that the API listens on: with TLS if there is a certificate."""
        host, port = self._settings.host, self._settings.port
        certificate_file, key_file = self._settings.tls_certificate, self._settings.tls_key
        if certificate_file is None or key_file is None:
            return web.TCPSite(runner, host, port, backlog=BACKLOG)
        certificate = Certificate(certificate_file, key_file, now=self.engine.clock.monotonic)
        return TlsSite(runner, host, port, certificate, backlog=BACKLOG)

    async def _drain(self, runner: web.AppRunner) -> None:
        self.draining = True
        self.engine.long_polls.drain()
        self.engine.feed.drain()
        await self.engine.drain(self._settings.drain_timeout)
        await runner.cleanup()
        log.info("drained", outcomes_not_stored=self.engine.poker.outcomes.pending)
