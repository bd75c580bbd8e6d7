"""A real waitd in its own process, a job server for it to poke, and a receiver of its webhooks."""

import asyncio
import hashlib
import os
import signal
import sys
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from inspect import isawaitable
from pathlib import Path
from typing import Any

import aiohttp
import orjson
from aiohttp import web

SECRET = "whsec_" + "c2VjcmV0IG9mIHRoZSB0ZXN0cyE="


class Daemon:
    """A waitd process with a state directory. It can be killed and started again.

    Keyword arguments are environment variables. `script` is run instead of `waitd serve`.
    """

    def __init__(
        self,
        state_dir: Path,
        *,
        script: Path | None = None,
        arguments: Sequence[str] = (),
        **environment: str,
    ) -> None:
        self._command = [sys.executable, str(script)] if script else [sys.executable, "-m", "waitd", "serve"]
        self._command += arguments
        self._environment = {
            "WAITD_STATE_DIR": str(state_dir),
            "WAITD_BIND": "127.0.0.1:0",
            "WAITD_LOG_FORMAT": "json",
            "WAITD_WEBHOOK_SECRET": SECRET,
            "WAITD_DELIVERY_RETRY_DELAYS": "[0, 0.1, 0.2, 0.5, 1, 1, 1, 1, 1, 1, 1, 1]",
        } | environment
        self.process: asyncio.subprocess.Process | None = None
        self.url = ""
        self.log: list[dict[str, Any]] = []
        self._reading: asyncio.Task[None] | None = None
        self._serving = asyncio.Event()
        self._changed = asyncio.Event()

    async def start(self, **environment: str) -> None:
        """Starts the process and waits until it serves requests."""
        self._serving.clear()
        inherited = {name: value for name, value in os.environ.items() if not name.startswith("WAITD_")}
        self.process = await asyncio.create_subprocess_exec(
            *self._command,
            env=inherited | self._environment | environment,
            stderr=asyncio.subprocess.PIPE,
            limit=2**20,
        )
        self._reading = asyncio.create_task(self._read(self.process))
        serving = asyncio.create_task(self._serving.wait())
        await asyncio.wait([serving, self._reading], timeout=60, return_when=asyncio.FIRST_COMPLETED)
        if not self._serving.is_set():
            serving.cancel()
            raise AssertionError(f"the daemon did not start: {self.log[-10:]}")

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None
        async for line in process.stderr:
            try:
                event = orjson.loads(line)
            except orjson.JSONDecodeError:
                event = {"event": line.decode(errors="replace").rstrip()}
            self.log.append(event)
            if event.get("event") == "serving":
                self.url = ("https://" if event.get("tls") else "http://") + event["address"]
                self._serving.set()
            self._changed.set()

    def has_logged(self, name: str) -> bool:
        """Whether there is a log line of this event."""
        return any(event.get("event") == name for event in self.log)

    async def logged(self, name: str, seconds: float = 30) -> dict[str, Any]:
        """Waits for a log line of this event, and returns the first."""
        async with asyncio.timeout(seconds):
            while True:
                for event in self.log:
                    if event.get("event") == name:
                        return event
                self._changed.clear()
                await self._changed.wait()

    async def ended(self, seconds: float = 60) -> int:
        """Waits for the end of the process. Returns its exit code (negative: a signal)."""
        assert self.process is not None
        code = await asyncio.wait_for(self.process.wait(), seconds)
        if self._reading is not None:
            await self._reading
        return code

    async def kill(self, signum: signal.Signals = signal.SIGKILL) -> int:
        """Sends a signal to the process and waits until it ends."""
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(signum)
        return await self.ended()


@asynccontextmanager
async def daemon(state_dir: Path, **options: Any) -> AsyncIterator[Daemon]:
    """A daemon that runs inside the block."""
    running = Daemon(state_dir, **options)
    try:
        await running.start()
        yield running
    finally:
        if running.process is not None:
            await running.kill()


class Receiver:
    """Receives webhooks. It records the bodies, their digests and the headers, by wait id."""

    def __init__(self) -> None:
        self.digests: defaultdict[str, list[str]] = defaultdict(list)
        self.bodies: dict[str, bytes] = {}
        self.headers: dict[str, Mapping[str, str]] = {}
        #: The statuses of the next answers; then 204.
        self.statuses: list[int] = []
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        body = await request.read()
        wait_id = orjson.loads(body)["id"]
        self.digests[wait_id].append(hashlib.sha256(body).hexdigest())
        self.bodies[wait_id] = body
        self.headers[wait_id] = dict(request.headers)
        return web.Response(status=self.statuses.pop(0) if self.statuses else 204)

    def event(self, wait_id: str) -> dict[str, Any]:
        """The last event of a wait."""
        event: dict[str, Any] = orjson.loads(self.bodies[wait_id])
        return event


class Jobs:
    """A job server.

    `/jobs/NAME?for=SECONDS` is 202 RUNNING for so long from its first request on, then 200
    SUCCEEDED.
    """

    def __init__(self) -> None:
        #: By name of the job; on the clock of `time.monotonic`.
        self.first_request_at: dict[str, float] = {}
        self.requests: Counter[str] = Counter()
        self.url = ""

    async def handle(self, request: web.Request) -> web.Response:
        name = request.match_info["name"]
        now = time.monotonic()
        self.requests[name] += 1
        first = self.first_request_at.setdefault(name, now)
        if now - first >= float(request.query.get("for", "0")):
            return web.json_response({"status": "SUCCEEDED", "name": name})
        return web.json_response({"status": "RUNNING"}, status=202)


@asynccontextmanager
async def serving(method: str, path: str, handler: Any) -> AsyncIterator[str]:
    """Serves one route on a free port of 127.0.0.1, and yields the base URL."""
    application = web.Application(client_max_size=2**26)
    application.router.add_route(method, path, handler)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0, backlog=1024)
        await site.start()
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def jobs_and_receiver() -> AsyncIterator[tuple[Jobs, Receiver, aiohttp.ClientSession]]:
    """A job server, a webhook receiver and an HTTP client."""
    jobs, receiver = Jobs(), Receiver()
    async with (
        serving("GET", "/jobs/{name}", jobs.handle) as jobs.url,
        serving("POST", "/{path:.*}", receiver.handle) as receiver.url,
        aiohttp.ClientSession() as client,
    ):
        yield jobs, receiver, client


def job_wait(jobs: Jobs, receiver: Receiver, name: str, seconds: float, **fields: Any) -> dict[str, Any]:
    """The body of a wait for a job that takes `seconds`. Its outcome goes to the receiver."""
    return {
        "kind": "http",
        "params": {
            "endpoint": f"{jobs.url}/jobs/{name}?for={seconds}",
            "success_when": "body.status == 'SUCCEEDED'",
        },
        "poke_interval": 0.2,
        "timeout": 120,
        "sinks": [{"kind": "webhook", "url": f"{receiver.url}/hook"}],
        **fields,
    }


async def submit(client: aiohttp.ClientSession, daemon: Daemon, body: Mapping[str, Any]) -> str:
    """Submits a wait and returns its id."""
    async with client.post(f"{daemon.url}/v1/waits", json=body) as answer:
        assert answer.status == 201, await answer.text()
        return str((await answer.json())["id"])


async def get_wait(
    client: aiohttp.ClientSession, daemon: Daemon, wait_id: str, seconds: float = 0
) -> dict[str, Any]:
    """Returns a wait; with `seconds`, after it has ended or so much time has passed."""
    async with client.get(f"{daemon.url}/v1/waits/{wait_id}?wait={seconds:g}") as answer:
        assert answer.status == 200, await answer.text()
        wait: dict[str, Any] = await answer.json()
        return wait


async def until(condition: Callable[[], Any], seconds: float = 60, what: str = "the condition") -> None:
    """Waits until `condition()`, or the result of its coroutine, is true. Fails after `seconds`."""
    limit = time.monotonic() + seconds
    while True:
        result = condition()
        if await result if isawaitable(result) else result:
            return
        assert time.monotonic() < limit, f"{what}: not within {seconds} s"
        await asyncio.sleep(0.02)
