"""Pokes of the kinds of S3, and the responses of an S3 server."""

import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Any

from raw_server import Poked, ScriptedConnections, Transport, answer, poke_group

from waitd.core.connections.connection import Connection
from waitd.core.waits.verdict import Success, Verdict
from waitd.core.waits.wait import EMPTY_PROGRESS, Progress, record_verdict
from waitd.ports import Probe
from waitd.probes.s3.client import S3Client
from waitd.probes.s3.fast_path import ABSENT
from waitd.probes.s3.key import S3KeyProbe

#: The progress of a wait whose key was absent at its last poke.
WAS_ABSENT = record_verdict(EMPTY_PROGRESS, ABSENT, 0.0)


def aws(url: str, **extra: Any) -> Connection:
    """A connection to an S3 server."""
    return Connection(
        "aws_default", "aws", login="AKIA", password="secret", extra={"endpoint_url": url} | extra
    )


def error(status: int, code: str, *headers: str) -> bytes:
    """An error response."""
    return answer(status, f"<?xml version='1.0'?>\n<Error><Code>{code}</Code></Error>".encode(), *headers)


def listed(*keys: str, more: str = "", size: str = "5") -> bytes:
    """A page of a LIST. `more` is the element with the token of the next page."""
    rows = "".join(
        f'<Contents><Key>{key}</Key><Size>{size}</Size><LastModified>2026-11-21T02:41:00.000Z</LastModified><ETag>"e"</ETag></Contents>'
        for key in keys
    )
    end = f"<IsTruncated>true</IsTruncated>{more}" if more else "<IsTruncated>false</IsTruncated>"
    return answer(200, f'<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{end}{rows}</ListBucketResult>'.encode())  # fmt: skip


def payload_of(verdict: Verdict) -> list[dict[str, Any]]:
    """The metadata of each file in the payload of a success."""
    assert isinstance(verdict, Success), verdict
    files: list[dict[str, Any]] = verdict.payload
    return files


def keys_of(verdict: Verdict) -> list[str]:
    """The keys in the payload of a success."""
    return [file["Key"] for file in payload_of(verdict)]


@contextlib.asynccontextmanager
async def s3_client(
    *connections: Connection | Exception,
    now: Callable[[], float] = lambda: 1_795_000_000.0,
    monotonic: Callable[[], float] = lambda: 0.0,
) -> AsyncIterator[S3Client]:
    async with S3Client(ScriptedConnections(list(connections)), now=now, monotonic=monotonic) as client:
        yield client


async def poke(probe: Probe, *waits: dict[str, Any], progress: Progress = EMPTY_PROGRESS) -> list[Verdict]:
    """The verdicts of one poke of waits with equal coalescing keys."""
    targets = [probe.parse(params, namespace="default") for params in waits]
    assert len({target.key for target in targets}) == 1
    if Transport.warm and isinstance(probe, S3KeyProbe):
        progress = WAS_ABSENT
    return list(await poke_group(probe, [Poked(target, progress) for target in targets]))


async def poke_key(connection: Connection | Exception, **params: Any) -> Verdict:
    """The verdict of one poke by a new `s3_key` probe."""
    async with s3_client(connection) as client:
        return (await poke(S3KeyProbe(client), params))[0]
