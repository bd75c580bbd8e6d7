r"""Submits waits as fast as a daemon accepts them, and prints the result as one JSON line.

    python -m waitd.bench.submitter --url http://127.0.0.1:8795 --count 20000 \
        --target http://127.0.0.1:9000/jobs/endless/0/a
    python -m waitd.bench.submitter --url … --target … --count 100000 --batch 10000 --connections 2

Each connection sends its next wait, or batch, when the previous response is complete. A
hand-written HTTP client, because it must cost less than the daemon. The requests are built in
advance.
"""

import argparse
import asyncio
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, cast
from urllib.parse import urlsplit

import orjson
import uvloop

from waitd.bench.jobs import CONDITIONS
from waitd.bench.quantiles import quantile


def sensor_wait(endpoint: str, *, poke_interval: float, timeout: float = 86_400.0) -> dict[str, Any]:
    """The body of a wait as a DAG sends it: conditions, labels and one webhook."""
    number = endpoint.rpartition("/")[2]
    return {
        "kind": "http",
        "params": {"endpoint": endpoint, **CONDITIONS},
        "poke_interval": poke_interval,
        "timeout": timeout,
        "sinks": [{"kind": "webhook", "url": "http://127.0.0.1:9/never-called"}],
        "labels": {"dag_id": "benchmark", "run_id": "manual__2025", "task_id": "wait", "map_index": number},
    }


class SubmitConnection(asyncio.Protocol):
    """A connection that sends the next request when the previous response is complete."""

    def __init__(
        self, requests: Iterator[bytes], results: "SubmitResults", closed: asyncio.Future[None]
    ) -> None:
        self._requests = requests
        self._results = results
        self._closed = closed
        self._response = bytearray()
        self._started = 0.0
        self._open = True
        self._transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's transport does not inherit from it
        self._send_next()

    def _send_next(self) -> None:
        request = next(self._requests, None)
        if request is None:
            self._open = False
            self._transport.close()
        else:
            self._started = time.perf_counter()
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Records each complete response, by its Content-Length."""
        self._response += data
        head, separator, body = bytes(self._response).partition(b"\r\n\r\n")
        if separator and len(body) >= _content_length(head):
            self._response.clear()
            self._results.add(int(head[9:12]), body, time.perf_counter() - self._started)
            self._send_next()

    def connection_lost(self, error: Exception | None) -> None:
        """See asyncio.Protocol."""
        if error or self._open:
            self._closed.set_exception(error or ConnectionResetError("The daemon closed the connection."))
        else:
            self._closed.set_result(None)


class SubmitResults:
    """The responses, and the seconds that each one took."""

    def __init__(self, *, batches: bool) -> None:
        self.seconds: list[float] = []
        self._responses: list[tuple[int, bytes]] = []
        self._batches = batches

    def add(self, status: int, body: bytes, seconds: float) -> None:
        """Adds a response.

        It is parsed at the end, so that parsing does not delay the next request.
        """
        self.seconds.append(seconds)
        self._responses.append((status, body))

    def statuses(self) -> Counter[int]:
        """The number of waits by status."""
        counts: Counter[int] = Counter()
        for status, body in self._responses:
            if self._batches and status == 200:
                counts.update(orjson.loads(line)["status"] for line in body.splitlines())
            else:
                counts[status] += 1
        return counts


def _content_length(head: bytes) -> int:
    _, _, after = head.lower().partition(b"content-length:")
    return int(after.partition(b"\r\n")[0])


def _request(path: str, host: str, content_type: str, body: bytes) -> bytes:
    head = f"POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


def build_requests(options: argparse.Namespace) -> Sequence[bytes]:
    """All requests as bytes."""
    host = urlsplit(options.url).netloc
    bodies = [
        orjson.dumps(sensor_wait(f"{options.target}-{n}", poke_interval=options.poke_interval))
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
    """Sends all requests; returns the statuses and times, in seconds."""
    address = urlsplit(options.url)
    loop = asyncio.get_running_loop()
    requests = iter(build_requests(options))
    results = SubmitResults(batches=bool(options.batch))
    started, cpu = time.perf_counter(), time.process_time()
    all_closed = []
    for _ in range(options.connections):
        closed: asyncio.Future[None] = loop.create_future()
        await loop.create_connection(
            lambda closed=closed: SubmitConnection(requests, results, closed),  # type: ignore[misc]
            address.hostname,
            address.port,
        )
        all_closed.append(closed)
    await asyncio.gather(*all_closed)
    wall = time.perf_counter() - started
    return {
        "wall": wall,
        "cpu": time.process_time() - cpu,
        "statuses": results.statuses(),
        "p50": quantile(results.seconds, 0.5),
        "p99": quantile(results.seconds, 0.99),
    }


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m waitd.bench.submitter",
        description="Submits waits as fast as a daemon accepts them.",
    )
    parser.add_argument("--url", required=True, help="the daemon's URL")
    parser.add_argument("--target", required=True, help="the start of each endpoint; a number follows")
    parser.add_argument("--count", type=int, required=True, help="number of waits")
    parser.add_argument("--poke-interval", type=float, default=60.0)
    parser.add_argument("--connections", type=int, default=64, help="number of connections")
    parser.add_argument("--batch", type=int, default=0, help="lines in a batch; 0: single submits")
    report = uvloop.run(submit(parser.parse_args()))
    sys.stdout.write(orjson.dumps(report, option=orjson.OPT_NON_STR_KEYS).decode() + "\n")
