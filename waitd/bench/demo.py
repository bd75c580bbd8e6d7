"""The demo: a few hundred waits on a flaky job server, and a daemon that is killed in the middle.

What a person sees of it is in `waitd.cli.demo`.
"""

import asyncio
import base64
import os
import time
from asyncio.subprocess import Process
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from waitd.bench.children import (
    ChildFailed,
    JobServer,
    check_running,
    daemon,
    free_port,
    job_server,
    kill,
    stop,
)
from waitd.bench.correctness import CorrectnessReport, SubmittedWait, check_outcomes, submitted_wait
from waitd.bench.jobs import BEHAVIOURS, CONDITIONS, job_path, parse_job
from waitd.bench.progress_display import ProgressDisplay
from waitd.bench.receiver import Receiver
from waitd.bench.s3 import MARKER, files_of_job, s3_connection
from waitd.client import Client, RequestRefused

#: The number of waits in a hundred by the behaviour of their job.
MIX: Mapping[str, int] = {
    "succeed": 34, "fail": 16, "endless": 10, "unavailable": 9, "throttled": 8, "hangs": 6, "resets": 5,
    "truncates": 4, "slow": 4, "absent": 4,
}  # fmt: skip
#: With the extra `s3`, this many waits in a hundred are on what a job writes, instead of jobs that
#: succeed: on its marker, on all of its parts, or until it writes nothing more.
S3_MIX: Mapping[tuple[str, str], int] = {
    ("marker", "succeed"): 6, ("marker", "unavailable"): 4, ("marker", "resets"): 2, ("marker", "endless"): 2,
    ("parts", "succeed"): 3, ("parts", "unavailable"): 1, ("quiet", "succeed"): 2,
}  # fmt: skip
BUCKET = "landing"
CONN_ID = "demo_s3"
#: Seconds without a new file after which a job counts as done; running jobs write more often.
QUIET_SECONDS = 3.0
POKE_INTERVAL = 0.5
#: The shortest and the longest job, in seconds; waits on endless jobs time out in the same span.
JOB_SECONDS = (1.0, 12.0)
#: The timeout of a wait whose job ends, in seconds: no delay turns its success into a timeout.
AMPLE_TIMEOUT = 80.0
#: Seconds within which the restarted daemon must deliver every outcome.
PATIENCE = 90.0
#: Shorter than the default, so that retries happen while the demo runs.
DELIVERY_RETRY_DELAYS = (0, 0.5, 1, 1, 2, 2, 3, 3, 5, 5, 5, 5)
#: The share of waits whose first callback is refused.
REFUSE_SHARE = 0.1


def waits(server: JobServer, callback: str, count: int) -> list[dict[str, Any]]:
    """The bodies of `count` waits; each behaviour has its own origin."""
    names = [("http", name) for name, share in MIX.items() for _ in range(share)]
    if server.s3:
        keys = [(key, name) for (key, name), share in S3_MIX.items() for _ in range(share)]
        names = names[len(keys) :] + keys
    first, last = JOB_SECONDS
    home = dict(zip(MIX, server.urls, strict=True))
    bodies = []
    for n in range(count):
        # 37 and 100 have no common factor: every hundred has the whole mix, well shuffled.
        watches, name = names[n * 37 % len(names)]
        seconds = round(first + (last - first) * n / max(count - 1, 1), 2)
        path = job_path(name, seconds, f"job-{n:04d}")
        endless = BEHAVIOURS[name].ends is None
        bodies.append(
            {
                **(_job_wait(home[name] + path) if watches == "http" else _key_wait(watches, path)),
                "poke_interval": POKE_INTERVAL,
                "timeout": seconds if endless else AMPLE_TIMEOUT,
                "sinks": [{"kind": "webhook", "url": callback}],
                "labels": {"demo": "waitd", "behaviour": name},
                "idempotency_key": f"demo-{n:04d}",
            }
        )
    return bodies


def _job_wait(endpoint: str) -> dict[str, Any]:
    return {"kind": "http", "params": {"endpoint": endpoint, "request_timeout": 1.0, **CONDITIONS}}


def _key_wait(watches: str, path: str) -> dict[str, Any]:
    """A wait on the keys of a job; see S3_MIX."""
    common = {"aws_conn_id": CONN_ID, "request_timeout": 1.0}
    prefix = path.removeprefix("/") + "/"
    parts = len(files_of_job(parse_job(path), parse_job(path).seconds, ended=True)) - 1
    match watches:
        case "marker":
            return {"kind": "s3_key", "params": {"bucket_key": f"s3://{BUCKET}/{prefix}{MARKER}", **common}}
        case "parts":
            pattern = {"bucket_key": f"s3://{BUCKET}/{prefix}*.parquet", "wildcard_match": True}
            return {"kind": "s3_key", "params": {**pattern, "check": f"size(files) == {parts}", **common}}
        case _:
            quiet = {"bucket_name": BUCKET, "prefix": prefix, "inactivity_period": QUIET_SECONDS}
            return {"kind": "s3_keys_unchanged", "params": {**quiet, **common}}


def s3_installed() -> bool:
    """Whether the extra `s3` is installed; without it the daemon refuses waits on keys."""
    return find_spec("botocore") is not None


async def run(display: ProgressDisplay, count: int) -> CorrectnessReport:
    """Runs the demo with `count` waits and checks every outcome.

    Raises:
        ChildFailed: a process did not start, ended early, or refused the waits.
        DaemonUnreachable, RequestRefused: the daemon failed to answer.
    """
    async with AsyncExitStack() as stack:
        home = Path(stack.enter_context(TemporaryDirectory(prefix="waitd-demo-")))
        secret = "whsec_" + base64.b64encode(os.urandom(32)).decode()
        bind = f"127.0.0.1:{free_port()}"
        settings = {
            "bind": bind,
            "state_dir": home / "state",
            "webhook_secret": secret,
            "delivery_retry_delays": list(DELIVERY_RETRY_DELAYS),
            "log_format": "json",
        }
        server = await stack.enter_async_context(
            job_server(len(MIX), log=home / "job-server.log", with_s3=s3_installed())
        )
        receiver = await stack.enter_async_context(Receiver(secret, refuse_share=REFUSE_SHARE))
        client = await stack.enter_async_context(Client(f"http://{bind}"))
        display.step(
            f"A job server plays {len(MIX)} flaky batch APIs: they answer 503 or 429, hang, reset connections, and some jobs fail."
        )
        if server.s3:
            display.step("A small S3 holds what some of the jobs write, and answers SlowDown in bursts.")
        display.step(
            f"A receiver of callbacks listens at {receiver.url}; it refuses about {REFUSE_SHARE:.0%} of the first attempts."
        )
        connections = {f"AIRFLOW_CONN_{CONN_ID.upper()}": s3_connection(server.s3[0])} if server.s3 else {}
        serve = partial(daemon, settings, client, log=home / "daemon.log", environment=connections)
        demo = _Demo(display, serve, client, receiver, home / "daemon.log")
        await demo.submit_and_kill(waits(server, receiver.url, count))
        return await demo.restart_and_finish(server)


class _Demo:
    """The demo's daemon, before and after it is killed."""

    def __init__(
        self,
        display: ProgressDisplay,
        serve: Callable[[], AbstractAsyncContextManager[Process]],
        client: Client,
        receiver: Receiver,
        log: Path,
    ) -> None:
        self._display = display
        self._serve = serve
        self._client = client
        self._receiver = receiver
        self._log = log
        self._submitted: list[SubmittedWait] = []

    async def submit_and_kill(self, bodies: Sequence[dict[str, Any]]) -> None:
        """Starts the daemon, submits the waits, and kills it at half of the outcomes."""
        async with self._serve() as process:
            self._display.step(f"waitd runs at {self._client.url} (process {process.pid}) on a SQLite file.")
            started = time.monotonic()
            try:
                results = await self._client.submit_batch(bodies)
            except RequestRefused as error:
                raise ChildFailed(f"The daemon refused the waits ({error})", self._log) from error
            self._submitted = [
                submitted_wait(body, result) for body, result in zip(bodies, results, strict=True)
            ]
            took = time.monotonic() - started
            accepted = sum(wait.id != "" for wait in self._submitted)
            self._display.step(f"{accepted} waits are submitted and on disk after {took * 1000:.0f} ms.")
            await self._watch(process, enough=len(bodies) // 2, until=started + JOB_SECONDS[1])
            await kill(process)
            missing = len(bodies) - self._receiver.delivered
            self._display.step(
                f"Killed the daemon with SIGKILL while {missing} of {len(bodies)} outcomes were missing."
            )

    async def restart_and_finish(self, server: JobServer) -> CorrectnessReport:
        """Starts the daemon again, waits for all outcomes, and checks them."""
        started = time.monotonic()
        async with self._serve() as process:
            took = time.monotonic() - started
            self._display.step(
                f"Started it again: ready after {took:.1f} s (process {process.pid}). All waits continue."
            )
            await self._watch(process, enough=len(self._submitted), until=started + PATIENCE)
            stored = await self._client.find({"label.demo": "waitd"}, limit=2 * len(self._submitted))
            jobs = (await server.get("/report"))["jobs"]
            code = await stop(process)
            self._display.step(f"Stopped it with SIGTERM: it drained and exited with code {code}.")
        reported = {path for path, job in jobs.items() if job["reported"]}
        return check_outcomes(
            self._submitted, stored, self._receiver.callbacks, reported, daemon_exit_code=code
        )

    async def _watch(self, process: Process, *, enough: int, until: float) -> None:
        """Shows progress until `enough` outcomes have arrived or the monotonic time is `until`."""
        while True:
            callbacks = self._receiver.callbacks.values()
            states = Counter(c.event["data"]["state"] for c in callbacks if c.event is not None)
            refused = sum(c.refused for c in callbacks)
            self._display.progress(sum(states.values()), len(self._submitted), _counts(states, refused))
            check_running(process, self._log)
            if self._receiver.delivered >= enough or time.monotonic() >= until:
                return
            await asyncio.sleep(0.1)


def _counts(states: Mapping[str, int], refused: int) -> str:
    words = {"success": "succeeded", "failed": "failed", "timeout": "timed out"}
    parts = [f"{states.get(state, 0)} {word}" for state, word in words.items()]
    return ", ".join([*parts, f"{refused} retried"])
