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
from collections.abc import Callable, Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import layers
from layers import CONCURRENCY, HEADERS, URLS, WARM_UP, Layer, PolledWait, cpu_in_window

from waitd.bench.lab import LabTarget
from waitd.bench.submitter import sensor_wait
from waitd.core.waits.wait import EMPTY_PROGRESS, WaitId, WaitSpec, WaitState
from waitd.engine.clock import SystemClock
from waitd.engine.poker import Poker
from waitd.metrics import Instruments
from waitd.ports import StoredOutcome, StoredWait, UnstoredOutcome
from waitd.probes.http.probe import HttpProbe
from waitd.probes.transport.pool import ConnectionPool

INTERVAL = 0.05


class MinimalClient(asyncio.Protocol):
    """The least code that gets a response: finds its end and reads nothing else."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport: Any = transport
        self._received = b""

    def request(self, request: bytes) -> "asyncio.Future[None]":
        """Sends a request; the future is done when the response is complete."""
        self._responded = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._responded

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._received += data
        head = self._received.find(b"\r\n\r\n")
        at = self._received.find(b"Content-Length: ") + 16
        length = self._received[at : self._received.find(b"\r", at)]
        if head >= 0 and len(self._received) >= head + 4 + int(length):
            self._received = b""
            self._responded.set_result(None)

    def close(self) -> None:
        """Closes the connection."""
        self._transport.close()


async def by_minimal_client(target: LabTarget) -> float:
    """CPU of a GET without any layer."""
    loop = asyncio.get_running_loop()
    address = urlsplit(target.urls.urls[0]).netloc
    host, _, port = address.partition(":")
    paths = [urlsplit(url).path for url in _urls(target)]
    idle: list[MinimalClient] = []

    async def get(n: int) -> None:
        if idle:
            client = idle.pop()
        else:
            _, client = await loop.create_connection(MinimalClient, host, int(port))
        head = f"GET {paths[n]} HTTP/1.1\r\nHost: {address}\r\nUser-Agent: waitd\r\nAccept: */*\r\n\r\n"
        await client.request(head.encode())
        idle.append(client)

    try:
        return await layers.cpu_per_call(get)
    finally:
        for client in idle:
            client.close()


async def by_session(target: LabTarget) -> float:
    """CPU of a GET by aiohttp's session."""
    urls = _urls(target)
    async with aiohttp.ClientSession(headers=HEADERS, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def get(n: int) -> None:
            async with session.get(urls[n]) as response:
                await response.read()

        return await layers.cpu_per_call(get)


async def by_pool(target: LabTarget) -> float:
    """CPU of a GET by waitd's connection pool."""
    urls = _urls(target)
    connector = aiohttp.TCPConnector(limit=0)
    pool = ConnectionPool(connector, HEADERS)

    def start(n: int, on_done: Callable[[object], None]) -> object:
        return pool.send("GET", urls[n], None, True, on_done)

    async def get(n: int) -> None:
        response = await pool.request("GET", urls[n], None, True)
        while not response.at_eof():
            await response.readany()

    try:
        return await layers.cpu_per_start(get, start)
    finally:
        pool.close()
        await connector.close()


async def by_probe(target: LabTarget) -> float:
    """CPU of a poke by the probe."""
    async with HttpProbe(_no_connections(), secret_headers=()) as probe:
        groups = [[PolledWait(probe.parse(_params(url), namespace="default"))] for url in _urls(target)]
        return await layers.cpu_per_start(
            lambda n: probe.poke(groups[n]), lambda n, on_done: probe.start_poke(groups[n], on_done)
        )


async def by_poker(target: LabTarget) -> float:
    """CPU of a poke by the poker and the probe, while more is due than can be done."""
    async with HttpProbe(_no_connections(), secret_headers=()) as probe:
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
        poker.adopt(_stored_waits(_urls(target)))
        running = asyncio.create_task(poker.run())
        try:
            await asyncio.sleep(WARM_UP)
            return await cpu_in_window(lambda: instruments.pokes.labels("http", "pending").count)
        finally:
            running.cancel()
            await asyncio.wait([running])


def _urls(target: LabTarget) -> Sequence[str]:
    return [target.endpoint("endless", f"poke-{n}") for n in range(URLS)]


def _params(url: str) -> dict[str, Any]:
    return dict(sensor_wait(url, poke_interval=INTERVAL)["params"])


def _stored_waits(urls: Sequence[str]) -> Sequence[StoredWait]:
    now = time.time()
    return [
        StoredWait(
            WaitId(f"{n:032d}"),
            "default",
            WaitSpec("http", _params(url), INTERVAL, 86400.0),
            WaitState.WAITING,
            now,
            now + 86400.0,
            EMPTY_PROGRESS,
        )
        for n, url in enumerate(urls)
    ]


def _no_connections() -> Any:
    class NoConnections:
        def cached_any(self, _: str) -> None:
            """See `Connections`."""

    return NoConnections()


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
