"""A load as waits for a daemon, and how they are handed in: in batches, as fast as it takes them."""

import asyncio
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

import orjson

from waitd.bench.correctness import SubmittedWait
from waitd.bench.fleet import Fleet
from waitd.bench.jobs import CONDITIONS
from waitd.bench.profiles import Load, PlannedWait
from waitd.client import Client, RequestRefused, batch_body

#: What every wait of a run has in common: a label that says which run.
LABEL = "bench"
CONN_ID = "bench_s3"
#: How long one poke may take, in seconds: a target that hangs has that much of somebody's time.
REQUEST_TIMEOUT = 2.0
BATCH = 5_000
#: How often a batch is sent again that the daemon had no room for, and how long it is given each time, in seconds.
TRIES, PAUSE = 60, 1.0


class SubmitResult(NamedTuple):
    """What became of the submits. `taken`: how many the daemon accepted; `seconds`: how long it took until the last one was on disk."""

    waits: Sequence[SubmittedWait]
    taken: int
    seconds: float


def body_of(wait: PlannedWait, load: Load, fleet: Fleet, callback: str, run: str) -> dict[str, Any]:
    """What is submitted."""
    if wait.kind == "http":
        params: dict[str, Any] = {"endpoint": fleet.endpoint(wait), **CONDITIONS}
    else:
        params = {"bucket_key": fleet.key(wait), "aws_conn_id": conn_id_of(wait.fleet, wait.origin)}
    return {
        "kind": wait.kind,
        "params": {**params, "request_timeout": REQUEST_TIMEOUT},
        "poke_interval": load.poke_interval,
        "timeout": wait.timeout,
        "sinks": [{"kind": "webhook", "url": callback}],
        "labels": {LABEL: run},
    }


def connections(fleet: Fleet) -> dict[str, str]:
    """The connections that waits on keys name, as variables hold them, by conn_id: one for each origin of the fleet."""
    found = {}
    for process, urls in enumerate(fleet.s3):
        for origin, url in enumerate(urls):
            extra = {"endpoint_url": url, "region_name": "us-east-1"}
            made_up = {"conn_type": "aws", "login": "bench", "password": os.urandom(16).hex(), "extra": extra}
            found[conn_id_of(process, origin)] = orjson.dumps(made_up).decode()
    return found


def conn_id_of(process: int, origin: int) -> str:
    """The connection that knows where the keys of one origin are."""
    return f"{CONN_ID}_{process}_{origin}"


async def submit_load(client: Client, waits: Iterable[tuple[PlannedWait, Mapping[str, Any]]]) -> SubmitResult:
    """Submits them all, one batch after the other; making a batch and reading its answer is not counted. Raises Refused,
    DaemonUnreachable.
    """
    submitted: list[SubmittedWait] = []
    seconds = 0.0
    for batch in _batches(waits):
        text = batch_body(body for _, body in batch)
        began = time.monotonic()
        answer = await _send(client, text)
        seconds += time.monotonic() - began
        answers = client.batch_answers(answer)
        submitted += [
            SubmittedWait(answer.get("id", ""), wait.path, wait.timeout, wait.expected, wait.kind)
            for (wait, _), answer in zip(batch, answers, strict=True)
        ]
        _complain(answers)
    return SubmitResult(submitted, sum(wait.id != "" for wait in submitted), seconds)


def _batches(
    waits: Iterable[tuple[PlannedWait, Mapping[str, Any]]],
) -> Iterator[list[tuple[PlannedWait, Mapping[str, Any]]]]:
    source = iter(waits)
    while batch := list(islice(source, BATCH)):
        yield batch


async def _send(client: Client, batch: bytes) -> bytes:
    """The answer; the whole batch is sent again while the daemon says that too much comes at once."""
    for _ in range(TRIES):
        try:
            return await client.send_batch(batch)
        except RequestRefused as error:
            if error.status != 429:
                raise
            await asyncio.sleep(PAUSE)
    return await client.send_batch(batch)


def _complain(answers: Sequence[Mapping[str, Any]]) -> None:
    """Raises Refused: a line was not taken, and the others would not be either."""
    for answer in answers:
        if answer["status"] >= 300 and answer["status"] != 429:
            raise RequestRefused(answer["status"], answer["problem"])
