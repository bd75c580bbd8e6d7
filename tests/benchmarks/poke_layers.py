"""Where one poke's microseconds go: the same GET by ever more of waitd, in one process on one core, CPU time only.

    python tests/benchmarks/poke.py                three rounds of each part, under two minutes
    python tests/benchmarks/poke.py --rounds 1     one
    python tests/benchmarks/poke.py --json         for programs

From below: a protocol that does nothing but send the request and look for the end of the answer; the exchange and the connections that are
used again (`probes/wire.py`); the probe, with its conditions; the poker over it, with calendar, origins, verdicts and metrics; and,
for comparison, aiohttp's own session. `tests/benchmarks/spine.py` measures the whole daemon. The smallest of the rounds counts: whatever
else the machine does only adds.
"""

import argparse
import asyncio
import gc
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import aiohttp
import uvloop
from figures import Figure
from lab import CORES, Lab, say, set_up
from spine import put
from submitter import wait_on

from waitd.bench.jobs import job_path
from waitd.bench.machine import machine
from waitd.core.waits.wait import EMPTY_PROGRESS, Progress, WaitId, WaitSpec, WaitState
from waitd.engine.clock import SystemClock
from waitd.engine.poker import Poker
from waitd.metrics import Instruments
from waitd.ports import StoredOutcome, StoredWait, UnstoredOutcome
from waitd.probes.http.probe import HttpProbe
from waitd.probes.transport.pool import ConnectionPool

#: How many URLs, and how many requests at a time.
URLS, AT_ONCE = 2_000, 64
WARM_UP, WINDOW = 1.0, 4.0
INTERVAL = 0.05
HEADERS = {"User-Agent": "waitd", "Accept": "*/*"}

Get = Callable[[str], Awaitable[object]]


async def by_hand(urls: Sequence[str]) -> float:
    """CPU of a GET that nothing stands around, in seconds."""
    loop = asyncio.get_running_loop()
    origin = "/".join(urls[0].split("/")[:3])
    host, port = origin.removeprefix("http://").split(":")
    idle: list[Bare] = []

    async def get(url: str) -> None:
        bare = idle.pop() if idle else (await loop.create_connection(Bare, host, int(port)))[1]
        path = url.removeprefix(origin)
        lines = f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\nUser-Agent: waitd\r\nAccept: */*\r\n\r\n"
        await bare.ask(lines.encode())
        idle.append(bare)

    try:
        return await _cpu_each(get, urls)
    finally:
        for bare in idle:
            bare.close()


class Bare(asyncio.Protocol):
    """The least that gets an answer: looks for its end, and at nothing in it."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See asyncio.Protocol."""
        self._transport: Any = transport
        self._come = b""

    def ask(self, request: bytes) -> "asyncio.Future[None]":
        """Done when the answer is there."""
        self._answered = asyncio.get_running_loop().create_future()
        self._transport.write(request)
        return self._answered

    def data_received(self, data: bytes) -> None:
        """See asyncio.Protocol."""
        self._come += data
        head = self._come.find(b"\r\n\r\n")
        at = self._come.find(b"Content-Length: ") + 16
        if head >= 0 and len(self._come) >= head + 4 + int(self._come[at : self._come.find(b"\r", at)]):
            self._come = b""
            self._answered.set_result(None)

    def close(self) -> None:
        """Ends the connection."""
        self._transport.close()


async def by_session(urls: Sequence[str]) -> float:
    """CPU of a GET by aiohttp's session, in seconds."""
    async with aiohttp.ClientSession(headers=HEADERS, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def get(url: str) -> None:
            async with session.get(url) as answer:
                await answer.read()

        return await _cpu_each(get, urls)


async def by_wire(urls: Sequence[str]) -> float:
    """CPU of a GET by waitd's own exchange, in seconds."""
    connector = aiohttp.TCPConnector(limit=0)
    wire = ConnectionPool(connector, HEADERS)

    def begin(url: str, done: Callable[[object], None]) -> object:
        return wire.send("GET", url, None, True, done)

    async def get(url: str) -> None:
        reply = await wire.request("GET", url, None, True)
        while not reply.at_eof():
            await reply.readany()

    try:
        return await _cpu_begun(get, begin, urls)
    finally:
        wire.close()
        await connector.close()


async def by_probe(urls: Sequence[str]) -> float:
    """CPU of a poke by the probe, in seconds."""
    async with HttpProbe(_connections(), secret_headers=()) as probe:
        targets = {url: [Asking(probe.parse(_params(url), namespace="default"))] for url in urls}

        def begin(url: str, done: Callable[[object], None]) -> object:
            return probe.start_poke(targets[url], done)

        return await _cpu_begun(lambda url: probe.poke(targets[url]), begin, urls)


class Asking(NamedTuple):
    """What a probe sees of a wait."""

    target: Any
    progress: Progress = EMPTY_PROGRESS


async def by_poker(urls: Sequence[str]) -> float:
    """CPU of a poke by the poker and the probe, in seconds; more is due than can be done."""
    async with HttpProbe(_connections(), secret_headers=()) as probe:
        instruments = Instruments(version="benchmark")
        poker = Poker(
            NoStore(),
            {"http": probe},
            SystemClock(),
            instruments,
            capacity=URLS,
            poke_concurrency=1000,
            per_host_concurrency=AT_ONCE,
        )
        poker.adopt(_waits(urls))
        running = asyncio.create_task(poker.run())
        try:
            await asyncio.sleep(WARM_UP)
            return await _window(lambda: instruments.pokes.labels("http", "pending").count)
        finally:
            running.cancel()
            await asyncio.wait([running])


def _waits(urls: Sequence[str]) -> Iterator[StoredWait]:
    now = time.time()
    for n, url in enumerate(urls):
        spec = WaitSpec("http", _params(url), INTERVAL, 86400.0)
        yield StoredWait(
            WaitId(f"{n:032d}"), "default", spec, WaitState.WAITING, now, now + 86400.0, EMPTY_PROGRESS
        )


def _params(url: str) -> dict[str, Any]:
    return dict(wait_on(url, poke_interval=INTERVAL)["params"])


def _connections() -> Any:
    """None are known, and nobody asks."""

    class Unknown:
        def cached_any(self, _: str) -> None:
            """See `Connections`."""

    return Unknown()


class NoStore:
    """Nothing ends, and what is learned is not kept."""

    async def finish(self, ending: UnstoredOutcome) -> StoredOutcome | None:
        """Raises RuntimeError: an endless job has ended."""
        raise RuntimeError(f"ended: {ending}")

    async def save_progress(self, progress: object) -> None:
        """Does not."""

    async def load_waiting(self, *_: object) -> Sequence[StoredWait]:
        """None."""
        return ()

    async def waiting_ids(self, *_: object) -> Sequence[WaitId]:
        """None."""
        return ()


async def _cpu_begun(
    get: Get, begin: Callable[[str, Callable[[object], None]], object], urls: Sequence[str]
) -> float:
    """As `_cpu_each`, of what is begun on connections that `get` has made, and tells when it is done."""
    done, stopped = 0, asyncio.Event()

    def lane(first: int) -> None:
        at = first

        def again(_: object) -> None:
            nonlocal at, done
            done += 1
            at += AT_ONCE
            if not stopped.is_set() and begin(urls[at % len(urls)], again) is None:
                raise RuntimeError("there is no connection")

        begin(urls[at], again)

    await asyncio.gather(*map(get, urls[:AT_ONCE]))
    for first in range(AT_ONCE):
        lane(first)
    await asyncio.sleep(WARM_UP)
    each = await _window(lambda: done)
    stopped.set()
    await asyncio.sleep(WARM_UP)
    return each


async def _cpu_each(get: Get, urls: Sequence[str]) -> float:
    done, stopped = 0, False

    async def worker(first: int) -> None:
        nonlocal done
        at = first
        while not stopped:
            await get(urls[at % len(urls)])
            done += 1
            at += AT_ONCE

    workers = [asyncio.create_task(worker(first)) for first in range(AT_ONCE)]
    await asyncio.sleep(WARM_UP)
    each = await _window(lambda: done)
    stopped = True
    await asyncio.gather(*workers)
    return each


async def _window(count: Callable[[], float]) -> float:
    before, cpu = count(), time.process_time()
    await asyncio.sleep(WINDOW)
    return (time.process_time() - cpu) / (count() - before)


PARTS: Mapping[str, Callable[[Sequence[str]], Awaitable[float]]] = {
    "a protocol by hand, nothing looked at": by_hand,
    "the exchange, connections used again": by_wire,
    "the probe: request, conditions, verdict": by_probe,
    "the poker over the probe": by_poker,
    "for comparison: aiohttp's session": by_session,
}


@asynccontextmanager
async def _urls() -> Any:
    with TemporaryDirectory(prefix="waitd-benchmark-") as folder:
        async with aiohttp.ClientSession() as session, Lab(Path(folder), session).target() as target:
            yield [target.urls[0] + job_path("endless", 0, f"poke-{n}") for n in range(URLS)]


async def measure(rounds: int) -> Sequence[Figure]:
    """A figure for each part."""
    async with _urls() as urls:
        return await in_rounds({name: partial(part, urls) for name, part in PARTS.items()}, rounds)


async def in_rounds(parts: Mapping[str, Callable[[], Awaitable[float]]], rounds: int) -> Sequence[Figure]:
    """A figure for each part, which gives seconds: its smallest. Every round has all of them, on the daemon's core."""
    os.sched_setaffinity(0, CORES.measured)
    gc.set_threshold(5000, 20, 100)  # as the daemon does
    found: dict[str, list[float]] = {name: [] for name in parts}
    for n in range(rounds):
        for name, part in parts.items():
            found[name].append(await part() * 1e6)
        say(f"round {n + 1}: " + ", ".join(f"{values[-1]:.1f} µs" for values in found.values()))
    return [
        Figure(name, min(each), "µs", note=f"of {', '.join(f'{value:.1f}' for value in each)}")
        for name, each in found.items()
    ]


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    set_up()
    facts = machine()
    figures = uvloop.run(measure(options.rounds))
    put(figures, facts, as_json=options.json)


if __name__ == "__main__":
    main()
