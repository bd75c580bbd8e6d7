"""CPU time of one check of S3, by ever more layers of waitd.

    python tests/benchmarks/s3_layers.py                        three rounds, two minutes
    python tests/benchmarks/s3_layers.py --rounds 1 --only key  one round, some of the layers
    python tests/benchmarks/s3_layers.py --json                 for programs

From below: an unsigned HEAD by the connection pool; the same by the kind `http`; a signature alone;
the kind `s3_key` on a missing key in a task, and without one by its fast path; on a present key
that a `check` does not accept; patterns that list alone, and patterns that share a LIST. The store
is the small S3 of the load test.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any

import layers
from layers import URLS, Layer, PolledWait

from waitd.bench.children import JobServer
from waitd.bench.jobs import job_path
from waitd.core.aws.signature import AwsKeys, S3Signer, encoded_path
from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Pending
from waitd.core.waits.wait import EMPTY_PROGRESS, Progress, record_verdict
from waitd.ports import Probe
from waitd.probes.http.probe import HttpProbe
from waitd.probes.optional import optional_probes
from waitd.probes.s3.fast_path import ABSENT
from waitd.probes.s3.params import MAX_SHARERS

BUCKET, REGION = "landing", "us-east-1"
LOGIN, PASSWORD = "benchmark", "secret"
#: The number of patterns, and of those with the same prefix; few enough to stay compiled.
PATTERNS, SHARERS = 1000, MAX_SHARERS
#: How often each key is signed for.
SIGNED = 20


class OneConnection:
    """Connections with a single one: the store."""

    def __init__(self, url: str) -> None:
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


async def by_pool(target: JobServer) -> float:
    """CPU of an unsigned HEAD by waitd's connection pool."""
    urls = _urls(target)
    async with layers.connection_pool() as pool:
        return await layers.cpu_per_call(lambda n: pool.request("HEAD", urls[n], None, True))


async def by_http(target: JobServer) -> float:
    """CPU of a poke of the kind `http` that sends the same HEAD."""
    async with HttpProbe(_connections(target), secret_headers=()) as probe:
        return await _by_probe(probe, [[{"endpoint": url, "method": "HEAD"}] for url in _urls(target)])


async def by_signature(_: JobServer) -> float:
    """CPU of a signature."""
    signer = S3Signer(AwsKeys(LOGIN, PASSWORD), REGION, "127.0.0.1:9000")
    now, keys = time.time(), [_missing(n) for n in range(URLS)]
    started = time.process_time()
    for _repeat in range(SIGNED):
        for key in keys:
            signer.headers("HEAD", encoded_path(f"/{BUCKET}/{key}"), "", now=now)
    return (time.process_time() - started) / (SIGNED * URLS)


async def by_missing_key(target: JobServer) -> float:
    """CPU of the first poke on a missing key, which takes a task."""
    return await _by_started_pokes(target, EMPTY_PROGRESS)


async def by_absent_key(target: JobServer) -> float:
    """CPU of each later poke on a missing key, which takes no task."""
    return await _by_started_pokes(target, record_verdict(EMPTY_PROGRESS, ABSENT, 0.0))


async def by_present_key(target: JobServer) -> float:
    """CPU of a poke on a present key that the check does not accept."""
    waits = [[_params(f"{_job('succeed', n)}/_SUCCESS", check="files[0].Size > 0")] for n in range(URLS)]
    return await _by_s3_key(target, waits)


async def by_list(target: JobServer) -> float:
    """CPU of a poke on a pattern."""
    return await _by_s3_key(target, [[_pattern(n, 0)] for n in range(PATTERNS)])


async def by_shared_list(target: JobServer) -> float:
    """CPU per wait where one LIST serves several."""
    waits = [[_pattern(n, each) for each in range(SHARERS)] for n in range(PATTERNS // SHARERS)]
    return await _by_s3_key(target, waits) / SHARERS


def _connections(target: JobServer) -> Any:
    return OneConnection(target.s3[0])


def _urls(target: JobServer) -> Sequence[str]:
    return [f"{target.s3[0]}/{BUCKET}/{_missing(n)}" for n in range(URLS)]


def _job(behaviour: str, n: int) -> str:
    return job_path(behaviour, 0, f"s3-{n}").removeprefix("/")


def _missing(n: int) -> str:
    return f"{_job('endless', n)}/_SUCCESS"


def _params(key: str, **more: Any) -> dict[str, Any]:
    return {"bucket_key": f"s3://{BUCKET}/{key}", "aws_conn_id": "store", **more}


def _pattern(n: int, each: int) -> dict[str, Any]:
    return _params(f"{_job('succeed', n)}/*{each}.csv", wildcard_match=True)


async def _by_s3_key(target: JobServer, groups: Sequence[Sequence[Mapping[str, Any]]]) -> float:
    async with optional_probes(_connections(target)) as probes:
        return await _by_probe(probes["s3_key"], groups)


async def _by_started_pokes(target: JobServer, progress: Progress) -> float:
    async with optional_probes(_connections(target)) as probes:
        probe = probes["s3_key"]
        waits = [
            [PolledWait(probe.parse(_params(_missing(n)), namespace="default"), progress)]
            for n in range(URLS)
        ]
        return await layers.cpu_per_poke(probe, waits)


async def _by_probe(probe: Probe, groups: Sequence[Sequence[Mapping[str, Any]]]) -> float:
    waits = [[PolledWait(probe.parse(params, namespace="default")) for params in group] for group in groups]
    for verdict in await probe.poke(waits[0]):
        if not isinstance(verdict, Pending):  # it does something else than what is to be measured
            raise RuntimeError(f"unexpected verdict: {verdict}")  # noqa: TRY004 - no argument has a wrong type
    return await layers.cpu_per_call(lambda n: probe.poke(waits[n % len(waits)]))


LAYERS: Mapping[str, Layer] = {
    "an unsigned HEAD by the connection pool": by_pool,
    "the kind http: the same HEAD": by_http,
    "the signature of a HEAD": by_signature,
    "s3_key: a missing key, in a task": by_missing_key,
    "s3_key: a key that is still missing, without a task": by_absent_key,
    "s3_key: a present key and a check": by_present_key,
    "s3_key: a pattern that lists alone": by_list,
    f"s3_key: each of {SHARERS} patterns that share a LIST": by_shared_list,
}

if __name__ == "__main__":
    layers.main(LAYERS, __doc__, with_s3=True)
