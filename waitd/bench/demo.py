"""The demo: a few hundred waits on a flaky job server, a daemon that is killed half-way, and the account of what came of it.

What it does is here, what a person sees of it in `waitd.cli.demo`.
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

import aiohttp
import orjson

from waitd.bench.children import ChildFailed, daemon, fleet, free_port, kill, stop
from waitd.bench.correctness import CorrectnessReport, SubmittedWait, check_outcomes, submitted_wait
from waitd.bench.job_server import JobServerUrls
from waitd.bench.jobs import BEHAVIOURS, CONDITIONS, job_of, path_of
from waitd.bench.progress_display import ProgressDisplay
from waitd.bench.receiver import Receiver
from waitd.bench.s3 import MARKER, files_of_job
from waitd.client import Client, RequestRefused

#: How many of a hundred waits are on which behaviour.
MIX: Mapping[str, int] = {
    "succeed": 34, "fail": 16, "endless": 10, "unavailable": 9, "throttled": 8, "hangs": 6, "resets": 5,
    "truncates": 4, "slow": 4, "absent": 4,
}  # fmt: skip
#: Where S3 can be asked: how many of a hundred waits, in place of as many of the above that plainly succeed, look at what a job of which
#: behaviour writes, and how: for its marker, for all of its parts, or until it writes no more.
S3_MIX: Mapping[tuple[str, str], int] = {
    ("marker", "succeed"): 6, ("marker", "unavailable"): 4, ("marker", "resets"): 2, ("marker", "endless"): 2,
    ("parts", "succeed"): 3, ("parts", "unavailable"): 1, ("quiet", "succeed"): 2,
}  # fmt: skip
BUCKET = "landing"
CONN_ID = "demo_s3"
#: How long nothing may be written before a wait takes it that nothing more will be; jobs write more often, in seconds.
QUIET_SECONDS = 3.0
POKE_INTERVAL = 0.5
#: Jobs run from the first to the second of these, in seconds; waits on endless ones time out in the same span.
JOB_SECONDS = (1.0, 12.0)
#: The timeout of a wait whose job does end, in seconds: far beyond it, because the truth must not hang on a race.
AMPLE_TIMEOUT = 80.0
#: When the whole must be over, in seconds from the submission.
PATIENCE = 90.0
#: Shorter than the default delays, so that a retry is seen while the demo runs.
DELIVERY_RETRY_DELAYS = (0, 0.5, 1, 1, 2, 2, 3, 3, 5, 5, 5, 5)
#: The share of waits whose first callback the receiver refuses.
REFUSE_SHARE = 0.1


def waits(servers: JobServerUrls, callback: str, count: int) -> list[dict[str, Any]]:
    """The bodies of `count` waits: the mix, each behaviour on an origin of its own, lengths spread evenly, signed callbacks."""
    names = [("http", name) for name, share in MIX.items() for _ in range(share)]
    if servers.s3:
        keys = [(look, name) for (look, name), share in S3_MIX.items() for _ in range(share)]
        names = names[len(keys) :] + keys
    first, last = JOB_SECONDS
    home = dict(zip(MIX, servers.urls, strict=True))
    bodies = []
    for n in range(count):
        # 37 and 100 have no common factor: every hundred has the whole mix, well shuffled.
        look, name = names[n * 37 % len(names)]
        seconds = round(first + (last - first) * n / max(count - 1, 1), 2)
        path = path_of(name, seconds, f"job-{n:04d}")
        endless = BEHAVIOURS[name].ends is None
        bodies.append(
            {
                **(_job_wait(home[name] + path) if look == "http" else _key_wait(look, path)),
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


def _key_wait(look: str, path: str) -> dict[str, Any]:
    """A wait on what the job of a path writes: its marker, all of its parts, or that it writes no more."""
    common = {"aws_conn_id": CONN_ID, "request_timeout": 1.0}
    below = path.removeprefix("/") + "/"
    parts = len(files_of_job(job_of(path), job_of(path).seconds, ended=True)) - 1
    match look:
        case "marker":
            return {"kind": "s3_key", "params": {"bucket_key": f"s3://{BUCKET}/{below}{MARKER}", **common}}
        case "parts":
            pattern = {"bucket_key": f"s3://{BUCKET}/{below}*.parquet", "wildcard_match": True}
            return {"kind": "s3_key", "params": {**pattern, "check": f"size(files) == {parts}", **common}}
        case _:
            place = {"bucket_name": BUCKET, "prefix": below, "inactivity_period": QUIET_SECONDS}
            return {"kind": "s3_keys_unchanged", "params": {**place, **common}}


def connections(servers: JobServerUrls) -> dict[str, str]:
    """The connections that the waits name, as variables hold them, by conn_id."""
    if not servers.s3:
        return {}
    extra = {"endpoint_url": servers.s3[0], "region_name": "us-east-1"}
    made_up = {"conn_type": "aws", "login": "demo", "password": os.urandom(16).hex(), "extra": extra}
    return {CONN_ID: orjson.dumps(made_up).decode()}


def s3_installed() -> bool:
    """Whether the extra `s3` is there: without it the daemon refuses waits on keys."""
    return all(find_spec(module) is not None for module in ("botocore", "re2"))


async def run(show: ProgressDisplay, count: int) -> CorrectnessReport:
    """The whole demo with `count` waits; the account that tells whether anything was lost.

    Raises:
        ChildFailed: a process did not start, ended by itself, or did not take the waits; with what it said last.
        DaemonUnreachable, Refused: the daemon did not answer as it must.
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
        servers = await stack.enter_async_context(
            fleet(len(MIX), log=home / "fleet.log", with_s3=s3_installed())
        )
        receiver = await stack.enter_async_context(Receiver(secret, refuse_share=REFUSE_SHARE))
        client = await stack.enter_async_context(Client(f"http://{bind}"))
        show.step(
            f"A job server plays {len(MIX)} flaky batch APIs: 503s, 429s, hangs, resets, jobs that fail."
        )
        if servers.s3:
            show.step("A small S3 holds what some of the jobs write, and says SlowDown in bursts.")
        show.step(
            f"A callback receiver listens at {receiver.url}; it refuses about {REFUSE_SHARE:.0%} of the first calls."
        )
        serve = partial(daemon, settings, client, log=home / "daemon.log", connections=connections(servers))
        demo = _Demo(show, serve, client, receiver, home / "daemon.log")
        await demo.submit_and_kill(waits(servers, receiver.url, count))
        return await demo.restart_and_finish(servers.urls[0])


class _Demo:
    """The two lives of the daemon."""

    def __init__(
        self,
        show: ProgressDisplay,
        serve: Callable[[], AbstractAsyncContextManager[Process]],
        client: Client,
        receiver: Receiver,
        log: Path,
    ) -> None:
        self._show = show
        self._serve = serve
        self._client = client
        self._receiver = receiver
        self._log = log
        self._submitted: list[SubmittedWait] = []

    async def submit_and_kill(self, bodies: Sequence[dict[str, Any]]) -> None:
        """The first life: it takes the waits, and is killed when half of the outcomes are in."""
        async with self._serve() as process:
            self._show.step(
                f"waitd serves at {self._client.url} (process {process.pid}, on a SQLite file of its own)."
            )
            began = time.monotonic()
            try:
                answers = await self._client.submit_batch(bodies)
            except RequestRefused as error:
                raise ChildFailed(f"the daemon did not take the waits ({error})", self._log) from error
            self._submitted = [
                submitted_wait(body, answer) for body, answer in zip(bodies, answers, strict=True)
            ]
            took = time.monotonic() - began
            taken = sum(wait.id != "" for wait in self._submitted)
            self._show.step(f"{taken} waits submitted and on disk in {took * 1000:.0f} ms.")
            await self._watch(process, enough=len(bodies) // 2, until=began + JOB_SECONDS[1])
            await kill(process)
            left = len(bodies) - self._received()
            self._show.step(
                f"Killed the daemon with SIGKILL: {left} of {len(bodies)} outcomes are still to come."
            )

    async def restart_and_finish(self, job_server: str) -> CorrectnessReport:
        """The second life: everything ends and is delivered, and the account is made."""
        began = time.monotonic()
        async with self._serve() as process:
            took = time.monotonic() - began
            self._show.step(
                f"Started it again: ready after {took:.1f} s (process {process.pid}), and on it goes."
            )
            await self._watch(process, enough=len(self._submitted), until=began + PATIENCE)
            stored = await self._client.find({"label.demo": "waitd"}, limit=2 * len(self._submitted))
            told = await _told(job_server)
            code = await stop(process)
            self._show.step(f"Asked it to stop with SIGTERM: it drained and ended with exit code {code}.")
        return check_outcomes(self._submitted, stored, self._receiver.heard, told, daemon_exit_code=code)

    async def _watch(self, process: Process, *, enough: int, until: float) -> None:
        """Shows progress until `enough` outcomes were received or the monotonic time is `until`."""
        while True:
            events = [heard.event for heard in self._receiver.heard.values() if heard.event is not None]
            states = Counter(event["data"]["state"] for event in events)
            refused = sum(heard.refused for heard in self._receiver.heard.values())
            self._show.progress(sum(states.values()), len(self._submitted), _counts(states, refused))
            if process.returncode is not None:
                raise ChildFailed(
                    f"the daemon ended by itself with exit code {process.returncode}", self._log
                )
            if self._received() >= enough or time.monotonic() >= until:
                return
            await asyncio.sleep(0.1)

    def _received(self) -> int:
        heard = self._receiver.heard
        return sum(wait.id in heard and heard[wait.id].accepted > 0 for wait in self._submitted)


def _counts(states: Mapping[str, int], refused: int) -> str:
    words = {"success": "succeeded", "failed": "failed", "timeout": "timed out"}
    parts = [f"{states.get(state, 0)} {said}" for state, said in words.items()]
    return ", ".join([*parts, f"{refused} tried again"])


async def _told(job_server: str) -> set[str]:
    """The paths of the jobs that told somebody their end."""
    async with aiohttp.ClientSession() as session, session.get(f"{job_server}/report") as answer:
        return {path for path, job in (await answer.json())["jobs"].items() if job["told"]}
