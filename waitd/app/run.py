"""A daemon as a process: opened, run until it is told to stop, and an exit code."""

import asyncio
import gc
import resource
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from typing import Any

import structlog

from waitd import __build__, __version__
from waitd.app.auth import check_bind, open_guard
from waitd.app.daemon import Daemon
from waitd.app.parts import open_parts
from waitd.core.errors import InvalidInput, WaitdError
from waitd.engine.clock import SystemClock
from waitd.log import configure
from waitd.metrics import Instruments
from waitd.settings import Settings
from waitd.state_volume import ephemeral_state
from waitd.stores import CostRules, Store

log = structlog.get_logger(__name__)

#: New objects before a young collection, and young ones before older ones: a batch of 10,000 waits costs a fifth less than with 700.
COLLECT_AFTER = (5_000, 20, 100)


@asynccontextmanager
async def open_daemon(settings: Settings) -> AsyncIterator[Daemon]:
    """A daemon, put together and not yet running.

    Raises:
        WaitdError: the store cannot be opened, e.g. because another daemon holds it; nobody could come in.
    """
    instruments = Instruments(version=__version__, build=__build__)
    async with open_parts(settings, instruments) as parts:

        def destination_of(_: str, sink: Mapping[str, Any]) -> str:
            params = dict(sink)
            kind = params.pop("kind")
            if kind not in parts.sinks:
                raise InvalidInput.at("/kind", f"there is no sink {kind}")
            return str(parts.sinks[kind].parse(params).destination)

        store = await Store.open(
            settings.store_url,
            now=SystemClock.now,
            retry_delays=settings.delivery_retry_delays,
            destination_of=destination_of,
            costs=CostRules(settings.cost.labels, settings.cost.values, settings.cost.retention),
        )
        try:
            _warn_if_ephemeral(settings, instruments)
            async with open_guard(settings, store, parts.outgoing) as door:
                yield Daemon(settings, store, parts, door, instruments)
        finally:
            await store.close()


def _warn_if_ephemeral(settings: Settings, instruments: Instruments) -> None:
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


def _allow_many_files() -> None:
    """As many file descriptors as the system lets us have: a shell's usual 1,024 are fewer than pokes and connections together."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def serve(settings: Settings) -> int:
    """Runs a daemon until it is told to stop; returns the process's exit code."""

    async def main() -> None:
        async with open_daemon(settings) as daemon:
            await daemon.run()

    try:
        check_bind(settings)
        configure(level=settings.log_level, log_format=settings.log_format)
        gc.set_threshold(*COLLECT_AFTER)
        _allow_many_files()
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    except (WaitdError, OSError) as error:
        sys.stderr.write(f"waitd: {error}\n")
        return 1
    return 0
