"""A run of `waitd bench`: puts a load on a daemon, measures it, and checks every outcome.

What a person sees of it is in `waitd.cli.bench`.
"""

import asyncio
import base64
import os
import time
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

from waitd.bench.children import check_running, daemon, free_port, stop
from waitd.bench.comparators import Comparator, compare
from waitd.bench.correctness import check_outcomes
from waitd.bench.fleet import BenchContext, Fleet, FleetSettings, running_fleet
from waitd.bench.machine import (
    Cores,
    ProcessUsage,
    UsageSpan,
    count_sockets,
    machine,
    pin,
    raise_file_limit,
)
from waitd.bench.measurement import QUANTILES, LoadMeasurement, LoadSnapshot, take_snapshot
from waitd.bench.profiles import Load, PlannedWait, plan_waits, pokes_due
from waitd.bench.progress_display import ProgressDisplay
from waitd.bench.quantiles import bucket_quantile
from waitd.bench.receiver import Receiver
from waitd.bench.report import BenchReport, delivery_delays, detection_delays
from waitd.bench.sampler import LATENESS, Sampler, ScrapedMetrics
from waitd.bench.submitting import (
    LABEL,
    SubmitResult,
    body_of,
    repeat_while_limited,
    s3_connections,
    submit_load,
)
from waitd.client import Client, DaemonUnreachable, RequestRefused

#: Seconds within which a child daemon must be ready; long, because the machine may be busy.
START_SECONDS = 300.0
#: How many waits a run cancels at the same time on a daemon that goes on running.
PARALLEL_CANCELS = 32
#: How long it then waits for their callbacks, in seconds; without them, deliveries stay behind.
CALLBACK_SECONDS = 30.0


class DaemonAddress(NamedTuple):
    """The daemon to load; without a URL, one is started."""

    url: str | None = None
    api_key: str | None = None
    ca_file: Path | None = None


class _DaemonUnderLoad(NamedTuple):
    """The daemon under load; `process` is None if it was running before."""

    client: Client
    sampler: Sampler
    process: Process | None
    log: Path

    async def usage(self) -> tuple[ProcessUsage, int]:
        """What it has used so far, and its open sockets.

        A daemon that is not a child process reports them in its own metrics.
        """
        if self.process is not None:
            return ProcessUsage.from_pid(self.process.pid), count_sockets(self.process.pid)
        metrics = await self.sampler.scrape()
        return usage_from_metrics(metrics), int(metrics.total("process_open_fds"))

    def check(self) -> None:
        """Raises ChildFailed: the child process has ended."""
        if self.process is not None:
            check_running(self.process, self.log)


def usage_from_metrics(metrics: ScrapedMetrics) -> ProcessUsage:
    """What a daemon reports about itself.

    It cannot say how long its threads waited for a core.
    """
    cpu, rss = metrics.total("process_cpu_seconds_total"), metrics.total("process_resident_memory_bytes")
    return ProcessUsage(time.monotonic(), cpu, 0.0, int(rss))


async def run(
    display: ProgressDisplay,
    load: Load,
    fleet_settings: FleetSettings,
    address: DaemonAddress,
    comparators: Sequence[Comparator] = (),
) -> BenchReport:
    """Runs a load on a daemon, then on each system that waitd is compared with.

    Raises:
        ChildFailed: a process did not start or ended early.
        DaemonUnreachable: the daemon did not answer.
        RequestRefused: the daemon refused the waits.
    """
    raise_file_limit()
    cores = Cores.split()
    with TemporaryDirectory(prefix="waitd-bench-") as folder:
        context = BenchContext(display, load, fleet_settings, cores, Path(folder))
        pin(os.getpid(), cores.others)
        try:
            report = await _run(context, address)
            for comparator in comparators:
                display.step(f"The same load on {comparator.name}.")
                report = report.with_comparison(await compare(comparator, context))
        finally:
            pin(os.getpid(), cores.measured | cores.others)
    return report


async def _run(context: BenchContext, address: DaemonAddress) -> BenchReport:
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(running_fleet(context))
        secret = None if address.url else "whsec_" + base64.b64encode(os.urandom(32)).decode()
        receiver = await stack.enter_async_context(Receiver(secret, host=context.fleet_settings.host))
        count = context.fleet_settings.processes
        servers = "1 job server serves" if count == 1 else f"{count} job servers serve"
        context.display.step(f"{servers} {context.load.waits:,} jobs; callbacks go to {receiver.url}.")
        settings = {
            "state_dir": context.folder / "state",
            "webhook_secret": secret,
            # A load exceeds these limits by design; everything else is a daemon's default.
            "capacity": max(context.load.waits + 1, 100_000),
            "requests_per_second": 0,
            "min_poke_interval": min(0.1, context.load.poke_interval),
            "log_format": "json",
        }
        loaded = await stack.enter_async_context(_loaded_daemon(address, settings, fleet, context))
        if loaded.process is None:
            context.display.step(f"waitd is already running at {loaded.client.url}.")
        else:
            core = (
                "a core of its own" if context.cores.apart else "the only core, shared with everything else"
            )
            context.display.step(
                f"waitd runs at {loaded.client.url} (process {loaded.process.pid}, on {core})."
            )
        return await _LoadRun(context, fleet, receiver, loaded).measure()


@asynccontextmanager
async def _loaded_daemon(
    address: DaemonAddress, settings: Mapping[str, Any], fleet: Fleet, context: BenchContext
) -> AsyncIterator[_DaemonUnderLoad]:
    """The daemon, and a sampler that scrapes it."""
    log = context.folder / "daemon.log"
    async with AsyncExitStack() as stack:
        bind = f"127.0.0.1:{free_port()}"
        url = address.url or f"http://{bind}"
        client = Client(url, api_key=address.api_key, ca_file=address.ca_file)
        await stack.enter_async_context(client)
        process = None
        if address.url is None:
            child_daemon = daemon(
                {"bind": bind, **settings},
                client,
                log=log,
                environment=s3_connections(fleet),
                cores=context.cores.measured,
                patience=START_SECONDS,
            )
            process = await stack.enter_async_context(child_daemon)
        sampler = Sampler(client)
        await sampler.scrape()  # fails now if /metrics needs a credential
        sampling = asyncio.create_task(sampler.run())
        try:
            yield _DaemonUnderLoad(client, sampler, process, log)
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)


class _LoadRun:
    """One load on one daemon."""

    def __init__(
        self, context: BenchContext, fleet: Fleet, receiver: Receiver, loaded: _DaemonUnderLoad
    ) -> None:
        self._display = context.display
        self._load = context.load
        self._fleet = fleet
        self._receiver = receiver
        self._daemon = loaded
        self._machine = machine()
        self._run_id = os.urandom(6).hex()
        self._submitted = SubmitResult((), 0, 0.0)

    async def measure(self) -> BenchReport:
        """Submits the waits, measures while all are held, waits for every outcome, and reports."""
        try:
            rss_before = (await self._daemon.usage())[0].rss
            started, submitter = time.monotonic(), ProcessUsage.from_pid(os.getpid())
            self._submitted = await submit_load(self._daemon.client, self._waits())
            busy = UsageSpan.between(submitter, ProcessUsage.from_pid(os.getpid())).busy
            accepted, seconds = self._submitted.accepted, self._submitted.seconds
            self._display.step(
                f"{accepted:,} waits are on disk after {seconds:.2f} s, {accepted / seconds:,.0f} a second."
            )
            start, start_metrics = await self._watch_until(time.monotonic() + self._load.warm_up)
            end, end_metrics = await self._watch_until(
                max(started + self._load.measured_until, time.monotonic() + 1.0)
            )
            self._display.step(
                f"Measured for {end.system.at - start.system.at:.1f} s. Waiting for the remaining outcomes."
            )
            await self._until_all_ended(started + self._load.patience)
            stored, jobs, exit_code = await self._final_state()
        finally:
            await self._leave_nothing()
        reported = {path for path, job in jobs.items() if job["reported"]}
        submitted, received = self._submitted.waits, self._receiver.callbacks
        lateness = end_metrics.histogram_since(start_metrics, LATENESS)
        return BenchReport(
            load=self._load,
            machine=self._machine,
            accepted=accepted,
            submitting=seconds,
            submitter_busy=busy,
            measured=LoadMeasurement.between(start, end),
            pokes_due=pokes_due(self._load, (start.system.at - started, end.system.at - started)),
            rss_before=rss_before,
            lateness={name: bucket_quantile(lateness, q) for name, q in QUANTILES.items()},
            detection=detection_delays(submitted, received, jobs),
            prompt=detection_delays(submitted, received, jobs, prompt_only=True),
            delivery=delivery_delays(received),
            loop_lag=self._daemon.sampler.loop_lag(),
            scrapes=self._daemon.sampler.cost(),
            correctness=check_outcomes(submitted, stored, received, reported, daemon_exit_code=exit_code),
            points=self._daemon.sampler.points(),
            local=self._daemon.process is not None,
        )

    def _waits(self) -> Iterator[tuple[PlannedWait, dict[str, Any]]]:
        for wait in plan_waits(self._load, len(self._fleet.servers)):
            yield wait, body_of(wait, self._load, self._fleet, self._receiver.url, self._run_id)

    async def _watch_until(self, until: float) -> tuple[LoadSnapshot, ScrapedMetrics]:
        while time.monotonic() < until:
            self._show_progress()
            await asyncio.sleep(min(0.25, max(0.0, until - time.monotonic())))
        metrics = await self._daemon.sampler.scrape()
        return await take_snapshot(self._daemon.usage, self._fleet), metrics

    async def _until_all_ended(self, until: float) -> None:
        while self._receiver.delivered < len(self._submitted.waits) and time.monotonic() < until:
            self._show_progress()
            await asyncio.sleep(0.25)
        self._show_progress()

    def _show_progress(self) -> None:
        self._daemon.check()
        points = self._daemon.sampler.points()[-1:]
        rate = (
            f"{points[0].pokes_per_second:,.0f} pokes/s, p99 lateness {points[0].lateness_p99 * 1000:.0f} ms"
            if points
            else ""
        )
        self._display.progress(self._receiver.delivered, len(self._submitted.waits), rate)

    async def _final_state(self) -> tuple[list[dict[str, Any]], Mapping[str, Mapping[str, Any]], int]:
        """The stored waits, the jobs' reports, and the daemon's exit code (0 if it goes on)."""
        keep = ("id", "state", "deadline")
        stored = [
            {name: wait[name] for name in keep}
            async for wait in self._daemon.client.each({f"label.{LABEL}": self._run_id})
        ]
        jobs = await self._fleet.jobs()
        if self._daemon.process is None:
            return stored, jobs, 0
        return stored, jobs, await stop(self._daemon.process)

    async def _leave_nothing(self) -> None:
        """Ends the run's waits on a daemon that goes on running: their jobs are gone.

        Waits for their callbacks, so that no delivery fails once the receiver is gone, too.
        """
        if self._daemon.process is not None:
            return
        client, label = self._daemon.client, {f"label.{LABEL}": self._run_id}
        waiting = label | {"state": "waiting"}
        limit = asyncio.Semaphore(PARALLEL_CANCELS)

        async def find(query: Mapping[str, str]) -> list[str]:
            return [wait["id"] async for wait in client.each(query)]

        async def cancel(wait_id: str) -> None:
            async with limit:
                with suppress(RequestRefused):  # it has ended meanwhile, which the list shows
                    await repeat_while_limited(lambda: client.act(wait_id, "cancel"))

        try:
            waits = await repeat_while_limited(lambda: find(label))
            await asyncio.gather(*map(cancel, await repeat_while_limited(lambda: find(waiting))))
            until = time.monotonic() + CALLBACK_SECONDS
            while self._receiver.lacks(waits) and time.monotonic() < until:  # noqa: ASYNC110 - the receiver has no events
                await asyncio.sleep(0.1)
            left = await repeat_while_limited(lambda: find(waiting))
        except (DaemonUnreachable, RequestRefused) as error:
            self._display.step(
                f"The daemon may still hold waits of this run (label {LABEL}={self._run_id}): {error}"
            )
            return
        self._display.step(
            f"The daemon holds {len(left):,} waits of this run. It keeps the {len(waits) - len(left):,} that "
            f"ended (label {LABEL}={self._run_id}) until its retention is over, and the audit of them."
        )
