"""One namespace at full speed, and the target that it shares with another one, for `fairness.py`.

    python tests/benchmarks/storms.py target                     prints its URL; records quiet calls
    python tests/benchmarks/storms.py NAME API TARGET SECONDS    prints "ready", then its statuses

Each is a process of its own, and of low priority: the caller who measures gets the core first.
"""

import asyncio
import itertools
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import orjson
import uvloop

from waitd.bench.machine import raise_file_limit
from waitd.core.auth.api_key import format_key

#: The keys by name: each with its role and namespace. Those of the storm share its namespace.
SECRET = "s" * 43
STORM_KEYS = [f"storm{n}" for n in range(4)]
ROLES = {"quiet": ("operator", "quiet"), "viewer": ("viewer", "storm")} | dict.fromkeys(
    STORM_KEYS, ("operator", "storm")
)
NICENESS = 10
#: How long the target takes, in seconds, and how many waits or deliveries a storm fills it with.
DELAY, FILLED = 0.05, 4_000
LINES = 2_000
CONDITIONS = {"success_when": "body.done", "failure_when": "body.failed"}


def bearer(key: str) -> str:
    """The Authorization header of a key."""
    return f"Authorization: Bearer {format_key(key, SECRET)}\r\n"


class Api:
    """One connection to the API with one key, for one request at a time."""

    def __init__(self, url: str, key: str) -> None:
        self._host = urlsplit(url).netloc
        self._authorization = bearer(key)
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def call(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        *,
        kind: str = "application/json",
        key: str = "",
    ) -> tuple[int, bytes]:
        """Sends a request; returns the status and the body of the answer."""
        authorization = bearer(key) if key else self._authorization
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}\r\n{authorization}"
        if body is not None:
            head += f"Content-Type: {kind}\r\nContent-Length: {len(body)}\r\n"
        if self._streams is None:
            host, _, port = self._host.rpartition(":")
            self._streams = await asyncio.open_connection(host, int(port), limit=1 << 26)
        reader, writer = self._streams
        try:
            writer.write(head.encode() + b"\r\n" + (body or b""))
            answer = await reader.readuntil(b"\r\n\r\n")
            length = answer.lower().partition(b"content-length:")[2].partition(b"\r")[0]
            if length:
                content = await reader.readexactly(int(length))
            elif b"text/event-stream" in answer:
                content = b""
            else:
                content = await reader.readuntil(b"\r\n0\r\n\r\n")
        except (ConnectionError, asyncio.IncompleteReadError):
            self.close()
            return 0, b""
        return int(answer[9:12]), content

    def close(self) -> None:
        """Closes the connection; the next call opens another one."""
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None


def wait_on(target: str, path: str, *, interval: float = 3600.0, hook: str = "") -> dict[str, Any]:
    """The body of a wait on a path of the target, with a webhook to it if `hook` is a path."""
    return {
        "kind": "http",
        "params": {"endpoint": target + path, **CONDITIONS},
        "poke_interval": interval,
        "timeout": 86_400.0,
        "sinks": [{"kind": "webhook", "url": target + hook}] if hook else [],
    }


def lines(waits: Iterator[dict[str, Any]]) -> bytes:
    """The body of a batch."""
    return b"\n".join(map(orjson.dumps, waits))


class Storm(NamedTuple):
    """What one namespace does at full speed.

    Attributes:
        connections: so many do it at the same time.
        request: the arguments of `Api.call`, by the number of the call, the ids of the `prepared`
            waits, and the target.
        prepared: so many ended waits, with a delivery each, are there before; negative: so many
            that do not end.
        filled: whether the target is filled before: "poke" with waits, "hook" with deliveries.
    """

    connections: int
    request: Callable[[int, Sequence[str], str], Mapping[str, Any]]
    prepared: int = 0
    filled: str = ""


def get(path: str, **more: Any) -> dict[str, Any]:
    """The arguments of a GET."""
    return {"method": "GET", "path": path, **more}


def post(path: str, body: bytes, **more: Any) -> dict[str, Any]:
    """The arguments of a POST."""
    return {"method": "POST", "path": path, "body": body, **more}


def batch(n: int, target: str) -> dict[str, Any]:
    """A batch of new waits, which are poked once."""
    waits = (wait_on(target, f"/slow/{n}-{line}") for line in range(LINES))
    return post("/v1/waits:batch", lines(waits), kind="application/x-ndjson")


STORMS: Mapping[str, Storm] = {
    "submits": Storm(64, lambda n, _, target: post("/v1/waits", orjson.dumps(wait_on(target, f"/slow/{n}")))),
    "batches": Storm(6, lambda n, _, target: batch(n, target)),
    "signals": Storm(64, lambda n, *_: post(f"/v1/signals/s-{n}", b'"' + b"x" * 16_000 + b'"')),
    "redeliveries": Storm(64, lambda n, ids, _: post(f"/v1/waits/{ids[n % len(ids)]}:redeliver", b"{}"), 500),
    "lists": Storm(32, lambda *_: get("/v1/waits?limit=1000"), 2000),
    "reads": Storm(64, lambda n, ids, _: get(f"/v1/waits/{ids[n % len(ids)]}"), 500),
    "long polls": Storm(600, lambda n, ids, _: get(f"/v1/waits/{ids[n % len(ids)]}?wait=30"), -500),
    "streams": Storm(200, lambda *_: get("/v1/events")),
    "401": Storm(64, lambda *_: get("/v1/waits", key="nobody")),
    "key guesses": Storm(64, lambda *_: get("/v1/waits", key=secrets.token_hex(8))),
    "403": Storm(64, lambda *_: post("/v1/waits", b"{}", key="viewer")),
    "404": Storm(64, lambda n, *_: get(f"/v1/waits/00000000-0000-7000-8000-{n % 10**12:012}")),
    "422": Storm(64, lambda *_: post("/v1/waits", b'{"kind": "none"}')),
    "origin": Storm(0, lambda *_: get(""), filled="poke"),
    "destination": Storm(0, lambda *_: get(""), filled="hook"),
}  # fmt: skip


class StormProcess:
    """Runs one storm and counts the statuses of its answers."""

    def __init__(self, storm: Storm, api: str, target: str) -> None:
        self._storm, self._url, self._target = storm, api, target
        self._numbers = itertools.count()
        self._ids: list[str] = []
        self.statuses: Counter[int] = Counter()

    async def prepare(self) -> None:
        """Submits the waits that the storm needs before it begins, and waits for their ends."""
        api, storm, target = Api(self._url, STORM_KEYS[0]), self._storm, self._target
        count = abs(storm.prepared)
        path = "/done" if storm.prepared > 0 else "/slow"  # long polls are of waits that do not end
        for start in range(0, count, LINES):
            waits = (
                wait_on(target, f"{path}/{n}", hook="/hook") for n in range(start, min(count, start + LINES))
            )
            _, answer = await api.call("POST", "/v1/waits:batch", lines(waits), kind="application/x-ndjson")
            self._ids += [orjson.loads(line)["id"] for line in answer.splitlines() if line.startswith(b"{")]
        if storm.filled == "poke":
            waits = (wait_on(target, f"/slow/{n}", interval=1.0) for n in range(FILLED))
            await api.call("POST", "/v1/waits:batch", lines(waits), kind="application/x-ndjson")
        elif storm.filled == "hook":
            for part in range(0, 10 * FILLED, FILLED):
                waits = (wait_on(target, f"/done/{part + n}", hook="/hook/slow") for n in range(FILLED))
                await api.call("POST", "/v1/waits:batch", lines(waits), kind="application/x-ndjson")
        await asyncio.sleep(1.0)

    async def run(self, seconds: float) -> None:
        """Storms for so many seconds."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as tasks:
                for n in range(self._storm.connections):
                    tasks.create_task(self._call(Api(self._url, STORM_KEYS[n % len(STORM_KEYS)])))
                await asyncio.sleep(seconds)

    async def _call(self, api: Api) -> None:
        while True:
            status, _ = await api.call(**self._storm.request(next(self._numbers), self._ids, self._target))
            self.statuses[status] += 1
            if status == 200 and self._storm is STORMS["streams"]:
                await asyncio.sleep(3600)  # the stream stays open, and nothing of it is read
            elif status == 429:  # a client that does not wait would only measure itself
                await asyncio.sleep(0.01)


class Target:
    """Answers pokes and webhooks after `DELAY`, those with `/quiet` at once, which it records."""

    def __init__(self) -> None:
        self.calls: list[tuple[float, str]] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serves one connection."""
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = head.lower().partition(b"content-length:")[2].partition(b"\r")[0]
                if length:
                    await reader.readexactly(int(length))
                path = head.split(b" ", 2)[1].decode()
                if path.startswith("/quiet"):
                    self.calls.append((time.monotonic(), path))
                elif "slow" in path:
                    await asyncio.sleep(DELAY)
                body = b'{"done": true}' if "done" in path else b'{"done": false, "failed": false}'
                if path == "/calls":
                    body = orjson.dumps(self.calls)
                    self.calls = []
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
                writer.write(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))
        writer.close()


@asynccontextmanager
async def serving_target() -> AsyncIterator[str]:
    """A target in this process; yields its URL."""
    async with await asyncio.start_server(Target().serve, "127.0.0.1", 0) as server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"


async def main(arguments: Sequence[str]) -> None:
    """Runs the command line until standard input ends."""
    loop = asyncio.get_running_loop()
    if arguments[0] == "target":
        async with serving_target() as url:
            print(url, flush=True)
            await loop.run_in_executor(None, sys.stdin.read)
        return
    name, api, target, seconds = arguments
    storm = StormProcess(STORMS[name], api, target)
    await storm.prepare()
    print("ready", flush=True)
    await loop.run_in_executor(None, sys.stdin.readline)
    await storm.run(float(seconds))
    print(orjson.dumps({str(status): count for status, count in storm.statuses.items()}).decode(), flush=True)
    await loop.run_in_executor(None, sys.stdin.read)


if __name__ == "__main__":
    raise_file_limit()
    if sys.argv[1] != "target":
        os.nice(NICENESS)
    uvloop.run(main(sys.argv[1:]))
