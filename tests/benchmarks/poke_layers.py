"""CPU time of one poke, by ever more layers of waitd.

    python tests/benchmarks/poke_layers.py             three rounds, under two minutes
    python tests/benchmarks/poke_layers.py --rounds 1  one round
    python tests/benchmarks/poke_layers.py --json      for programs

From below: a protocol that only sends the request and finds the end of the response; the connection
pool; the probe with its conditions; the poker with calendar, origins and metrics; and aiohttp's own
session, for comparison. `scenarios.py` measures the whole daemon.
"""

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import layers
from lab import waits_on
from layers import CONCURRENCY, HEADERS, URLS, WARM_UP, Layer, PolledWait, cpu_in_window
from minimal_client import MinimalClient

from waitd.bench.children import JobServer
from waitd.core.waits.wait import EMPTY_PROGRESS, WaitId, WaitSpec, WaitState
from waitd.engine.clock import SystemClock
from waitd.engine.poker import Poker
from waitd.metrics import Instruments
from waitd.ports import StoredOutcome, StoredWait, UnstoredOutcome
from waitd.probes.http.probe import HttpProbe

INTERVAL = 0.05


async def by_minimal_client(target: JobServer) -> float:
    """CPU of a GET without any layer."""
    idle: list[MinimalClient] = []
    requests = []
    for url in _urls(target):
        address = urlsplit(url)
        head = f"GET {address.path} HTTP/1.1\r\nHost: {address.netloc}\r\nUser-Agent: waitd\r\nAccept: */*\r\n\r\n"
        requests.append(head.encode())

    async def get(n: int) -> None:
        client = idle.pop() if idle else await MinimalClient.connect(target.urls[0])
        await client.request(requests[n])
        idle.append(client)

    try:
        return await layers.cpu_per_call(get)
    finally:
        for client in idle:
            client.close()


async def by_session(target: JobServer) -> float:
    """CPU of a GET by aiohttp's session."""
    urls = _urls(target)
    async with aiohttp.ClientSession(headers=HEADERS, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def get(n: int) -> None:
            async with session.get(urls[n]) as response:
                await response.read()

        return await layers.cpu_per_call(get)


async def by_pool(target: JobServer) -> float:
    """CPU of a GET by waitd's connection pool."""
    urls = _urls(target)
    async with layers.connection_pool() as pool:

        async def get(n: int) -> None:
            response = await pool.request("GET", urls[n], None, True)
            while not response.at_eof():
                await response.readany()

        return await layers.cpu_per_start(
            get, lambda n, on_done: pool.send("GET", urls[n], None, True, on_done)
        )


async def by_probe(target: JobServer) -> float:
    """CPU of a poke by the probe."""
    async with _http_probe() as probe:
        groups = [[PolledWait(probe.parse(params, namespace="default"))] for params in _params(target)]
        return await layers.cpu_per_poke(probe, groups)


async def by_poker(target: JobServer) -> float:
    """CPU of a poke by the poker and the probe, while more is due than can be done."""
    async with _http_probe() as probe:
        instruments = Instruments(version="benchmark")
        poker = Poker(
            NullStore(),
            {"http": probe},
            SystemClock(),
            instruments,
            capacity=URLS,
            poke_concurrency=1000,
            per_host_concurrency=CONCURRENCY,
        )
        poker.adopt(_stored_waits(target))
        running = asyncio.create_task(poker.run())
        try:
            await asyncio.sleep(WARM_UP)
            return await cpu_in_window(lambda: instruments.pokes.labels("http", "pending").count)
        finally:
            running.cancel()
            await asyncio.wait([running])


def _params(target: JobServer) -> Sequence[dict[str, Any]]:
    return [wait["params"] for wait in waits_on(target, URLS, INTERVAL)]


def _urls(target: JobServer) -> Sequence[str]:
    return [params["endpoint"] for params in _params(target)]


def _stored_waits(target: JobServer) -> Sequence[StoredWait]:
    now = time.time()
    return [
        StoredWait(
            WaitId(f"{n:032d}"),
            "default",
            WaitSpec("http", params, INTERVAL, 86400.0),
            WaitState.WAITING,
            now,
            now + 86400.0,
            EMPTY_PROGRESS,
        )
        for n, params in enumerate(_params(target))
    ]


class NoConnections:
    """Connections without any."""

    def cached_any(self, _: str) -> None:
        """See `Connections`."""


def _http_probe() -> HttpProbe:
    return HttpProbe(NoConnections(), secret_headers=())  # type: ignore[arg-type]  # no wait needs more


class NullStore:
    """A store that keeps nothing."""

    async def finish(self, outcome: UnstoredOutcome) -> StoredOutcome | None:
        """Raises RuntimeError: an endless job has ended."""
        raise RuntimeError(f"an endless job has ended: {outcome}")

    async def save_progress(self, progress: object) -> None:
        """Does nothing."""

    async def load_waiting(self, *_: object) -> Sequence[StoredWait]:
        """Returns nothing."""
        return ()

    async def waiting_ids(self, *_: object) -> Sequence[WaitId]:
        """Returns nothing."""
        return ()


LAYERS: Mapping[str, Layer] = {
    "a minimal client": by_minimal_client,
    "the connection pool": by_pool,
    "the probe: request, conditions, verdict": by_probe,
    "the poker over the probe": by_poker,
    "for comparison: aiohttp's session": by_session,
}

if __name__ == "__main__":
    layers.main(LAYERS, __doc__)
