"""What is poked while we measure: the lab's job server, which also notes when it was asked. `python -m target --origins 101`.

Every path of `waitd.bench.jobs` works here. Of requests whose path contains `watched` the arrival is noted. `GET /seen` tells what was
asked since the last `GET /seen`: how many requests, when the first of them came, and the arrivals by path (Unix seconds).
"""

import argparse
import asyncio
import os
import sys
import time
from collections import defaultdict
from typing import Any

import orjson
import uvloop

from waitd.bench.job_server import Disturbance, JobConnection, JobTable
from waitd.bench.jobs import answer

#: What a job's id contains when each of its requests is to be noted.
WATCHED = b"watched"


class WatchingFleet(JobTable):
    """A fleet that knows when it was asked."""

    def __init__(self) -> None:
        super().__init__(time.monotonic)
        self._forget()

    def _forget(self) -> None:
        self._requests_before = self.requests
        self._first_at: float | None = None
        self._arrivals: defaultdict[bytes, list[float]] = defaultdict(list)

    def look(self, path: bytes, method: bytes = b"GET") -> tuple[bytes, Disturbance]:
        """As the fleet does, and notes it."""
        if path == b"/seen":
            return answer(200, self._seen()), None
        if self._first_at is None:
            self._first_at = time.time()
        if WATCHED in path:
            self._arrivals[path].append(time.time())
        return super().look(path, method)

    def _seen(self) -> dict[str, Any]:
        seen = {
            "requests": self.requests - self._requests_before,
            "first_at": self._first_at,
            "arrivals": {path.decode(): times for path, times in self._arrivals.items()},
        }
        self._forget()
        return seen


async def serve(origins: int) -> None:
    """Serves one fleet on `origins` ports until standard input ends, which is when our parent has gone."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), lambda: None if os.read(0, 4096) else stopped.set())
    fleet = WatchingFleet()
    servers = [
        await loop.create_server(lambda: JobConnection(fleet.look), "127.0.0.1", 0, backlog=4096)
        for _ in range(origins)
    ]
    urls = [f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}" for server in servers]
    sys.stdout.write(orjson.dumps({"urls": urls}).decode() + "\n")
    sys.stdout.flush()
    try:
        await stopped.wait()
    finally:
        for server in servers:
            server.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        prog="python -m target", description="A job server that notes when it was asked."
    )
    parser.add_argument("--origins", type=int, default=1, help="on how many ports the same jobs are served")
    uvloop.run(serve(parser.parse_args().origins))
