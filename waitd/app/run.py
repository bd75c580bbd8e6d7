"""The daemon as a process: assembles it, runs it until a signal, and returns an exit code."""

import asyncio
import gc
import resource
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager, suppress
from errno import EADDRINUSE

import structlog

from waitd import __build__, __version__
from waitd.app.adapters import open_adapters
from waitd.app.auth import check_bind, open_guard
from waitd.app.daemon import Daemon
from waitd.app.engine import Engine
from waitd.core.errors import WaitdError
from waitd.log import configure
from waitd.metrics import Instruments
from waitd.outgoing import ResolverLoop
from waitd.outgoing.connector import RESERVED_DESCRIPTORS
from waitd.settings import Settings
from waitd.state_volume import ephemeral_state
from waitd.stores import open_database

log = structlog.get_logger(__name__)

#: Thresholds of the garbage collector: a batch of 10,000 waits costs a fifth less than with
#: Python's 700. The second one is low, so that a collection of the second generation holds the
#: loop for 5 ms, not for 50.
GC_THRESHOLDS = (5_000, 2, 1_000)


@asynccontextmanager
async def open_daemon(settings: Settings, *, adopt_copy: bool = False) -> AsyncIterator[Daemon]:
    """A daemon that is assembled and does not run yet.

    `adopt_copy`: it may use a copy of a database beside its original.

    Raises:
        WaitdError: the store cannot be opened, e.g. because another daemon holds it; or no caller
            could authenticate.
    """
    instruments = Instruments(version=__version__, build=__build__)
    async with AsyncExitStack() as stack:
        adapters = await stack.enter_async_context(open_adapters(settings, instruments))
        database = await open_database(settings.store_url)
        stack.push_async_callback(database.close)
        await database.claim(adopt_copy=adopt_copy)
        engine = Engine(settings, database, adapters, instruments)
        stack.push_async_callback(engine.store.close)
        _warn_if_ephemeral(settings, instruments)
        guard = await stack.enter_async_context(
            open_guard(settings, engine.store, adapters.egress, engine.maintenance.kept_since)
        )
        yield Daemon(settings, engine, adapters, guard)


def _warn_if_ephemeral(settings: Settings, instruments: Instruments) -> None:
    """Logs an error if waits will be lost with their volume.

    The daemon runs on: it may be a trial.
    """
    reason = ephemeral_state(settings.store_url, settings.state_ephemeral)
    instruments.state_ephemeral.set(reason is not None)
    if reason is not None:
        log.error(
            "state_is_ephemeral",
            why=reason,
            consequence="every wait is lost with the volume",
            remedy="put state_dir on a disk or a persistent volume claim, or run waitd standalone; "
            "set state_ephemeral=false if this is wrong",
        )


#: How long one thread may keep the interpreter while another one waits, in seconds. A busy event
#: loop would delay each statement of the database's threads by Python's 5 ms.
SWITCH_SECONDS = 0.0005


def new_loop() -> asyncio.AbstractEventLoop:
    """An event loop: uvloop's if it is installed."""
    try:
        import uvloop  # noqa: PLC0415 - not on every platform
    except ImportError:

        class PlainLoop(ResolverLoop, asyncio.SelectorEventLoop):
            pass

        return PlainLoop()

    class Loop(ResolverLoop, uvloop.Loop):  # type: ignore[misc] # typeshed and uvloop differ in many signatures
        pass

    return Loop()


def _raise_file_limit(settings: Settings) -> None:
    """Raises the limit of open files to the hard limit; the usual 1,024 are too few."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft < hard:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
            log.info("file_limit_raised", limit="RLIMIT_NOFILE", before=soft, now=hard)
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = settings.poke_concurrency + settings.max_connections + RESERVED_DESCRIPTORS
    if limit < wanted:
        log.warning(
            "file_limit_is_low",
            limit="RLIMIT_NOFILE",
            now=limit,
            wanted=wanted,
            consequence="fewer connections than poke_concurrency and max_connections allow",
            remedy="raise the hard limit: ulimit -n, LimitNOFILE= or the container's ulimits",
        )


@contextmanager
def _unwrapped_errors() -> Iterator[None]:
    """Raises a task's WaitdError without the groups around it: its message says what to do."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup) and len(error.exceptions) == 1:
            error = error.exceptions[0]
        if not isinstance(error, WaitdError):
            raise
        raise error from None


def serve(settings: Settings, *, adopt_copy: bool = False) -> int:
    """Runs a daemon until SIGTERM or SIGINT; returns the process's exit code."""

    async def main() -> None:
        with _unwrapped_errors():
            async with open_daemon(settings, adopt_copy=adopt_copy) as daemon:
                await daemon.run()

    try:
        check_bind(settings)
        configure(level=settings.log_level, log_format=settings.log_format)
        gc.set_threshold(*GC_THRESHOLDS)
        _raise_file_limit(settings)
        sys.setswitchinterval(SWITCH_SECONDS)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            runner.run(main())
    except OSError as error:
        in_use = " Another process, perhaps another waitd, listens there: name another address with --bind."
        sys.stderr.write(f"waitd: {f'{error.strerror}.{in_use}' if error.errno == EADDRINUSE else error}\n")
        return 1
    except WaitdError as error:
        sys.stderr.write(f"waitd: {error}\n")
        return 1
    return 0
