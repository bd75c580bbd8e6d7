"""Turns a load into waits and submits them in batches."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from waitd.bench.correctness import SubmittedWait
from waitd.bench.fleet import Fleet
from waitd.bench.jobs import CONDITIONS
from waitd.bench.profiles import Load, PlannedWait
from waitd.bench.s3 import s3_connection
from waitd.client import Client, RequestRefused, batch_body

Answer = TypeVar("Answer")

#: The label of all waits of a run; its value names the run.
LABEL = "bench"
CONN_ID = "bench_s3"
#: Seconds after which a poke gives up on a target that hangs.
REQUEST_TIMEOUT = 2.0
BATCH = 5_000
#: How often a request that was answered 429 is repeated, and the seconds between two attempts.
TRIES, PAUSE = 60, 1.0


class SubmitResult(NamedTuple):
    """The submitted waits, how many were accepted, and the seconds until the last was on disk."""

    waits: Sequence[SubmittedWait]
    accepted: int
    seconds: float


def body_of(wait: PlannedWait, load: Load, fleet: Fleet, callback: str, run: str) -> dict[str, Any]:
    """The body of a wait."""
    if wait.kind == "http":
        params: dict[str, Any] = {"endpoint": fleet.endpoint(wait), **CONDITIONS}
    else:
        params = {"bucket_key": fleet.key(wait), "aws_conn_id": conn_id_of(wait.server, wait.origin)}
    return {
        "kind": wait.kind,
        "params": {**params, "request_timeout": REQUEST_TIMEOUT},
        "poke_interval": load.poke_interval,
        "timeout": wait.timeout,
        "sinks": [{"kind": "webhook", "url": callback}],
        "labels": {LABEL: run},
    }


def s3_connections(fleet: Fleet) -> dict[str, str]:
    """The connections of waits on keys, one for each origin, as variables of the daemon."""
    return {
        f"AIRFLOW_CONN_{conn_id_of(n, origin).upper()}": s3_connection(url)
        for n, server in enumerate(fleet.servers)
        for origin, url in enumerate(server.s3)
    }


def conn_id_of(server: int, origin: int) -> str:
    """The connection of the S3 endpoint of one origin."""
    return f"{CONN_ID}_{server}_{origin}"


async def submit_load(client: Client, waits: Iterable[tuple[PlannedWait, Mapping[str, Any]]]) -> SubmitResult:
    """Submits all waits, batch by batch.

    The time to build a batch and to read its results is not counted.

    Raises:
        RequestRefused: the daemon refused a batch or a wait.
        DaemonUnreachable: the daemon did not answer.
    """
    submitted: list[SubmittedWait] = []
    seconds = 0.0
    for batch in _batches(waits):
        text = batch_body(body for _, body in batch)
        started = time.monotonic()
        response = await repeat_while_limited(partial(_send, client, text))
        seconds += time.monotonic() - started
        results = client.batch_answers(response)
        submitted += [
            SubmittedWait(result.get("id", ""), wait.path, wait.timeout, wait.expected, wait.kind)
            for (wait, _), result in zip(batch, results, strict=True)
        ]
        _raise_refusals(results)
    return SubmitResult(submitted, sum(wait.id != "" for wait in submitted), seconds)


def _batches(
    waits: Iterable[tuple[PlannedWait, Mapping[str, Any]]],
) -> Iterator[list[tuple[PlannedWait, Mapping[str, Any]]]]:
    source = iter(waits)
    while batch := list(islice(source, BATCH)):
        yield batch


async def repeat_while_limited(request: Callable[[], Awaitable[Answer]]) -> Answer:
    """Sends a request and returns the answer; repeats it while the daemon answers 429."""
    for _ in range(TRIES):
        try:
            return await request()
        except RequestRefused as error:
            if error.status != 429:
                raise
            await asyncio.sleep(PAUSE)
    return await request()


async def _send(client: Client, batch: bytes) -> bytes:
    """Sends a batch and returns the response.

    An interrupted one is awaited first: the daemon stores it in any case.
    """
    sending = asyncio.ensure_future(client.send_batch(batch))
    try:
        return await asyncio.shield(sending)
    except asyncio.CancelledError:
        await asyncio.gather(sending, return_exceptions=True)
        raise


def _raise_refusals(results: Sequence[Mapping[str, Any]]) -> None:
    """Raises RequestRefused for a line that was refused, other than by 429."""
    for result in results:
        if result["status"] >= 300 and result["status"] != 429:
            raise RequestRefused(result["status"], result["problem"])
