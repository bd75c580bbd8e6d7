"""A run of `waitd bench`: a load put on a daemon, watched, and held to account. What a person sees of it is in `waitd.cli.bench`."""

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

from waitd.bench.children import ChildFailed, daemon, free_port, stop
from waitd.bench.comparators import Comparator, compare
from waitd.bench.correctness import SubmittedWait, check_outcomes
from waitd.bench.fleet import BenchContext, Fleet, FleetSettings, running_fleet
from waitd.bench.machine import (
    Cores,
    ProcessUsage,
    UsageSpan,
    machine,
    open_as_many_files_as_allowed,
    pin,
    sockets_of,
)
from waitd.bench.measurement import QUANTILES, LoadMeasurement, LoadSnapshot, take_snapshot
from waitd.bench.profiles import Load, PlannedWait, plan_waits
from waitd.bench.progress_display import ProgressDisplay
from waitd.bench.quantiles import bucket_quantile
from waitd.bench.receiver import Receiver
from waitd.bench.report import BenchReport, delivery_delays, detection_delays
from waitd.bench.sampler import LATENESS, Sampler
from waitd.bench.scrape import ScrapedMetrics
from waitd.bench.submitting import LABEL, SubmitResult, body_of, connections, submit_load
from waitd.client import Client, DaemonUnreachable, RequestRefused

#: How long our own daemon may take to be ready, in seconds: whoever measures it does not hurry it.
STARTING = 300.0
#: How many waits are cancelled at a time that an interrupted run leaves on somebody else's daemon.
AT_ONCE = 32


class DaemonAddress(NamedTuple):
    """The daemon to load: one that runs, or (`url` is None) one of our own."""

    url: str | None = None
    api_key: str | None = None
    ca_file: Path | None = None


class _LoadedDaemon(NamedTuple):
    """The daemon under load. `process` and `log`: of our own one."""

    client: Client
    sampler: Sampler
    process: Process | None
    log: Path

    async def usage(self) -> tuple[ProcessUsage, int]:
        """What it has had so far, and its sockets; of a daemon elsewhere, what it says itself."""
        if self.process is not None:
            return ProcessUsage.of(self.process.pid), sockets_of(self.process.pid)
        metrics = await self.sampler.scrape()
        return usage_of(metrics), int(metrics.total("process_open_fds"))

    def check(self) -> None:
        """Raises ChildFailed: our own one has ended."""
        if self.process is not None and self.process.returncode is not None:
            raise ChildFailed(
                f"the daemon ended by itself with exit code {self.process.returncode}", self.log
            )


def usage_of(metrics: ScrapedMetrics) -> ProcessUsage:
    """What a daemon says of itself; others' use of its cores it does not know."""
    cpu, rss = metrics.total("process_cpu_seconds_total"), metrics.total("process_resident_memory_bytes")
    return ProcessUsage(time.monotonic(), cpu, 0.0, int(rss))


async def run(
    show: ProgressDisplay,
    load: Load,
    setting: FleetSettings,
    where: DaemonAddress,
    comparators: Sequence[Comparator] = (),
) -> BenchReport:
    """The whole run; the report's account tells whether everything was right.

    Raises:
        ChildFailed: a process did not start or ended by itself; with what it said last.
        DaemonUnreachable, Refused: the daemon did not answer as it must, or did not take the waits.
    """
    open_as_many_files_as_allowed()
    cores = Cores.ours()
    with TemporaryDirectory(prefix="waitd-bench-") as folder:
        scene = BenchContext(show, load, setting, cores, Path(folder))
        pin(os.getpid(), cores.others)
        try:
            report = await _run(scene, where)
            for comparator in comparators:
                show.step(f"The same load on {comparator.name}.")
                report = report.with_comparison(await compare(comparator, scene))
        finally:
            pin(os.getpid(), cores.measured | cores.others)
    return report


async def _run(scene: BenchContext, where: DaemonAddress) -> BenchReport:
    async with AsyncExitStack() as stack:
        fleet = await stack.enter_async_context(running_fleet(scene))
        secret = None if where.url else "whsec_" + base64.b64encode(os.urandom(32)).decode()
        receiver = await stack.enter_async_context(Receiver(secret, host=scene.setting.host))
        scene.show.step(
            f"{scene.load.waits:,} jobs on a fleet of {scene.setting.processes}; callbacks come to {receiver.url}."
        )
        settings = {"state_dir": scene.folder / "state", "webhook_secret": secret, **_settings(scene.load)}
        system = await stack.enter_async_context(_system(where, settings, fleet, scene))
        on = "a core of its own" if scene.cores.apart else "the only core there is, beside everything else"
        scene.show.step(
            f"waitd at {system.client.url}"
            + (f" (process {system.process.pid}, on {on})." if system.process else ", which runs already.")
        )
        return await _LoadRun(scene, fleet, receiver, system).held()


def _settings(load: Load) -> dict[str, Any]:
    """A daemon's own defaults, but for the limits that a load would run into by design."""
    return {
        "capacity": max(load.waits + 1, 100_000),
        "requests_per_second": 0,
        "min_poke_interval": min(0.1, load.poke_interval),
        "log_format": "json",
    }


@asynccontextmanager
async def _system(
    where: DaemonAddress, settings: Mapping[str, Any], fleet: Fleet, scene: BenchContext
) -> AsyncIterator[_LoadedDaemon]:
    """The daemon, and a sampler that looks at it."""
    log = scene.folder / "daemon.log"
    async with AsyncExitStack() as stack:
        bind = f"127.0.0.1:{free_port()}"
        url = where.url or f"http://{bind}"
        client = await stack.enter_async_context(Client(url, api_key=where.api_key, ca_file=where.ca_file))
        process = None
        if where.url is None:
            own = daemon(
                {"bind": bind, **settings},
                client,
                log=log,
                connections=connections(fleet),
                cores=scene.cores.measured,
                patience=STARTING,
            )
            process = await stack.enter_async_context(own)
        sampler = Sampler(client)
        await sampler.scrape()  # so that one that may not be looked at says so now
        sampling = asyncio.create_task(sampler.run())
        try:
            yield _LoadedDaemon(client, sampler, process, log)
        finally:
            sampling.cancel()
            await asyncio.gather(sampling, return_exceptions=True)


class _LoadRun:
    """One load on one daemon."""

    def __init__(self, scene: BenchContext, fleet: Fleet, receiver: Receiver, system: _LoadedDaemon) -> None:
        self._show = scene.show
        self._load = scene.load
        self._fleet = fleet
        self._receiver = receiver
        self._system = system
        self._facts = machine()
        self._name = os.urandom(6).hex()
        self._handed_in = SubmitResult((), 0, 0.0)

    async def held(self) -> BenchReport:
        """Hands the waits in, watches while all are held, waits for every outcome, and adds up."""
        try:
            rss_before = (await self._system.usage())[0].rss
            began, us = time.monotonic(), ProcessUsage.of(os.getpid())
            self._handed_in = await submit_load(self._system.client, self._waits())
            busy = UsageSpan.between(us, ProcessUsage.of(os.getpid())).busy
            taken, seconds = self._handed_in.taken, self._handed_in.seconds
            self._show.step(f"{taken:,} waits on disk in {seconds:.2f} s, {taken / seconds:,.0f} a second.")
            before, early = await self._watch_until(time.monotonic() + self._load.warm_up)
            after, late = await self._watch_until(
                max(began + self._load.measured_until, time.monotonic() + 1.0)
            )
            self._show.step(
                f"Measured for {after.system.at - before.system.at:.1f} s; now the rest has to end."
            )
            await self._outcomes(began + self._load.patience)
            stored, jobs, code = await self._settled()
        finally:
            await self._clean_up()
        told = {path for path, job in jobs.items() if job["told"]}
        submitted, heard = self._handed_in.waits, self._receiver.heard
        lateness = late.histogram_since(early, LATENESS)
        return BenchReport(
            load=self._load,
            machine=self._facts,
            taken=taken,
            submitting=seconds,
            submitter_busy=busy,
            seen=LoadMeasurement.between(before, after),
            rss_before=rss_before,
            lateness={name: bucket_quantile(lateness, q) for name, q in QUANTILES.items()},
            detection=detection_delays(submitted, heard, jobs),
            prompt=detection_delays(submitted, heard, jobs, prompt_only=True),
            delivery=delivery_delays(heard),
            loop_lag=self._system.sampler.loop_lag(),
            scrapes=self._system.sampler.cost(),
            account=check_outcomes(submitted, stored, heard, told, daemon_exit_code=code),
            points=self._system.sampler.points(),
            local=self._system.process is not None,
        )

    def _waits(self) -> Iterator[tuple[PlannedWait, dict[str, Any]]]:
        for wait in plan_waits(self._load, len(self._fleet.pids)):
            yield wait, body_of(wait, self._load, self._fleet, self._receiver.url, self._name)

    async def _watch_until(self, until: float) -> tuple[LoadSnapshot, ScrapedMetrics]:
        while time.monotonic() < until:
            self._progress()
            await asyncio.sleep(min(0.25, max(0.0, until - time.monotonic())))
        metrics = await self._system.sampler.scrape()
        return await take_snapshot(self._system.usage, self._fleet), metrics

    async def _outcomes(self, until: float) -> None:
        while self._received() < len(self._handed_in.waits) and time.monotonic() < until:
            self._progress()
            await asyncio.sleep(0.25)
        self._progress()

    def _received(self) -> int:
        heard = self._receiver.heard
        return sum(wait.id in heard and heard[wait.id].accepted > 0 for wait in self._handed_in.waits)

    def _progress(self) -> None:
        self._system.check()
        points = self._system.sampler.points()[-1:]
        rate = (
            f"{points[0].pokes_per_second:,.0f} pokes/s, p99 {points[0].lateness_p99 * 1000:.0f} ms late"
            if points
            else ""
        )
        heard = self._receiver.heard.values()
        self._show.progress(sum(h.accepted > 0 for h in heard), len(self._handed_in.waits), rate)

    async def _settled(self) -> tuple[list[dict[str, Any]], Mapping[str, Mapping[str, Any]], int]:
        """The waits as they are stored, the jobs as they were, and how our own daemon ended."""
        keep = ("id", "state", "deadline")
        stored = [
            {name: wait[name] for name in keep}
            async for wait in self._system.client.each({f"label.{LABEL}": self._name})
        ]
        jobs = await self._fleet.jobs()
        if self._system.process is None:
            return stored, jobs, 0
        return stored, jobs, await stop(self._system.process)

    async def _clean_up(self) -> None:
        """On a daemon that goes on without us, no wait of ours does: their jobs are gone."""
        if self._system.process is not None:
            return
        heard = self._receiver.heard
        left = [wait for wait in self._handed_in.waits if wait.id and wait.id not in heard]
        places = asyncio.Semaphore(AT_ONCE)

        async def cancel(wait: SubmittedWait) -> None:
            async with places:
                with suppress(DaemonUnreachable, RequestRefused):
                    await self._system.client.act(wait.id, "cancel")

        await asyncio.gather(*map(cancel, left))
