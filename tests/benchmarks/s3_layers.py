"""Where one look at S3's microseconds go: by ever more of waitd, in one process on one core, CPU time only.

From below: the exchange of a HEAD that nobody signs (`probes/wire.py`); the kind `http` asking the same; the signature by itself; the kind
`s3_key` about a key that is not there, as most are until they are, and about one that is there, which a `check` does not take yet; and
waits on patterns, one that lists alone, and one of those that share a LIST. The store is the load test's small S3
(`waitd/bench/s3.py`) in a process of its own. The smallest of the rounds counts: whatever else the machine does only adds.
"""

import argparse
import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import aiohttp
import uvloop
from figures import Figure
from lab import CORES, set_up
from poke import AT_ONCE, HEADERS, URLS, WARM_UP, WINDOW, Asking, in_rounds
from spine import put

from waitd.bench.children import fleet_process
from waitd.bench.jobs import job_path
from waitd.bench.machine import machine
from waitd.core.aws.signature import AwsKeys, S3Signer, encoded_path
from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Pending, Verdict
from waitd.ports import Probe
from waitd.probes.http.probe import HttpProbe
from waitd.probes.optional import optional_probes
from waitd.probes.s3.params import MAX_SHARERS
from waitd.probes.transport.pool import ConnectionPool

EXAMPLES = """examples:
  python tests/benchmarks/s3.py                          three rounds of each part, two minutes
  python tests/benchmarks/s3.py --rounds 1 --only key    one, of the parts whose names contain this
  python tests/benchmarks/s3.py --json                   for programs
"""

BUCKET, REGION = "landing", "us-east-1"
LOGIN, PASSWORD = "benchmark", "secret"
#: How many patterns there are, and how many of them begin with the same: all together few enough to be kept compiled.
PATTERNS, SHARERS = 1000, MAX_SHARERS
#: How often each key is signed for.
SIGNED = 20

Look = Callable[[int], Awaitable[object]]


class Store:
    """Where the store is, and the one connection there is."""

    def __init__(self, url: str) -> None:
        self.url = url
        extra = {"endpoint_url": url, "region_name": REGION}
        self._connection = Connection("store", "aws", login=LOGIN, password=PASSWORD, extra=extra)

    def cached_any(self, _: str) -> Connection:
        """See `Connections`."""
        return self._connection

    cached_fresh = cached_any

    async def get(self, _: str) -> Connection:
        """See `Connections`."""
        return self._connection

    refresh = get


async def by_wire(store: Store) -> float:
    """CPU of a HEAD by waitd's own exchange, in seconds."""
    connector = aiohttp.TCPConnector(limit=0)
    wire = ConnectionPool(connector, HEADERS)
    urls = [f"{store.url}/{BUCKET}/{_absent(n)}" for n in range(URLS)]
    try:
        return await _cpu_each(lambda n: wire.request("HEAD", urls[n], None, True))
    finally:
        wire.close()
        await connector.close()


async def by_http(store: Store) -> float:
    """CPU of a poke of the kind `http` that asks for the same heads, in seconds."""
    connections: Any = store
    async with HttpProbe(connections, secret_headers=()) as probe:
        urls = [f"{store.url}/{BUCKET}/{_absent(n)}" for n in range(URLS)]
        return await _by_probe(probe, [[{"endpoint": url, "method": "HEAD"}] for url in urls])


async def by_signature(_: Store) -> float:
    """CPU of a signature, in seconds."""
    signer = S3Signer(AwsKeys(LOGIN, PASSWORD), REGION, "127.0.0.1:9000")
    now, keys = time.time(), [_absent(n) for n in range(URLS)]
    started = time.process_time()
    for _again in range(SIGNED):
        for key in keys:
            signer.headers("HEAD", encoded_path(f"/{BUCKET}/{key}"), "", now=now)
    return (time.process_time() - started) / (SIGNED * URLS)


async def by_absent(store: Store) -> float:
    """CPU of a poke about a key that is not there, in seconds."""
    return await _by_s3_key(store, [[_params(_absent(n))] for n in range(URLS)])


async def by_present(store: Store) -> float:
    """CPU of a poke about a key that is there, and not yet as its wait wants it, in seconds."""
    waits = [[_params(f"{_job('succeed', n)}/_SUCCESS", check="files[0].Size > 0")] for n in range(URLS)]
    return await _by_s3_key(store, waits)


async def by_list(store: Store) -> float:
    """CPU of a poke about a pattern, in seconds."""
    return await _by_s3_key(store, [[_pattern(n, 0)] for n in range(PATTERNS)])


async def by_shared_list(store: Store) -> float:
    """CPU of each of the waits that one LIST serves, in seconds."""
    waits = [[_pattern(n, each) for each in range(SHARERS)] for n in range(PATTERNS // SHARERS)]
    return await _by_s3_key(store, waits) / SHARERS


def _job(behaviour: str, n: int) -> str:
    return job_path(behaviour, 0, f"s3-{n}").removeprefix("/")


def _absent(n: int) -> str:
    return f"{_job('endless', n)}/_SUCCESS"


def _params(key: str, **more: Any) -> dict[str, Any]:
    return {"bucket_key": f"s3://{BUCKET}/{key}", "aws_conn_id": "store", **more}


def _pattern(n: int, each: int) -> dict[str, Any]:
    return _params(f"{_job('succeed', n)}/*{each}.csv", wildcard_match=True)


async def _by_s3_key(store: Store, groups: Sequence[Sequence[Mapping[str, Any]]]) -> float:
    connections: Any = store
    async with optional_probes(connections) as probes:
        return await _by_probe(probes["s3_key"], groups)


async def _by_probe(probe: Probe, groups: Sequence[Sequence[Mapping[str, Any]]]) -> float:
    targets = [[Asking(probe.parse(params, namespace="default")) for params in group] for group in groups]
    for verdict in await probe.poke(targets[0]):
        _check(verdict)
    return await _cpu_each(lambda n: probe.poke(targets[n % len(targets)]))


def _check(verdict: Verdict) -> None:
    """Raises RuntimeError: it is not what is to be measured."""
    if not isinstance(verdict, Pending):
        raise RuntimeError(f"no such verdict was expected: {verdict}")  # noqa: TRY004 - no caller gave a wrong type


async def _cpu_each(look: Look) -> float:
    done, stopped = 0, False

    async def worker(first: int) -> None:
        nonlocal done
        at = first
        while not stopped:
            await look(at % URLS)
            done += 1
            at += AT_ONCE

    workers = [asyncio.create_task(worker(first)) for first in range(AT_ONCE)]
    await asyncio.sleep(WARM_UP)
    before, cpu = done, time.process_time()
    await asyncio.sleep(WINDOW)
    each = (time.process_time() - cpu) / (done - before)
    stopped = True
    await asyncio.gather(*workers)
    return each


PARTS: Mapping[str, Callable[[Store], Awaitable[float]]] = {
    "the exchange of a HEAD, connections used again": by_wire,
    "the kind http: the same HEAD": by_http,
    "a signature, of a HEAD": by_signature,
    "s3_key: a key that is not there": by_absent,
    "s3_key: a key that is there, and a check": by_present,
    "s3_key: a pattern of its own": by_list,
    f"s3_key: each of {SHARERS} patterns that share a LIST": by_shared_list,
}


@asynccontextmanager
async def _store() -> AsyncIterator[Store]:
    with TemporaryDirectory(prefix="waitd-benchmark-") as folder:
        log = Path(folder) / "fleet.log"
        async with fleet_process(1, log=log, with_s3=True, cores=CORES.others) as (_, urls):
            yield Store(urls.s3[0])


async def measure(rounds: int, only: str) -> Sequence[Figure]:
    """A figure for each part whose name contains `only`."""
    parts = {name: part for name, part in PARTS.items() if only in name}
    async with _store() as store:
        return await in_rounds({name: partial(part, store) for name, part in parts.items()}, rounds)


def main() -> None:
    """See the module."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", default="", help="only parts whose names contain this")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    set_up()
    facts = machine()
    figures = uvloop.run(measure(options.rounds, options.only))
    put(figures, facts, as_json=options.json)


if __name__ == "__main__":
    main()
