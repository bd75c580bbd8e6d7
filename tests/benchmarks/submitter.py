"""A fast client of the API in a process of its own; it prints what it measured as one JSON line.

    python -m submitter --url http://127.0.0.1:8795 --target http://127.0.0.1:9000/jobs/endless/0/a --count 20000
    python -m submitter --url … --target … --count 100000 --batch 10000 --connections 2

Over `--connections` kept-alive connections, each of which sends its next wait, or batch, when it has the answer to the last one; the time
of one runs from its first byte sent to its last answer line. The bodies are made before.
"""

import argparse
import asyncio
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
import uvloop

from waitd.bench.jobs import CONDITIONS
from waitd.bench.quantiles import quantile


def wait_on(endpoint: str, *, poke_interval: float, timeout: float = 86_400.0) -> dict[str, Any]:
    """The body of a wait such as a DAG sends: conditions, labels and one webhook."""
    number = endpoint.rpartition("/")[2]
    return {
        "kind": "http",
        "params": {"endpoint": endpoint, **CONDITIONS},
        "poke_interval": poke_interval,
        "timeout": timeout,
        "sinks": [{"kind": "webhook", "url": "http://127.0.0.1:9/never-called"}],
        "labels": {"dag_id": "benchmark", "run_id": "manual__2025", "task_id": "wait", "map_index": number},
    }


class Stream(asyncio.Protocol):
    """One kept-alive connection: sends the next request when it has the answer to the last one."""

    def __init__(self, requests: Iterator[bytes], taken: "Taken", ended: asyncio.Future[None]) -> None:
        self._requests = requests
        self._taken = taken
        self._ended = ended
        self._answer = bytearray()
        self._started = 0.0
        self._left = True
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one by its methods only
        self._next()

    def _next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._left = False
            self._transport.close()
        else:
            self._started = time.perf_counter()
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Takes the answer once it is whole; the daemon answers with a Content-Length."""
        self._answer += data
        head, found, body = bytes(self._answer).partition(b"\r\n\r\n")
        if found and len(body) >= _content_length(head):
            self._answer.clear()
            self._taken.take(int(head[9:12]), body, time.perf_counter() - self._started)
            self._next()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        if error or self._left:
            self._ended.set_exception(error or ConnectionResetError("the daemon closed the connection"))
        else:
            self._ended.set_result(None)


class Taken:
    """What was answered, and how long each answer took, in seconds."""

    def __init__(self, *, batches: bool) -> None:
        self.seconds: list[float] = []
        self._answers: list[tuple[int, bytes]] = []
        self._batches = batches

    def take(self, status: int, body: bytes, seconds: float) -> None:
        """One whole answer. It is read when all are there: the daemon is not to wait for that."""
        self.seconds.append(seconds)
        self._answers.append((status, body))

    def statuses(self) -> Counter[int]:
        """How many of each."""
        counted: Counter[int] = Counter()
        for status, body in self._answers:
            if self._batches and status == 200:
                counted.update(orjson.loads(line)["status"] for line in body.splitlines())
            else:
                counted[status] += 1
        return counted


def _content_length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"content-length:")
    return int(after.partition(b"\r\n")[0])


def _request(path: str, host: str, content_type: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def requests_of(options: argparse.Namespace) -> Sequence[bytes]:
    """All requests, ready to be sent."""
    host = urlsplit(options.url).netloc
    bodies = [
        orjson.dumps(wait_on(f"{options.target}-{n}", poke_interval=options.poke_interval))
        for n in range(options.count)
    ]
    if not options.batch:
        return [_request("/v1/waits", host, "application/json", body) for body in bodies]
    return [
        _request(
            "/v1/waits:batch", host, "application/x-ndjson", b"\n".join(bodies[n : n + options.batch]) + b"\n"
        )
        for n in range(0, len(bodies), options.batch)
    ]


async def submit(options: argparse.Namespace) -> dict[str, Any]:
    """Sends everything; what was answered, and how long it took."""
    address = urlsplit(options.url)
    loop = asyncio.get_running_loop()
    requests = iter(requests_of(options))
    taken = Taken(batches=bool(options.batch))
    started, cpu = time.perf_counter(), time.process_time()
    streams = []
    for _ in range(options.connections):
        ended: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(
            lambda ended=ended: Stream(requests, taken, ended),  # type: ignore[misc]
            address.hostname,
            address.port,
        )
        streams.append(ended)
    await asyncio.gather(*streams)
    wall = time.perf_counter() - started
    return {
        "wall": wall,
        "cpu": time.process_time() - cpu,
        "statuses": taken.statuses(),
        "p50": quantile(taken.seconds, 0.5),
        "p99": quantile(taken.seconds, 0.99),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m submitter", description="Submits waits as fast as they are taken."
    )
    parser.add_argument("--url", required=True, help="the daemon's")
    parser.add_argument("--target", required=True, help="each wait's endpoint begins so; a number follows")
    parser.add_argument("--count", type=int, required=True, help="how many waits")
    parser.add_argument("--poke-interval", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=64, help="how many of them send at the same time")
    parser.add_argument("--batch", type=int, default=0, help="lines in a batch; 0: single submits")
    report = uvloop.run(submit(parser.parse_args()))
    print(orjson.dumps(report, option=orjson.OPT_NON_STR_KEYS).decode())
